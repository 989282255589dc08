//! Whether the watch of the node's pods is well. It tells what goes wrong, but not that it goes on: on a
//! quiet node nothing may be heard of it for hours.

use std::time::Duration;

use tokio::time::Instant;

/// A watch that has told of no error for so long goes on. It would have by then: its pauses are of at most
/// a minute, and it waits for at most 40 seconds until the API server begins to answer.
const GOES_ON: Duration = Duration::from_secs(120);

/// What the watch told last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WatchHealth {
    failed: Option<Instant>,
}

impl WatchHealth {
    /// It showed something.
    pub(crate) fn showed(&mut self) {
        self.failed = None;
    }

    /// It told of an error.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// Whether it goes on.
    pub(crate) fn is_well(&self, now: Instant) -> bool {
        self.failed
            .is_none_or(|failed| now.duration_since(failed) > GOES_ON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_well_again_when_it_shows_something_or_is_silent_for_long() {
        let mut watch = WatchHealth::default();
        let now = Instant::now();
        assert!(watch.is_well(now));
        watch.failed(now);
        assert!(!watch.is_well(now));
        watch.showed();
        assert!(watch.is_well(now));

        watch.failed(now);
        assert!(!watch.is_well(now + GOES_ON));
        assert!(watch.is_well(now + GOES_ON + Duration::from_secs(1)));
        watch.failed(now + GOES_ON);
        assert!(!watch.is_well(now + GOES_ON + Duration::from_secs(1)));
    }
}
