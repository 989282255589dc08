//! What happened: all that its line in the log, its metric and its Event on the pod need.

use std::time::Duration;

use curfew_core::{
    Ending, Interaction, PodId, RecordedInteraction,
    budget::NeverRoom,
    record::{Extension, Hold},
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
    Interaction {
        /// The pod.
        pod: PodId,
        /// Who, how, and what follows.
        known: RecordedInteraction,
        /// Who told it.
        source: Source,
        /// When the pod goes.
        eviction_time: Option<Timestamp>,
        /// Whether that is a dry run.
        dry_run: bool,
        /// Whether the pod ends, or has ended, without being evicted.
        ending: Option<Ending>,
        /// Those that are not told one by one, because there was no room to keep them.
        more: Option<More>,
    },
    /// Somebody extended the pod's time, or took that back.
    Extended {
        /// The pod.
        pod: PodId,
        /// The request of the interaction that set the deadline.
        id: String,
        /// What stands on the pod now.
        extension: Option<Extension>,
        /// What follows.
        consequence: Consequence,
        /// Whether the eviction is a dry run.
        dry_run: bool,
        /// Whether it uses up all that the pod's terms allow.
        maximum: bool,
    },
    /// Somebody had the pod held, or released it.
    Held {
        /// The pod.
        pod: PodId,
        /// The request of the interaction that set the deadline.
        id: String,
        /// What stands on the pod now.
        hold: Option<Hold>,
        /// What follows.
        consequence: Consequence,
        /// Whether the eviction is a dry run.
        dry_run: bool,
    },
    /// The API server accepted the eviction, or said that it would.
    Evicted {
        /// The pod.
        pod: PodId,
        /// Whose interaction set the deadline.
        decisive: RecordedInteraction,
        /// The [requests](curfew_core::Record::requests) of all of them.
        ids: String,
        /// When it was to be.
        eviction_time: Timestamp,
        /// Whether it was a dry run, so that the pod is still there.
        dry_run: bool,
        /// Whether the pod has no controller that would replace it.
        bare: bool,
    },
    /// The notice of an interaction was stored, which is all that it takes for the webhook to admit it.
    Stored {
        /// The pod.
        pod: PodId,
        /// The interaction.
        interaction: Interaction,
        /// When the pod was to go before it.
        before: Option<Timestamp>,
        /// When the pod goes.
        eviction_time: Option<Timestamp>,
        /// How many interactions there are.
        interactions: u32,
    },
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
    Unmarked {
        /// The pod.
        pod: PodId,
        /// The [requests](curfew_core::Record::requests) of the interactions that they were to tell of.
        ids: String,
        /// The HTTP status of the refusal.
        code: u16,
        /// Why, in the words of who refused.
        why: String,
        /// When the pod goes.
        eviction_time: Option<Timestamp>,
        /// Whether that is a dry run.
        dry_run: bool,
        /// Whether people were told already.
        again: bool,
    },
    /// A request to evict the pod was answered.
    EvictionAnswered {
        /// The pod.
        pod: PodId,
        /// The request of the interaction that set the deadline.
        id: String,
        /// What came of it.
        outcome: EvictionOutcome,
        /// Whether it was a dry run.
        dry_run: bool,
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The pod is evicted then.
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
        match self {
            Consequence::EvictionAt(_) => "eviction",
            Consequence::TooLong { .. } => "too-long",
            Consequence::TooLate => "too-late",
            Consequence::NoTimer => "no-timer",
        }
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
