//! The error that callers of the controller get after it has ended.

use crate::store::NotRecorded;

/// The controller is gone, and with it the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller has ended")]
pub struct Ended;

impl From<Ended> for NotRecorded {
    fn from(_: Ended) -> Self {
        NotRecorded::Ended
    }
}
