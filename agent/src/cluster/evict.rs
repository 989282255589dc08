//! The Eviction API: asking. How each answer is read, and when to ask again, is for [`answer`].
//!
//! See <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

pub mod answer;

use std::time::Duration;

use curfew_core::{PodId, Wishes, wishes};
use curfew_runtime::explain;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{Client, Resource, api::PostParams, client::Body, core::Request};

use answer::{Answer, Outcome};

/// The API server answers an eviction of a pending pod after ten seconds at the latest; webhooks in its
/// way may take up to thirty.
const TIMEOUT: Duration = Duration::from_secs(35);

/// The most bytes of an answer that are read; a Status has a few hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks the API server to evict exactly this pod, unless people have other wishes by now than were seen, where
/// that matters.
pub async fn evict(client: &Client, pod: &PodId, seen: Option<&Wishes>) -> Outcome {
    match tokio::time::timeout(TIMEOUT, ask(client, pod, seen)).await {
        Ok(Ok(answer)) => answer::read(&answer),
        Ok(Err(why)) => Outcome::away(why),
        Err(_) => Outcome::away(format!("no answer within {TIMEOUT:?}")),
    }
}

/// The answer as it came: the client's own reading of it would lose the headers.
async fn ask(client: &Client, pod: &PodId, seen: Option<&Wishes>) -> Result<Answer, String> {
    let eviction =
        serde_json::to_vec(&eviction(pod, seen)).map_err(|error| explain::causes(&error))?;
    let request = Request::new(Pod::url_path(&(), Some(&pod.namespace)))
        .create_subresource("eviction", &pod.name, &PostParams::default(), eviction)
        .map_err(|error| explain::causes(&error))?;
    let response = client
        .send(request.map(Body::from))
        .await
        .map_err(|error| explain::short(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| explain::causes(error.as_ref()))?
        .to_bytes();
    Ok(Answer {
        code: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| {
                answer::retry_after(value.to_str().ok()?, std::time::SystemTime::now())
            }),
        body,
    })
}

/// The request to evict exactly this pod. It is made here because the client's own `evict` calls the
/// options `delete_options`, which the API server does not know and leaves out: it would then evict
/// whichever pod has the name.
fn eviction(pod: &PodId, seen: Option<&Wishes>) -> Eviction {
    let seen = seen.and_then(|seen| serde_json::to_string(seen).ok());
    Eviction {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            annotations: seen.map(|seen| [(wishes::SEEN.to_owned(), seen)].into()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: None,
            }),
            ..DeleteOptions::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_id;

    #[test]
    fn the_uid_is_where_the_api_server_looks_for_it() {
        let seen = Wishes::default();
        let sent = serde_json::to_value(eviction(&pod_id("u-1"), Some(&seen))).unwrap();
        assert_eq!(sent["apiVersion"], "policy/v1");
        assert_eq!(sent["kind"], "Eviction");
        assert_eq!(sent["metadata"]["name"], "cart-1");
        assert_eq!(sent["deleteOptions"]["preconditions"]["uid"], "u-1");
        assert_eq!(sent["metadata"]["annotations"][wishes::SEEN], "{}");
        let sent = serde_json::to_value(eviction(&pod_id("u-1"), None)).unwrap();
        assert_eq!(sent["metadata"].get("annotations"), None);
    }
}
