//! What is to be done for the pods of one node, and when: pure.
//!
//! It owns nothing that outlives a call but what [`NodeState`] holds, and the agent's controller owns that. It takes
//! what happened with the time it is, and says what to do and to tell as [`Decisions`]. It knows no runtime, no client of the
//! API server and no clock: asking, writing and telling are left to others.
#![warn(missing_docs)]

mod action;
mod budget;
mod budget_waiters;
mod circuit_breaker;
mod diff;
mod event;
mod eviction_key;
mod eviction_outcome;
mod node;
mod patch;
mod pod;
mod pod_view;
mod summary;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::BTreeMap;

use curfew_core::Record;
use jiff::{SignedDuration, Timestamp};

pub use action::{AgentAction, Decisions};
pub use budget::{BudgetId, BudgetView};
pub use event::{Consequence, DomainEvent, EvictionBlock, More, Source, StoreLoss};
pub use eviction_outcome::EvictionOutcome;
pub use node::{NodeSettings, NodeState};
pub use patch::{PatchOutcome, PodPatch, wanted};
pub use pod::PodRow;
pub use pod_view::{PodSnapshot, PodView, Termination, digest};
pub use summary::Summary;

/// Changes that become durable together: the record of a UID, or its end.
pub type Batch = BTreeMap<String, Option<Record>>;

fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
