//! The patch of a pod's metadata: made, and its answer read.

use super::pod_watch::WatchedPod;
use curfew_agent_state::{Change, PatchOutcome, PodView};
use curfew_core::text::cut;
use curfew_runtime::{api, explain};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};

/// As much of a refusal as an Event has room for.
const MAX_WHY: usize = 512;

/// Makes the change. Returns the pod, too, where it was read or written on the way.
pub async fn apply(client: Client, node: &str, change: &Change) -> (PatchOutcome, Option<PodView>) {
    let pods: Api<WatchedPod> = Api::namespaced(client, &change.pod.namespace);
    let name = &change.pod.name;
    let params = PatchParams {
        field_manager: Some("curfew-agent".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&change.patch);
    let patched = api::call(pods.patch(name, &params, &patch)).await;
    let Change {
        pod, ids, missing, ..
    } = change;
    let uid = &pod.uid;
    match patched {
        Ok(patched) => {
            tracing::info!(node, %pod, uid, ids, missing, "marked");
            (PatchOutcome::Done, Some(patched.into()))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => (PatchOutcome::Gone, None),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            match api::call(pods.get_opt(name))
                .await
                .map(|found| found.map(PodView::from))
            {
                Ok(Some(found)) if found.id != *pod => (PatchOutcome::Gone, None),
                // The next change is made for what it is now, whatever that was before.
                Ok(Some(found)) if found.state.version != change.version => {
                    (PatchOutcome::Done, Some(found))
                }
                Ok(None) => (PatchOutcome::Gone, None),
                Ok(Some(_)) | Err(_) => (PatchOutcome::Failed, None),
            }
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 413 | 422) => {
            tracing::error!(
                node, %pod, uid, ids, code = status.code, error = status.message,
                "the pod's metadata cannot be written; the pod is evicted all the same"
            );
            let why = cut(&status.message, MAX_WHY).into_owned();
            (PatchOutcome::Refused(why), None)
        }
        Err(error) => {
            let error = explain::short(&error);
            tracing::warn!(node, %pod, uid, ids, error, "cannot write the pod's metadata yet");
            (PatchOutcome::Failed, None)
        }
    }
}
