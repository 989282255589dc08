//! The pod's own metadata: what they are to be by its record, and the one patch that makes them so.

use crate::cluster::pod_watch::{PodState, PodView, WatchedPod, digest};
use curfew_core::{Known, PodId, Record, metadata, text::cut};
use curfew_runtime::{api, explain};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};

/// As much of a refusal as an Event has room for.
const MAX_WHY: usize = 512;

/// A change of a pod's metadata, made for one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The pod.
    pub pod: PodId,
    /// The resourceVersion that the change was made for.
    version: String,
    /// The requests of the interactions that it tells of.
    ids: String,
    /// What makes it.
    patch: serde_json::Value,
    /// How many annotations there is no room for.
    missing: usize,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made, or the pod had changed and was read again: the ledger looks anew.
    Done,
    /// It will pass; later again.
    Failed,
    /// The API server has no pod of that UID under its name.
    Gone,
    /// The API server does not take it for this pod, and says this.
    Refused(String),
}

/// What has to change for the pod's metadata to tell its record, and these interactions one by one that may
/// stand nowhere else; nothing when they do.
pub fn wanted(record: &Record, alone: &[Known], pod: &PodState) -> Option<Change> {
    let wanted = metadata::fitting(record, alone, pod.room as usize);
    if pod.labelled && pod.told == digest(|key| wanted.get(key).map(String::as_str)) {
        return None;
    }
    Some(Change {
        pod: record.pod.clone(),
        version: pod.version.clone(),
        ids: record.requests(),
        patch: metadata::patch(&record.pod, &wanted, Some(&pod.version)),
        missing: metadata::annotations(record, &[]).len() - wanted.len(),
    })
}

/// Makes the change. Returns the pod, too, where it was read or written on the way.
pub async fn apply(client: Client, node: &str, change: &Change) -> (Outcome, Option<PodView>) {
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
            (Outcome::Done, Some(patched.into()))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => (Outcome::Gone, None),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            match api::call(pods.get_opt(name))
                .await
                .map(|found| found.map(PodView::from))
            {
                Ok(Some(found)) if found.id != *pod => (Outcome::Gone, None),
                // The next change is made for what it is now, whatever that was before.
                Ok(Some(found)) if found.state.version != change.version => {
                    (Outcome::Done, Some(found))
                }
                Ok(None) => (Outcome::Gone, None),
                Ok(Some(_)) | Err(_) => (Outcome::Failed, None),
            }
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 413 | 422) => {
            tracing::error!(
                node, %pod, uid, ids, code = status.code, error = status.message,
                "the pod's metadata cannot be written; the pod is evicted all the same"
            );
            let why = cut(&status.message, MAX_WHY).into_owned();
            (Outcome::Refused(why), None)
        }
        Err(error) => {
            let error = explain::short(&error);
            tracing::warn!(node, %pod, uid, ids, error, "cannot write the pod's metadata yet");
            (Outcome::Failed, None)
        }
    }
}
