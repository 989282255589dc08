//! Finds pods: those that are marked, page by page, or those that were named.

use curfew_core::metadata::{INTERACTED, LABEL};
use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, ObjectList};

use crate::output;

/// How many pods are asked for at once, as kubectl does.
pub(crate) const PAGE: u32 = 500;
/// How many requests for single pods are open at once.
pub(crate) const AT_ONCE: usize = 8;
/// The pages began too long ago to be continued.
const GONE: u16 = 410;

/// What was read, unless the API server refused it: that is told, and `complete` becomes false.
pub(crate) fn or_tell<K>(read: kube::Result<K>, complete: &mut bool) -> kube::Result<Option<K>> {
    match read {
        Err(error @ kube::Error::Api(_)) => {
            output::error(&error.into());
            *complete = false;
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// All marked pods that also match `selector`.
pub(crate) async fn marked<K: Clone>(
    selector: Option<&str>,
    list: impl AsyncFn(ListParams) -> kube::Result<ObjectList<K>>,
) -> kube::Result<Vec<K>> {
    pages(ListParams::default().labels(&labels(selector)), list).await
}

/// Everything that these parameters ask for, page by page.
pub(crate) async fn pages<K: Clone>(
    params: ListParams,
    list: impl AsyncFn(ListParams) -> kube::Result<ObjectList<K>>,
) -> kube::Result<Vec<K>> {
    let first = params.limit(PAGE);
    let mut found = Vec::new();
    let mut params = first.clone();
    let mut begun_anew = false;
    loop {
        let page = match list(params).await {
            Err(kube::Error::Api(status)) if status.code == GONE && !begun_anew => {
                begun_anew = true;
                found.clear();
                params = first.clone();
                continue;
            }
            page => page?,
        };
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = first.clone().continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The pods of these names, in this order, each or why it was not got. `pod/NAME` is a name too: it
/// is what `-o name` prints.
pub(crate) async fn named<K>(
    names: &[String],
    get: impl AsyncFn(&str) -> kube::Result<K>,
) -> Vec<kube::Result<K>> {
    let get = &get;
    stream::iter(names)
        .map(async |name| get(bare(name)).await)
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// The selector of marked pods that also match `selector`.
pub(crate) fn labels(selector: Option<&str>) -> String {
    let marked = format!("{LABEL}={INTERACTED}");
    match selector.filter(|selector| !selector.trim().is_empty()) {
        Some(selector) => format!("{marked},{selector}"),
        None => marked,
    }
}

/// The name without its kind.
pub(crate) fn bare(name: &str) -> &str {
    ["pod/", "pods/"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name)
}

/// Whether somebody interacted with the pod.
pub(crate) fn is_marked(pod: &ObjectMeta) -> bool {
    let labels = pod.labels.as_ref();
    labels
        .and_then(|labels| labels.get(LABEL))
        .map(String::as_str)
        == Some(INTERACTED)
}

/// What is said where there is none.
pub(crate) fn none_in(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("No interacted pods found in {namespace} namespace."),
        None => "No interacted pods found in any namespace.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::{ListMeta, Status, TypeMeta};
    use std::cell::RefCell;

    fn page(items: &[u32], next: Option<&str>) -> kube::Result<ObjectList<u32>> {
        Ok(ObjectList {
            types: TypeMeta::default(),
            metadata: ListMeta {
                continue_: next.map(str::to_owned),
                ..ListMeta::default()
            },
            items: items.to_vec(),
        })
    }

    fn gone() -> kube::Result<ObjectList<u32>> {
        Err(kube::Error::Api(
            Status::failure("expired", "Expired")
                .with_code(GONE)
                .boxed(),
        ))
    }

    /// Answers in order, and what was asked for.
    async fn run(
        selector: Option<&str>,
        mut answers: Vec<kube::Result<ObjectList<u32>>>,
    ) -> (kube::Result<Vec<u32>>, Vec<ListParams>) {
        answers.reverse();
        let answers = RefCell::new(answers);
        let asked = RefCell::new(Vec::new());
        let found = marked(selector, async |params| {
            asked.borrow_mut().push(params);
            answers.borrow_mut().pop().unwrap()
        })
        .await;
        (found, asked.into_inner())
    }

    #[tokio::test]
    async fn every_page_is_fetched() {
        let answers = vec![
            page(&[1, 2], Some("a")),
            page(&[3], Some("b")),
            page(&[4], Some("")),
        ];
        let (found, asked) = run(Some("app=web"), answers).await;
        assert_eq!(found.unwrap(), [1, 2, 3, 4]);
        let tokens: Vec<_> = asked.iter().map(|p| p.continue_token.as_deref()).collect();
        assert_eq!(tokens, [None, Some("a"), Some("b")]);
        for params in asked {
            assert_eq!(params.limit, Some(PAGE));
            assert_eq!(
                params.label_selector.as_deref(),
                Some("curfew.dev/interacted=true,app=web")
            );
        }
    }

    #[tokio::test]
    async fn pages_that_expired_are_begun_anew_once() {
        let (found, _) = run(None, vec![page(&[1], Some("a")), gone(), page(&[2], None)]).await;
        assert_eq!(found.unwrap(), [2]);
        let (found, _) = run(None, vec![page(&[1], Some("a")), gone(), gone()]).await;
        assert!(found.is_err());
    }

    #[tokio::test]
    async fn names_may_have_their_kind() {
        let names = ["web-1", "pod/web-2", "pods/web-3"].map(str::to_owned);
        let got = named(&names, async |name| Ok(name.to_owned())).await;
        let got: Vec<_> = got.into_iter().map(Result::unwrap).collect();
        assert_eq!(got, ["web-1", "web-2", "web-3"]);
    }
}
