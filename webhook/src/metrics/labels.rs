//! The values of labels. Each is the name of its variant in snake case.

use strum::{AsRefStr, IntoStaticStr, VariantNames};

/// What became of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Recorded and admitted.
    Recorded,
    /// Admitted without a trace, because nothing will come of it: a dry run, no such pod.
    Nothing,
    /// Admitted though it could be recorded nowhere.
    Unrecorded,
    /// Denied because it could be recorded nowhere.
    Denied,
    /// Denied because a policy says so.
    Forbidden,
    /// Not understood.
    Invalid,
}

/// What became of the review of an agent's eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum Guarded {
    /// Admitted: it means the pod that is there, and comes from that pod's node.
    Admitted,
    /// Denied: it does not say which UID it means.
    NoUid,
    /// Denied: the caller is not bound to one node.
    NoNode,
    /// Denied: there is no such pod any more.
    Gone,
    /// Denied: another pod has the name by now.
    OtherPod,
    /// Denied: the pod is not on the caller's node.
    OtherNode,
    /// Denied: people gave the pod more time, which the caller did not know.
    Moved,
    /// Denied: the pod could not be read.
    Unread,
    /// Not understood.
    Invalid,
}

/// What became of a profile that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum ProfileWrite {
    /// It has what was seen.
    Written,
    /// There was nothing to write.
    Unchanged,
    /// It failed, and is tried again.
    Failed,
}

/// What came of a self-check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum SelfCheck {
    /// A replica was asked.
    Seen,
    /// The API server asked nobody.
    Unseen,
    /// It refused the check for another reason.
    Failed,
}

/// Where an interaction was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, IntoStaticStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum RecordedIn {
    /// In the store of the node's agent.
    Agent,
    /// In the pod's metadata.
    Metadata,
    /// In neither.
    Nowhere,
}

/// What came of telling an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[cfg_attr(test, derive(strum::EnumIter))]
#[strum(serialize_all = "snake_case")]
pub enum Noticed {
    /// It is on the agent's disk.
    Stored,
    /// No agent is ready on the node.
    NoAgent,
    /// It did not answer in time.
    Late,
    /// The connection could not be made, or broke.
    Broken,
    /// It answered that it did not take it.
    Refused,
    /// This replica has no certificate yet.
    NoIdentity,
    /// What should not happen: the node's name fits no certificate, the answer is no receipt.
    Other,
}
