//! Sends requests to the Eviction API. [`answer`] reads the answers.
//!
//! If the API server lets the agent act as its node, Kubernetes itself restricts the agent to the pods of that node,
//! and the agent reads the pod right before it requests the eviction. Otherwise the agent evicts as its own account,
//! and the webhook enforces the restriction and reads the pod.
//!
//! See <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

pub mod answer;

use std::time::{Duration, SystemTime};

use curfew_agent_state::EvictionOutcome;
use curfew_core::{Overrides, PodId, overrides};
use curfew_runtime::error_chain;
use http::HeaderValue;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{
    Client, Resource,
    api::PostParams,
    client::Body,
    core::{PartialObjectMeta, Request},
};

use answer::Answer;

use super::acting_as::{AS_USER, NodeUser, read_pod};

/// The API server answers an eviction of a pending pod after ten seconds at the latest; webhooks in its
/// way may take up to thirty.
const TIMEOUT: Duration = Duration::from_secs(35);

/// The most bytes of an answer that are read. A Status has a few hundred. A pod's metadata have up to 256 KiB of
/// annotations, of which JSON may escape each byte with six, and the rest of the 1.5 MiB that an object may have.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Requests the eviction of exactly this pod. If `seen` is given and people have changed the extension or the hold
/// since, the pod may stay.
pub(crate) async fn evict(
    client: &Client,
    user: &NodeUser,
    pod: &PodId,
    seen: Option<&Overrides>,
    now: Timestamp,
) -> EvictionOutcome {
    let asked = async {
        if let Some(node) = user.get()
            && let Some(outcome) = evict_as(client, node, pod, seen, now).await?
        {
            return Ok(outcome);
        }
        let request = eviction(pod, Seen::Told(seen))?;
        Ok(answer::read(&ask(client, request).await?))
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => EvictionOutcome::unavailable(why),
        Err(_) => EvictionOutcome::unavailable(format!("no answer within {TIMEOUT:?}")),
    }
}

/// Reads the pod and requests its eviction, both as its node. None if the node may not read the pod. The API server
/// learns that a node may read a new pod a moment after the pod itself. This delay does not affect the way through
/// the webhook.
async fn evict_as(
    client: &Client,
    node: &HeaderValue,
    pod: &PodId,
    seen: Option<&Overrides>,
    now: Timestamp,
) -> Result<Option<EvictionOutcome>, String> {
    let request =
        read_pod(node, &pod.namespace, &pod.name).map_err(|error| error_chain::causes(&error))?;
    let found = ask(client, request).await?;
    match found.code {
        200 => {}
        403 => return Ok(None),
        _ => return Ok(Some(answer::read(&found))),
    }
    let found: PartialObjectMeta<Pod> =
        serde_json::from_slice(&found.body).map_err(|error| error_chain::causes(&error))?;
    let version = match check(pod, seen, found.metadata, now) {
        Ok(version) => version,
        Err(outcome) => return Ok(Some(outcome)),
    };
    let mut request = eviction(pod, Seen::At(version.as_deref()))?;
    request.headers_mut().insert(AS_USER, node.clone());
    Ok(Some(answer::read(&ask(client, request).await?)))
}

/// Whether the pod that the API server has just returned must still be evicted. If the extension and the hold count,
/// returns the resourceVersion as a precondition, so that no change can come between this check and the eviction.
fn check(
    pod: &PodId,
    seen: Option<&Overrides>,
    found: ObjectMeta,
    now: Timestamp,
) -> Result<Option<String>, EvictionOutcome> {
    if found.uid.as_deref() != Some(&pod.uid) {
        return Err(EvictionOutcome::Gone);
    }
    let Some(seen) = seen else {
        return Ok(None);
    };
    match overrides::moved(seen, pod, &found.annotations.unwrap_or_default()) {
        Some(until) if until > now => Err(EvictionOutcome::DeadlineMoved(format!(
            "the eviction was moved to {until} in the meantime"
        ))),
        _ => Ok(found.resource_version),
    }
}

/// The answer as it came: the client's own reading of it would lose the headers.
async fn ask(client: &Client, request: http::Request<Vec<u8>>) -> Result<Answer, String> {
    let response = client
        .send(request.map(Body::from))
        .await
        .map_err(|error| error_chain::short(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| error_chain::causes(error.as_ref()))?
        .to_bytes();
    Ok(Answer {
        code: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| answer::retry_after(value.to_str().ok()?, SystemTime::now())),
        body,
    })
}

/// What the caller of an eviction knows of the pod.
enum Seen<'a> {
    /// These overrides, which the webhook compares with the pod's.
    Told(Option<&'a Overrides>),
    /// All of it at this resourceVersion, if that matters.
    At(Option<&'a str>),
}

/// The request to evict exactly this pod. It is made here because the client's own `evict` calls the
/// options `delete_options`, which the API server does not know and leaves out: it would then evict
/// whichever pod has the name.
fn eviction(pod: &PodId, seen: Seen<'_>) -> Result<http::Request<Vec<u8>>, String> {
    let (told, version) = match seen {
        Seen::Told(overrides) => (
            overrides.and_then(|told| serde_json::to_string(told).ok()),
            None,
        ),
        Seen::At(version) => (None, version),
    };
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            annotations: told.map(|told| [(overrides::SEEN.to_owned(), told)].into()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: version.map(str::to_owned),
            }),
            ..DeleteOptions::default()
        }),
    };
    let body = serde_json::to_vec(&eviction).map_err(|error| error_chain::causes(&error))?;
    Request::new(Pod::url_path(&(), Some(&pod.namespace)))
        .create_subresource("eviction", &pod.name, &PostParams::default(), body)
        .map_err(|error| error_chain::causes(&error))
}

#[cfg(test)]
mod tests;
