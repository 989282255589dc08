//! What is told apart: the values of labels.

/// What became of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Outcome {
    pub(super) const ALL: [Outcome; 6] = [
        Outcome::Recorded,
        Outcome::Nothing,
        Outcome::Unrecorded,
        Outcome::Denied,
        Outcome::Forbidden,
        Outcome::Invalid,
    ];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Recorded => "recorded",
            Outcome::Nothing => "nothing",
            Outcome::Unrecorded => "unrecorded",
            Outcome::Denied => "denied",
            Outcome::Forbidden => "forbidden",
            Outcome::Invalid => "invalid",
        }
    }
}

/// What became of the review of an agent's eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Guarded {
    pub(super) const ALL: [Guarded; 9] = [
        Guarded::Admitted,
        Guarded::NoUid,
        Guarded::NoNode,
        Guarded::Gone,
        Guarded::OtherPod,
        Guarded::OtherNode,
        Guarded::Moved,
        Guarded::Unread,
        Guarded::Invalid,
    ];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Guarded::Admitted => "admitted",
            Guarded::NoUid => "no_uid",
            Guarded::NoNode => "no_node",
            Guarded::Gone => "gone",
            Guarded::OtherPod => "other_pod",
            Guarded::OtherNode => "other_node",
            Guarded::Moved => "moved",
            Guarded::Unread => "unread",
            Guarded::Invalid => "invalid",
        }
    }
}

/// Where an interaction was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedIn {
    /// In the store of the node's agent.
    Agent,
    /// In the pod's metadata.
    Metadata,
    /// In neither.
    Nowhere,
}

impl RecordedIn {
    pub(super) const ALL: [RecordedIn; 3] =
        [RecordedIn::Agent, RecordedIn::Metadata, RecordedIn::Nowhere];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordedIn::Agent => "agent",
            RecordedIn::Metadata => "metadata",
            RecordedIn::Nowhere => "nowhere",
        }
    }
}

/// What came of telling an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Noticed {
    pub(super) const ALL: [Noticed; 7] = [
        Noticed::Stored,
        Noticed::NoAgent,
        Noticed::Late,
        Noticed::Broken,
        Noticed::Refused,
        Noticed::NoIdentity,
        Noticed::Other,
    ];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Noticed::Stored => "stored",
            Noticed::NoAgent => "no_agent",
            Noticed::Late => "late",
            Noticed::Broken => "broken",
            Noticed::Refused => "refused",
            Noticed::NoIdentity => "no_identity",
            Noticed::Other => "other",
        }
    }
}
