//! What the metadata of a pod contain: its interactions, and the extension, the hold and the order to evict it now
//! that people set.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Counted, EvidenceMarks, RecordedInteraction};

/// The most bytes of the reason of a hold or of an order that are read.
pub const MAX_REASON: usize = 256;

/// An extension of a pod's time to live, as somebody set it on the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extension {
    /// The length, in whole seconds.
    #[serde(with = "crate::duration")]
    pub by: Duration,
    /// As it was typed.
    pub text: String,
    /// Who set it; empty when the pod does not say.
    #[serde(default)]
    pub requester: String,
}

/// A hold, which keeps a pod beyond its deadline, as somebody set it on the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hold {
    /// Why, cut to [`MAX_REASON`].
    pub reason: String,
    /// Who set it; empty when the pod does not say.
    #[serde(default)]
    pub requester: String,
}

/// An order to evict a pod now, as somebody gave it on the pod. It cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvictNow {
    /// Why, cut to [`MAX_REASON`].
    pub reason: String,
    /// Who gave it; empty when the pod does not say.
    #[serde(default)]
    pub requester: String,
    /// Since when it is in force, in whole seconds: from the moment at which an agent saw it. None before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl EvictNow {
    /// The one order of a pod, of which both tell: it is in force since the earlier time. The admission policy lets
    /// nobody change an order; if two differ all the same, the choice does not depend on their sequence.
    pub(super) fn join(own: Option<Self>, other: Option<Self>) -> Option<Self> {
        let since = [&own, &other].map(|order| order.as_ref().and_then(|order| order.since));
        let text = |order: &Self| (order.reason.clone(), order.requester.clone());
        let joined = own.into_iter().chain(other).min_by_key(text)?;
        Some(Self {
            since: since.into_iter().flatten().min(),
            ..joined
        })
    }
}

/// What a pod's metadata tells of its interactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The interaction that set the deadline, others that decide how far it can be moved, and the latest.
    pub known: Vec<RecordedInteraction>,
    /// Those before the latest that the agent may not know: they were recorded here while it was away.
    pub unsynced: Vec<RecordedInteraction>,
    /// How many there were.
    pub count_in_metadata: Option<Counted>,
    /// What the pod tells instead of all that where it has no room for it.
    pub short: Option<Short>,
    /// When the API server answered a dry run that it would evict the pod.
    pub would_go: Option<Timestamp>,
    /// What was found in it.
    pub evidence: EvidenceMarks,
    /// The extension, where there is one that can be read.
    pub extension: Option<Extension>,
    /// The hold, where there is one.
    pub hold: Option<Hold>,
    /// The order to evict the pod now, where there is one.
    pub evict_now: Option<EvictNow>,
}

impl Marks {
    /// The latest interaction that the pod tells of.
    pub fn latest(&self) -> Option<&RecordedInteraction> {
        let short = self.short.as_ref().map(|short| &short.known);
        self.known.last().or(short)
    }

    /// How many interactions the pod tells of.
    pub fn interactions(&self) -> u32 {
        let short = self.short.as_ref().map(|short| short.interactions);
        let counted = self.count_in_metadata.map(|counted| counted.interactions);
        counted.or(short).unwrap_or_default()
    }
}

/// What little a pod tells that has no room for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    /// The interaction that sets the deadline, as far as there was room for it. Its terms end at the eviction time,
    /// which already includes the extension and the hold. They start no timer beside an order to evict the pod now,
    /// whose time that is.
    pub known: RecordedInteraction,
    /// How many there were, where there was room for it.
    pub interactions: u32,
}
