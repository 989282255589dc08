//! A pod as the API server shows it, and the part of it that the agent remembers.

use std::hash::{DefaultHasher, Hash, Hasher};

use curfew_core::{PodId, metadata, record::Marks};
use jiff::Timestamp;

/// A pod as the API server showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// The pod.
    pub id: PodId,
    /// What its own metadata tell of interactions.
    pub marks: Marks,
    /// What is remembered of it.
    pub state: PodSnapshot,
}

/// What is remembered of a pod. There is one for each pod of the node, so it is small: of the
/// annotations only their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSnapshot {
    /// The resourceVersion that was seen. If two versions differ, this does not say which is later.
    pub version: String,
    /// Whether it has the label of pods that were interacted with.
    pub labelled: bool,
    /// The [`digest`] of the annotations that Curfew writes.
    pub annotations_digest: u64,
    /// How many bytes the annotations that Curfew writes may have beside those of others.
    pub room: u32,
    /// Its priority; the lowest goes first.
    pub priority: i32,
    /// Whether it is ready; disruption budgets count only those that are.
    pub ready: bool,
    /// Whether it is on its way out already.
    pub terminating: bool,
    /// For how long it has been, and may be; none where the API server does not tell.
    pub termination: Option<Termination>,
    /// Whether the API server has carried out an eviction of it, which its conditions tell.
    pub evicted: bool,
    /// Whether all its containers have ended for good.
    pub finished: bool,
    /// Whether it stands for a static pod, which cannot usefully be evicted.
    pub mirror: bool,
    /// Whether it has no controller, so that nothing puts another pod in its place.
    pub bare: bool,
    /// Whether a Job controls it, so that it ends by itself.
    pub of_job: bool,
}

/// The end of a pod that was deleted or evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Termination {
    /// When it was asked to end.
    pub since: Timestamp,
    /// When its grace period is over.
    pub grace_ends: Timestamp,
}

impl PodSnapshot {
    /// Whether its metadata tell anything.
    pub fn tells(&self) -> bool {
        self.annotations_digest != digest(|_| None)
    }
}

/// The digest of the annotations that Curfew writes, by which is seen whether a pod tells its record.
pub fn digest<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for key in metadata::WRITTEN {
        annotation(key).hash(&mut hasher);
    }
    hasher.finish()
}
