//! What of the pods of the node is told to the thread that looks.

use std::collections::{BTreeMap, BTreeSet};

use curfew_core::{PodId, namespaces};
use curfew_evidence::{Command, PodFacts};

use super::{EvidenceHandle, locked};

/// Follows the watch of the node's pods.
#[derive(Debug)]
pub(crate) struct PodsOnNode(EvidenceHandle);

impl PodsOnNode {
    pub(crate) fn new(evidence: EvidenceHandle) -> Self {
        Self(evidence)
    }

    /// The watch shows the pod.
    pub(crate) fn seen(&mut self, pod_id: PodId, facts: impl FnOnce() -> PodFacts) {
        let EvidenceHandle(Some(thread)) = &self.0 else {
            return;
        };
        // What is done to the pods of these is not recorded. Those that are exempt by a label are asked for one by one.
        if namespaces::exempt(&pod_id.namespace, &BTreeMap::new()).is_some() {
            return;
        }
        locked(&thread.pods).insert(pod_id.uid.clone(), pod_id);
        self.0.send(Command::Pod(facts()));
    }

    /// The pod of this UID is gone.
    pub(crate) fn gone(&mut self, uid: &str) {
        if let Some(thread) = &self.0.0
            && locked(&thread.pods).remove(uid).is_some()
        {
            self.0.send(Command::Forget(uid.to_owned()));
        }
    }

    /// These are all there are.
    pub(crate) fn listed(&mut self, uids: &BTreeSet<String>) {
        let Some(thread) = &self.0.0 else { return };
        let told = locked(&thread.pods);
        let gone = told.keys().filter(|uid| !uids.contains(*uid));
        let gone: Vec<_> = gone.cloned().collect();
        drop(told);
        for uid in gone {
            self.gone(&uid);
        }
    }
}
