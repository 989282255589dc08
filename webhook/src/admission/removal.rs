//! Whether Curfew is being removed.
//!
//! While its objects are deleted, the API server no longer knows the webhook's account, or what that may do, and
//! still asks the webhook. Nobody is to be stopped by that. But a removal is short. An account that was deleted and
//! made again, for example, leaves the replicas with tokens that are never accepted again: then interactions are
//! refused, as whenever they cannot be recorded.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a removal may take: the time that a replica has to end, and as much again.
const LONGEST: Duration = Duration::from_secs(60);

/// What the API server's answers tell of it.
#[derive(Debug, Default)]
pub struct Removal {
    refused_since: Mutex<Option<Instant>>,
}

impl Removal {
    /// The API server did what the webhook asked for.
    pub(super) fn accepted(&self) {
        *self.refused_since() = None;
    }

    /// The API server refused the webhook's account. Returns whether Curfew may be in removal.
    pub(super) fn refused(&self) -> bool {
        let since = *self.refused_since().get_or_insert_with(Instant::now);
        since.elapsed() < LONGEST
    }

    fn refused_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.refused_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_removal_does_not_last() {
        let removal = Removal::default();
        assert!(removal.refused());
        tokio::time::advance(LONGEST - Duration::from_millis(1)).await;
        assert!(removal.refused());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!removal.refused());
        removal.accepted();
        assert!(removal.refused(), "another removal begins");
    }
}
