//! What happened: all that its line in the log, its metric and its Event on the pod need.

use std::time::Duration;

use curfew_core::{
    Drift, Ending, Interaction, PodId, RecordedInteraction, Verdict,
    budget::NeverRoom,
    record::{EvictNow, Extension, Hold},
};
use jiff::{SignedDuration, Timestamp};

use crate::eviction_outcome::EvictionOutcome;

/// From where an interaction became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From its notice, and so it was logged when that was stored.
    Notice,
    /// From the pod's metadata, where the webhook records what it cannot tell the agent.
    Metadata,
    /// It was known before, and starts a timer since the pod has a controller.
    Controller,
    /// It was known before, and is irregular by what its session left behind.
    Leftovers,
}

/// Interactions that are told in the Event of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct More {
    /// How many.
    pub times: u32,
    /// When the first was, as far as that is known.
    pub since: Timestamp,
}

/// What happened. People are told of it by a line in the log, a metric and an Event on the pod, or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainEvent {
    /// Somebody reached into the pod.
    Interaction(NewInteraction),
    /// Somebody extended the pod's time, or took that back.
    Extended(ExtensionChange),
    /// Somebody had the pod held, or released it.
    Held(HoldChange),
    /// Somebody ordered to evict the pod now.
    EvictNow(EvictionOrder),
    /// A look at the pod found something else than the one before.
    Drifted(DriftFound),
    /// The pod's time has come, and it stays, because nothing in it has changed.
    Released(PodReleased),
    /// The API server accepted the eviction, or said that it would.
    Evicted(PodEviction),
    /// The notice of an interaction was stored, which is all that it takes for the webhook to admit it.
    Stored(StoredNotice),
    /// The pod's labels and annotations tell its interactions.
    Marked {
        /// The pod.
        pod: PodId,
        /// The [requests](curfew_core::Record::requests) of the interactions that they tell of.
        ids: String,
        /// How many annotations there is no room for.
        missing: usize,
    },
    /// The pod's labels and annotations could not be written, which will pass.
    MarkFailed {
        /// The pod.
        pod: PodId,
        /// The [requests](curfew_core::Record::requests) of the interactions that they were to tell of.
        ids: String,
        /// What went wrong.
        error: String,
    },
    /// The API server does not let the pod's labels and annotations be written.
    Unmarked(MarkRefusal),
    /// A request to evict the pod was answered.
    EvictionAnswered(EvictionAnswer),
    /// The pod is gone and its record with it.
    Gone {
        /// The pod.
        pod: PodId,
        /// The request of the interaction that set the deadline.
        id: String,
        /// The [requests](curfew_core::Record::requests) of all of them.
        ids: String,
    },
    /// The clock of the node went back by so much.
    ClockWentBack(SignedDuration),
    /// The store was opened.
    StoreOpened {
        /// How many records it holds.
        records: usize,
        /// How many of its records cannot be read, and are kept.
        set_aside: usize,
        /// Whether it can be written, too; it is opened again where not.
        writable: bool,
    },
    /// Records could not be written to the store.
    StoreFailed {
        /// Why.
        error: String,
        /// How many.
        records: usize,
        /// Whether the write before failed, too.
        again: bool,
    },
    /// The eviction was refused for a reason that people can do something about.
    Blocked(EvictionBlock),
    /// It still is, for the same reason.
    StillBlocked(EvictionBlock),
    /// It has been refused for so long that nobody seems to do something about it.
    Stuck(EvictionBlock),
    /// The store was damaged or deleted, and what it had is made again.
    StoreRebuilt {
        /// The node whose store it is.
        node: String,
        /// What happened to it.
        loss: StoreLoss,
    },
}

/// Somebody reached into the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInteraction {
    /// The pod.
    pub pod: PodId,
    /// Who, how, and what follows.
    pub known: RecordedInteraction,
    /// Who told it.
    pub source: Source,
    /// When the pod goes.
    pub eviction_time: Option<Timestamp>,
    /// Whether that is a dry run.
    pub dry_run: bool,
    /// Whether the pod ends, or has ended, without being evicted.
    pub ending: Option<Ending>,
    /// Those that are not told one by one, because there was no room to keep them.
    pub more: Option<More>,
}

/// Somebody extended the pod's time, or took that back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionChange {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// What stands on the pod now.
    pub extension: Option<Extension>,
    /// What follows.
    pub consequence: Consequence,
    /// Whether the eviction is a dry run.
    pub dry_run: bool,
    /// Whether it uses up all that the pod's terms allow.
    pub maximum: bool,
}

/// Somebody had the pod held, or released it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldChange {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// What stands on the pod now.
    pub hold: Option<Hold>,
    /// What follows.
    pub consequence: Consequence,
    /// Whether the eviction is a dry run.
    pub dry_run: bool,
}

/// Somebody ordered to evict the pod now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionOrder {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline before; empty where there was none.
    pub id: String,
    /// Who ordered it, and why.
    pub order: EvictNow,
    /// What follows.
    pub consequence: Consequence,
}

/// A look at the pod found something else than the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftFound {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// What it found.
    pub drift: Drift,
    /// What the one before said, if there was one.
    pub before: Option<Verdict>,
    /// When the pod goes, with what follows from it.
    pub eviction_time: Option<Timestamp>,
    /// Whether that is a dry run.
    pub dry_run: bool,
}

/// The pod's time has come, and it stays, because nothing in it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReleased {
    /// The pod.
    pub pod: PodId,
    /// Whose interaction set the deadline.
    pub decisive: Option<RecordedInteraction>,
    /// The [requests](curfew_core::Record::requests) of all of them.
    pub ids: String,
    /// The look that says so.
    pub drift: Drift,
    /// When it was to be evicted.
    pub eviction_time: Timestamp,
    /// Whether that was a dry run, so that it would have stayed anyway.
    pub dry_run: bool,
}

/// The API server accepted the eviction, or said that it would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEviction {
    /// The pod.
    pub pod: PodId,
    /// Whose interaction set the deadline; none where nobody interacted with the pod.
    pub decisive: Option<RecordedInteraction>,
    /// The order to evict it now, where there is one.
    pub evict_now: Option<EvictNow>,
    /// The [requests](curfew_core::Record::requests) of all of them.
    pub ids: String,
    /// When it was to be.
    pub eviction_time: Timestamp,
    /// Whether it was a dry run, so that the pod is still there.
    pub dry_run: bool,
    /// Whether the pod has no controller that would replace it.
    pub bare: bool,
}

/// The notice of an interaction was stored, which is all that it takes for the webhook to admit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNotice {
    /// The pod.
    pub pod: PodId,
    /// The interaction.
    pub interaction: Interaction,
    /// When the pod was to go before it.
    pub before: Option<Timestamp>,
    /// When the pod goes.
    pub eviction_time: Option<Timestamp>,
    /// How many interactions there are.
    pub interactions: u32,
    /// Whether it was known before.
    pub again: bool,
}

/// The API server does not let the pod's labels and annotations be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRefusal {
    /// The pod.
    pub pod: PodId,
    /// The [requests](curfew_core::Record::requests) of the interactions that they were to tell of.
    pub ids: String,
    /// The HTTP status of the refusal.
    pub code: u16,
    /// Why, in the words of who refused.
    pub why: String,
    /// When the pod goes.
    pub eviction_time: Option<Timestamp>,
    /// Whether that is a dry run.
    pub dry_run: bool,
    /// Whether people were told already.
    pub again: bool,
}

/// A request to evict the pod was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionAnswer {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// What came of it.
    pub outcome: EvictionOutcome,
    /// Whether it was a dry run.
    pub dry_run: bool,
}

/// What happened to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLoss {
    /// It was damaged and moved to this folder; a new one was begun.
    Moved(String),
    /// It was deleted while the agent was using it; a new one was begun.
    Deleted,
    /// It could be read, but the latest so many batches of records were missing.
    Batches(u64),
}

/// What follows from an extension or a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Consequence {
    /// The pod is evicted then.
    #[strum(serialize = "eviction")]
    EvictionAt(Timestamp),
    /// It is longer than all that was done to the pod allows, and only so much of it counts.
    TooLong {
        /// The longest that is allowed.
        longest: Duration,
        /// When the pod is evicted.
        at: Timestamp,
    },
    /// Nothing: the pod is on its way out.
    TooLate,
    /// Nothing: no timer runs.
    NoTimer,
}

impl Consequence {
    /// Its name, as it is logged.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it is in force as it was asked for.
    pub fn is_eviction(self) -> bool {
        matches!(self, Consequence::EvictionAt(_))
    }

    /// When the pod is evicted, where that is what follows.
    pub fn eviction_time(self) -> Option<Timestamp> {
        match self {
            Consequence::EvictionAt(at) | Consequence::TooLong { at, .. } => Some(at),
            Consequence::TooLate | Consequence::NoTimer => None,
        }
    }
}

/// A refusal that people are told of: once, and then from time to time that it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionBlock {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// What stands in the way.
    pub why: EvictionOutcome,
    /// Whether the pod is not ready and another policy of the budget for such pods would let it go.
    pub policy_would_free: bool,
    /// Why the budget never has room, if it never has.
    pub never: Option<NeverRoom>,
    /// When it was to be evicted.
    pub eviction_time: Timestamp,
    /// Whether that is a dry run.
    pub dry_run: bool,
    /// When it was refused for this reason first.
    pub since: Timestamp,
    /// How often it was since.
    pub times: u32,
}
