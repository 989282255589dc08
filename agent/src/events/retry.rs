//! Events that the API server did not accept, for example because it throttles. Each is posted again after the time
//! that the API server asks for. The number of attempts and their time are limited. No I/O.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use tokio::time::Instant;

/// How many may wait; beyond them the oldest is given up. Each has about two kilobytes.
const WAITING: usize = 256;
/// How often one is posted.
const TRIES: u32 = 20;
/// How long after it was posted first: what is told later than that helps nobody.
const AGE: Duration = Duration::from_secs(600);
/// The longest pause that nobody asked for.
const PAUSE: Duration = Duration::from_secs(30);

/// An Event that was posted and not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) event: Event,
    /// How often it was posted.
    pub(super) tries: u32,
    since: Instant,
    due: Instant,
}

impl Refused {
    /// One that is about to be posted for the first time.
    pub(super) fn new(event: Event, now: Instant) -> Self {
        Self {
            event,
            tries: 0,
            since: now,
            due: now,
        }
    }
}

/// Those that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Again(Vec<Refused>);

impl Again {
    /// When the next is to be posted.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|refused| refused.due).min()
    }

    /// The oldest that may be posted by now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Refused> {
        let at = self.0.iter().position(|refused| refused.due <= now)?;
        Some(self.0.remove(at))
    }

    /// Keeps one that was refused, for as long as was asked for at the least, and all others as long: they
    /// would be refused, too. Returns what is given up.
    pub(super) fn keep(
        &mut self,
        mut refused: Refused,
        asked_for: Option<Duration>,
        now: Instant,
    ) -> Vec<Refused> {
        let doubled = Duration::from_secs(1 << refused.tries.saturating_sub(1).min(5)).min(PAUSE);
        refused.due = now + doubled.max(asked_for.unwrap_or_default());
        let least = now + asked_for.unwrap_or_default();
        for other in &mut self.0 {
            other.due = other.due.max(least);
        }
        let at = self.0.partition_point(|other| other.since <= refused.since);
        self.0.insert(at, refused);
        let surplus = self.0.len().saturating_sub(WAITING);
        let mut given_up: Vec<_> = self.0.drain(..surplus).collect();
        let is_over =
            |refused: &mut Refused| refused.tries >= TRIES || refused.due > refused.since + AGE;
        given_up.extend(self.0.extract_if(.., is_over));
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, since: Instant) -> Refused {
        let mut event = Event::default();
        event.metadata.name = Some(name.to_owned());
        let mut refused = Refused::new(event, since);
        refused.tries = 1;
        refused
    }

    #[test]
    fn waits_as_it_was_asked_for_and_the_others_with_it() {
        let (mut again, start) = (Again::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(again.keep(refused("a", start), None, start).is_empty());
        assert_eq!(again.next(), Some(start + second));
        assert!(
            again
                .keep(refused("b", start + second), Some(7 * second), start)
                .is_empty()
        );
        assert_eq!(again.next(), Some(start + 7 * second));
        assert!(again.take(start + 6 * second).is_none());
        let first = again.take(start + 7 * second).unwrap();
        assert_eq!(first.event.metadata.name.as_deref(), Some("a"));
    }

    #[test]
    fn ends_after_so_many_tries_and_so_much_time() {
        for asked_for in [
            None,
            Some(Duration::from_secs(60)),
            Some(Duration::from_secs(3600)),
        ] {
            let (mut again, start) = (Again::default(), Instant::now());
            let mut given_up = again.keep(refused("a", start), asked_for, start);
            let (mut tries, mut now) = (1, start);
            while let Some(due) = again.next() {
                now = due;
                let mut refused = again.take(now).unwrap();
                tries += 1;
                refused.tries = tries;
                given_up = again.keep(refused, asked_for, now);
            }
            assert_eq!(given_up.len(), 1);
            assert!(
                tries <= TRIES && now <= start + AGE,
                "{asked_for:?}: {tries}"
            );
        }
    }

    #[test]
    fn so_many_wait_and_the_oldest_are_given_up() {
        let (mut again, start) = (Again::default(), Instant::now());
        for n in 0..1000 {
            let since = start + Duration::from_millis(n);
            let given_up = again.keep(refused(&n.to_string(), since), None, since);
            assert_eq!(given_up.len(), usize::from(n >= WAITING as u64));
        }
        assert_eq!(again.0[0].event.metadata.name.as_deref(), Some("744"));
    }
}
