//! Why an interaction was not recorded.

use super::{StoreError, writer::MAX_UNSEEN};

/// Why an interaction was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many pods have a record that the watch has not shown.
    #[error(
        "the watch has not shown this pod, and {MAX_UNSEEN} other pods have a record and were not shown either"
    )]
    Unseen,
    /// Whoever records has ended: the agent is stopping.
    #[error("the agent is stopping")]
    Ended,
}
