//! Timers that may not be set.

use tokio::time::{Instant, sleep_until};

/// Sleeps until then, or for ever when there is no such time.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
