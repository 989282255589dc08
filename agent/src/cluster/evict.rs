//! Sends requests to the Eviction API. [`answer`] reads the answers.
//!
//! The agent reads the pod right before it requests the eviction of what it has read. If it acts as its node, Kubernetes
//! itself restricts it to the pods of that node. Otherwise the agent evicts as its own account, and the webhook enforces
//! the restriction, before a disruption budget counts the eviction.
//!
//! See <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

pub mod answer;

use std::time::Duration;

use curfew_agent_state::{EvictionOutcome, EvictionRequest};
use curfew_core::{Overrides, PodId, overrides};
use curfew_runtime::error_chain;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{Client, Resource, api::PostParams, core::Request};

use super::{
    acting_as::NodeUser,
    read::{self, PodRead, ask},
};

/// The API server answers an eviction of a pending pod after ten seconds at the latest; webhooks in its
/// way may take up to thirty.
const TIMEOUT: Duration = Duration::from_secs(35);

/// Requests the eviction of exactly this pod, with a client of the user, or for a dry run only asks whether it would be
/// evicted. If people have changed the extension or the hold since the agent saw them, the pod may stay.
pub(crate) async fn evict(
    client: &Client,
    user: &NodeUser,
    node: &str,
    request: &EvictionRequest,
    now: Timestamp,
) -> EvictionOutcome {
    let asked = async {
        let user = user.get().await.map_err(|refused| refused.to_string())?;
        evict_as_read(client, node, request, now, user.is_some()).await
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => EvictionOutcome::unavailable(why),
        Err(_) => EvictionOutcome::unavailable(format!("no answer within {TIMEOUT:?}")),
    }
}

/// Reads the pod and requests its eviction.
async fn evict_as_read(
    client: &Client,
    node: &str,
    request: &EvictionRequest,
    now: Timestamp,
    as_node: bool,
) -> Result<EvictionOutcome, String> {
    let EvictionRequest {
        pod, seen, dry_run, ..
    } = request;
    let short = |error: kube::Error| error_chain::short(&error);
    let found = match read::metadata(client, node, pod).await.map_err(short)? {
        PodRead::Found(found) => found,
        PodRead::Nothing => return Ok(EvictionOutcome::Gone),
        PodRead::Refused(answer) => {
            return Ok(match answer::read(&answer) {
                // It is being found out what is allowed now. That does not concern the people who use the pod.
                EvictionOutcome::Forbidden(why) => EvictionOutcome::Transient { why, wait: None },
                outcome => outcome,
            });
        }
    };
    let version = match check(pod, seen.as_ref(), found.metadata, now) {
        Ok(version) => version,
        Err(outcome) => return Ok(outcome),
    };
    let told = seen.as_ref().filter(|_| !as_node);
    let eviction = eviction(pod, told, version.as_deref(), *dry_run)?;
    Ok(answer::read(&ask(client, eviction).await.map_err(short)?))
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

/// The request to evict exactly this pod, if the version that the agent has just read still counts. The webhook compares
/// the overrides that the agent knew with the pod's before a budget is touched. The request is made here because the
/// client's own `evict` calls the options `delete_options`, which the API server does not know and leaves out: it would
/// then evict whichever pod has the name.
///
/// A dry run is said twice: the API server takes the options for its own part, and tells admission webhooks and
/// policies by the parameter, so that none of them acts on it. See
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>.
fn eviction(
    pod: &PodId,
    seen: Option<&Overrides>,
    version: Option<&str>,
    dry_run: bool,
) -> Result<http::Request<Vec<u8>>, String> {
    let told = seen.and_then(|seen| serde_json::to_string(seen).ok());
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
            dry_run: dry_run.then(|| vec!["All".to_owned()]),
            ..DeleteOptions::default()
        }),
    };
    let body = serde_json::to_vec(&eviction).map_err(|error| error_chain::causes(&error))?;
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    Request::new(Pod::url_path(&(), Some(&pod.namespace)))
        .create_subresource("eviction", &pod.name, &params, body)
        .map_err(|error| error_chain::causes(&error))
}

#[cfg(test)]
mod tests;
