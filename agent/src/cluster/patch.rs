//! The patch of a pod's metadata: made, and its answer read.

use super::{
    evict::answer,
    pod_watch::WatchedPod,
    read::{self, PodRead},
};
use curfew_agent_state::{PatchOutcome, PodPatch, PodView};
use curfew_core::text::cut;
use curfew_runtime::{api, error_chain};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};

/// As much of a refusal as an Event has room for.
const MAX_WHY: usize = 512;

/// Makes the change as the agent's own account, because a node may not change metadata. `reader` reads pods of the
/// node. Returns the pod, too, where it was read or written on the way.
pub(crate) async fn apply(
    client: Client,
    reader: &Client,
    node: &str,
    change: &PodPatch,
) -> (PatchOutcome, Option<PodView>) {
    let pods: Api<WatchedPod> = Api::namespaced(client, &change.pod.namespace);
    let name = &change.pod.name;
    let params = PatchParams {
        field_manager: Some("curfew-agent".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(change.json());
    match api::call(pods.patch(name, &params, &patch)).await {
        Ok(patched) => (PatchOutcome::Done, Some(patched.into())),
        Err(kube::Error::Api(status)) if status.code == 404 => (PatchOutcome::Gone, None),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            match api::call(read::pod(reader, node, &change.pod)).await {
                Ok(PodRead::Found(found)) => match PodView::from(found) {
                    found if found.id != change.pod => (PatchOutcome::Gone, None),
                    // The next change is made for what it is now, whatever that was before.
                    found if found.state.version != change.version => {
                        (PatchOutcome::Outdated, Some(found))
                    }
                    _ => (PatchOutcome::Failed(status.message), None),
                },
                Ok(PodRead::Nothing) => (PatchOutcome::Gone, None),
                Ok(PodRead::Refused(refusal)) => {
                    let why = answer::read(&refusal).message().to_owned();
                    (PatchOutcome::Failed(why), None)
                }
                Err(error) => (PatchOutcome::Failed(error_chain::short(&error)), None),
            }
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 413 | 422) => {
            let refused = PatchOutcome::Refused {
                code: status.code,
                why: cut(&status.message, MAX_WHY).into_owned(),
            };
            (refused, None)
        }
        Err(error) => (PatchOutcome::Failed(error_chain::short(&error)), None),
    }
}
