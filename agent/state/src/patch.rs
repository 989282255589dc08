//! Which label and annotations a pod must have according to its record, and the patch that writes them.

use std::{collections::BTreeMap, sync::Arc};

use curfew_core::{PodId, Record, RecordedInteraction, metadata};

use crate::pod_view::{PodSnapshot, digest};

/// A change of a pod's metadata, made for one version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPatch {
    /// The pod.
    pub pod: PodId,
    /// The resourceVersion that the change was made for.
    pub version: String,
    /// The requests of the interactions that it tells of.
    pub ids: String,
    /// The annotations of Curfew that the pod is to have, and no others of them. What is told if the request panics
    /// shares them.
    annotations: Arc<BTreeMap<&'static str, String>>,
    /// How many annotations there is no room for.
    pub missing: usize,
}

impl PodPatch {
    /// The JSON merge patch that makes it. It takes several times as much memory as the annotations, and hundreds of
    /// changes may wait for their turn, so it is made last.
    pub fn json(&self) -> serde_json::Value {
        metadata::patch(&self.pod, &self.annotations, Some(&self.version))
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchOutcome {
    /// It was made.
    Done,
    /// The pod had changed and was read again: it is looked at anew.
    Outdated,
    /// It will pass; later again.
    Failed(String),
    /// The API server has no pod of that UID under its name.
    Gone,
    /// The API server does not take it for this pod, as this tells.
    Refused {
        /// The HTTP status of the refusal.
        code: u16,
        /// What it says.
        why: String,
    },
}

/// The patch after which the pod's metadata show its record, and each of the interactions that may be recorded
/// nowhere else. None if the metadata already show this.
pub fn wanted(
    record: &Record,
    unsynced: &[RecordedInteraction],
    pod: &PodSnapshot,
) -> Option<PodPatch> {
    let wanted = metadata::fitting(record, unsynced, pod.room as usize);
    if pod.labelled && pod.annotations_digest == digest(|key| wanted.get(key).map(String::as_str)) {
        return None;
    }
    Some(PodPatch {
        pod: record.pod.clone(),
        version: pod.version.clone(),
        ids: record.requests(),
        missing: metadata::annotations(record, &[]).len() - wanted.len(),
        annotations: Arc::new(wanted),
    })
}
