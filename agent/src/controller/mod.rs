//! The one task that owns the state of the node.
//!
//! The [`Controller`](run::Controller) owns the [`NodeState`](curfew_agent_state::NodeState), the writer of the
//! store, the executor of actions and the recorder of events; nobody else changes any of them. Others reach it by
//! a [`ControllerHandle`] and get copies. What is to be done is decided by the state; asking the API server,
//! writing to disk and telling people is left to the rooms of those.

mod error;
mod handle;
pub mod recent_evictions;
pub(crate) mod run;
mod snapshot;
#[cfg(test)]
mod tests;

pub use error::Ended;
pub use handle::ControllerHandle;
pub(crate) use handle::{Inbox, handle};
pub use snapshot::{NodeSchedule, ScheduledPod, StoreHealth, Watch, WatchError};
