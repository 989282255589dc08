//! What is to be done for the pods of this node, and when: pure, without I/O.
//!
//! It owns nothing that outlives a call but what [`Ledger`] holds, which is the controller's. Time is handed in.

mod action;
mod budget_waiters;
mod circuit_breaker;
mod diff;
mod node;
mod pod;

use jiff::{SignedDuration, Timestamp};

pub use action::{Announcement, Block, Consequence, Effect, More, Source, StoreLoss};
pub use node::{Ledger, Settings};
pub use pod::{Line, State};

fn earlier(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
