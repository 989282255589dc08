//! Which labels are renamed so that nobody counts on a pod any more.
//!
//! A pod belongs to its owner and serves for a Service as long as their selectors match its labels.
//! Renaming keeps what the labels said; an owner whose selector does not match any more lets go of the
//! pod by itself and makes another.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, GroupVersionKind, ListParams},
    core::{Selector, SelectorExt},
};
use serde_json::Value;

type Labels = BTreeMap<String, String>;

/// Stands behind the name of a label that was renamed.
const SUFFIX: &str = "-detached";
/// The longest name of a label, without its prefix.
const MAX_NAME: usize = 63;

/// Whether a label of the pod was renamed so that nobody selects it by that.
pub(crate) fn is_detached(pod: &ObjectMeta) -> bool {
    let labels = pod.labels.as_ref();
    labels.is_some_and(|labels| {
        labels.keys().any(|key| {
            key.strip_suffix(SUFFIX)
                .is_some_and(|before| !labels.contains_key(before))
        })
    })
}

/// Who selects the pod, and by what.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// `replicaset/web-86d85b589`
    pub(crate) of: String,
    selector: LabelSelector,
}

/// Finds who selects the pod: the controller that owns it, and Services.
///
/// # Errors
/// When that cannot be read.
pub(crate) async fn claims(
    client: &Client,
    namespace: &str,
    pod: &ObjectMeta,
) -> anyhow::Result<Vec<Claim>> {
    let mut claims = Vec::new();
    if let Some(owner) = controller(pod) {
        claims.extend(claim_of_owner(client, namespace, owner).await?);
    }
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let services = services
        .list(&ListParams::default())
        .await
        .context("cannot list the Services of the namespace")?;
    let labels = pod.labels.clone().unwrap_or_default();
    for service in services {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let claim = Claim {
            of: format!("service/{}", service.name_any()),
            selector: LabelSelector {
                match_labels: selector,
                match_expressions: None,
            },
        };
        if claim.selects_something() && matches(&claim.selector, &labels) {
            claims.push(claim);
        }
    }
    Ok(claims)
}

/// The controller that owns the pod.
pub(crate) fn controller(pod: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = pod.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true))
}

async fn claim_of_owner(
    client: &Client,
    namespace: &str,
    owner: &OwnerReference,
) -> anyhow::Result<Option<Claim>> {
    let of = format!("{}/{}", owner.kind.to_lowercase(), owner.name);
    let (group, version) = owner
        .api_version
        .split_once('/')
        .unwrap_or(("", &owner.api_version));
    let kind = GroupVersionKind::gvk(group, version, &owner.kind);
    let read = async {
        let (resource, _) = kube::discovery::pinned_kind(client, &kind).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        api.get_opt(&owner.name).await
    };
    let owner = read
        .await
        .with_context(|| format!("cannot read the owner {of} of the pod"))?;
    let selector = owner.and_then(|owner| selector(&owner.data["spec"]["selector"]));
    Ok(selector.map(|selector| Claim { of, selector }))
}

/// The selector of an owner: one with expressions, or, of old, plain labels.
fn selector(value: &Value) -> Option<LabelSelector> {
    let fields = value.as_object()?;
    if fields.contains_key("matchLabels") || fields.contains_key("matchExpressions") {
        return serde_json::from_value(value.clone()).ok();
    }
    let match_labels = serde_json::from_value(value.clone()).ok()?;
    Some(LabelSelector {
        match_labels: Some(match_labels),
        match_expressions: None,
    })
}

impl Claim {
    fn selects_something(&self) -> bool {
        let labels = self.selector.match_labels.as_ref();
        labels.is_some_and(|labels| !labels.is_empty()) || self.selector.match_expressions.is_some()
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        let labels = self.selector.match_labels.iter().flat_map(BTreeMap::keys);
        let expressions = self.selector.match_expressions.iter().flatten();
        labels.chain(expressions.map(|expression| &expression.key))
    }
}

/// The change of the pod's labels after which none of the claims matches.
///
/// # Errors
/// When one of them would match all the same.
pub(crate) fn renamed(
    labels: &Labels,
    claims: &[Claim],
) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut after = labels.clone();
    let mut change = BTreeMap::new();
    for key in claims.iter().flat_map(Claim::keys) {
        let Some(value) = after.remove(key) else {
            continue;
        };
        let name = free_name(key, &after);
        after.insert(name.clone(), value.clone());
        change.insert(key.clone(), None);
        change.insert(name, Some(value));
    }
    match claims.iter().find(|claim| matches(&claim.selector, &after)) {
        Some(claim) => bail!(
            "{} selects the pod by the absence of labels: the pod cannot be detached by renaming labels",
            claim.of
        ),
        None => Ok(change),
    }
}

/// The name under which a label is kept.
fn free_name(key: &str, taken: &Labels) -> String {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (format!("{prefix}/"), name),
        None => (String::new(), key),
    };
    let numbered = |number: usize| {
        let end = match number {
            1 => SUFFIX.to_owned(),
            _ => format!("{SUFFIX}-{number}"),
        };
        // Label names are ASCII.
        let stem = name.get(..MAX_NAME - end.len()).unwrap_or(name);
        format!("{prefix}{stem}{end}")
    };
    let mut number = 1;
    while taken.contains_key(&numbered(number)) {
        number += 1;
    }
    numbered(number)
}

/// Whether a selector matches labels. One that Kubernetes does not know matches nothing.
pub(crate) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// What is to be known of a detached pod beyond that: a StatefulSet's replacement needs its name.
pub(crate) fn remark(pod: &ObjectMeta) -> Option<String> {
    let owner = controller(pod).filter(|owner| owner.kind == "StatefulSet")?;
    Some(format!(
        "statefulset/{} can replace pod/{} only after it is gone, because its replacement has the same name",
        owner.name,
        pod.name.as_deref().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(selector_json: Value) -> Claim {
        Claim {
            of: "replicaset/web".into(),
            selector: selector(&selector_json).unwrap(),
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn after(labels: &Labels, claims: &[Claim]) -> Labels {
        let mut after = labels.clone();
        for (key, value) in renamed(labels, claims).unwrap() {
            match value {
                Some(value) => after.insert(key, value),
                None => after.remove(&key),
            };
        }
        after
    }

    #[test]
    fn what_is_selected_by_is_renamed_and_the_rest_stays() {
        let before = labels(&[
            ("app.kubernetes.io/name", "web"),
            ("pod-template-hash", "abc"),
            ("tier", "front"),
            ("curfew.dev/interacted", "true"),
        ]);
        let claims = [
            claim(
                json!({"matchLabels": {"app.kubernetes.io/name": "web", "pod-template-hash": "abc"}}),
            ),
            claim(json!({"app.kubernetes.io/name": "web"})),
        ];
        assert_eq!(
            after(&before, &claims),
            labels(&[
                ("app.kubernetes.io/name-detached", "web"),
                ("pod-template-hash-detached", "abc"),
                ("tier", "front"),
                ("curfew.dev/interacted", "true"),
            ])
        );
    }

    #[test]
    fn what_does_not_let_go_is_told() {
        let before = labels(&[("app", "web")]);
        let stubborn = [claim(json!({
            "matchExpressions": [{"key": "batch", "operator": "DoesNotExist"}],
        }))];
        let error = renamed(&before, &stubborn).unwrap_err().to_string();
        assert!(error.starts_with("replicaset/web selects"), "{error}");
        let by_expression = [claim(json!({
            "matchExpressions": [
                {"key": "app", "operator": "In", "values": ["web"]},
                {"key": "batch", "operator": "DoesNotExist"},
            ],
        }))];
        assert_eq!(
            after(&before, &by_expression),
            labels(&[("app-detached", "web")])
        );
    }

    #[test]
    fn names_stay_valid_and_nothing_is_overwritten() {
        let long = format!("example.com/{}", "n".repeat(MAX_NAME));
        let before = labels(&[(&long, "v"), ("app", "web"), ("app-detached", "old")]);
        let claims = [claim(
            json!({"matchLabels": {long.clone(): "v", "app": "web"}}),
        )];
        let after = after(&before, &claims);
        assert_eq!(after.len(), 3);
        assert_eq!(after["app-detached"], "old");
        assert_eq!(after["app-detached-2"], "web");
        let renamed = after.keys().find(|key| key.starts_with("example.com/"));
        let name = renamed.unwrap().split_once('/').unwrap().1;
        assert!(name.len() == MAX_NAME && name.ends_with(SUFFIX), "{name}");
    }

    #[test]
    fn selectors_match_as_kubernetes_has_it() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        for (selector_json, matched) in [
            (json!({"matchLabels": {"app": "web"}}), true),
            (
                json!({"matchLabels": {"app": "web", "tier": "back"}}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["web"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (json!({"app": "web"}), true),
        ] {
            let selector = selector(&selector_json).unwrap();
            assert_eq!(matches(&selector, &pod), matched, "{selector_json}");
        }
    }
}
