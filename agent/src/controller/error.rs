//! What becomes of those who talk to the task when it cannot do what they ask for.

use crate::store::{StoreError, writer::MAX_UNSEEN};

/// The task is gone, and with it the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller has ended")]
pub struct Ended;

/// Why an interaction was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many pods have a record that the watch has not shown.
    #[error(
        "the watch has shown none of {MAX_UNSEEN} pods that have a record, and not this one either"
    )]
    Unseen,
    /// The agent is stopping.
    #[error(transparent)]
    Ended(#[from] Ended),
}
