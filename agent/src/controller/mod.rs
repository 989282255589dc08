//! The one task that owns the state of the node.
//!
//! The [`Controller`](run::Controller) owns the [`NodeState`](curfew_agent_state::NodeState), the writer of the
//! store, the executor of actions and the recorder of events. Nothing else changes any of them. Other tasks use a
//! [`ControllerHandle`] and get copies. The state decides what to do. The rooms `cluster`, `store` and `events` send
//! the requests, write to disk and report.

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
