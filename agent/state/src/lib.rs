//! Decides what the agent must do for the pods of one node, and when. This crate is pure.
//!
//! Its only state is [`NodeState`], which the agent's controller owns. Each call gets an event and the current time.
//! It returns [`Decisions`]: what to do, and what to report. The crate has no runtime, no client of the API server
//! and no clock: other code sends the requests, writes to disk and reports.
#![warn(missing_docs)]

mod action;
mod budget;
mod budget_waiters;
mod circuit_breaker;
mod domain_events;
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

pub use action::{AgentAction, Decisions, EvictionRequest};
pub use budget::{BudgetId, BudgetView};
pub use event::{
    Consequence, DomainEvent, DriftFound, EvictionAnswer, EvictionBlock, EvictionOrder,
    ExtensionChange, HoldChange, MarkRefusal, More, NewInteraction, PodEviction, PodReleased,
    Source, StoreLoss, StoredNotice,
};
pub use eviction_outcome::EvictionOutcome;
pub use node::{Evidence, NodeSettings, NodeState};
pub use patch::{PatchOutcome, PodPatch, wanted};
pub use pod::PodRow;
pub use pod_view::{PodSnapshot, PodView, Termination, digest};
pub use summary::Summary;

/// Changes that become durable together: the record of a UID, or its end.
pub type Batch = BTreeMap<String, Option<Record>>;

fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
