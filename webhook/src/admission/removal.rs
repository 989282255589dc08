//! Whether Curfew is being removed.
//!
//! While Curfew's objects are being deleted, the webhook's account or its rights may already be gone, but the API
//! server still calls the webhook. This must not block anyone's exec. But a removal takes only a short time. If it
//! takes longer, there is another cause: for example, if the account was deleted and created again, the API server
//! never accepts the tokens of the running replicas again. The webhook then denies interactions, as always if they
//! cannot be recorded.

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
