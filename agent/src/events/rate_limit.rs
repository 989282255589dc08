//! Limits the number of Events. A user who runs a thousand commands must not hide the Events of other users, and
//! must not overload the API server.
//!
//! Each namespace may have a burst of Events and then one Event a second. Further Events wait. The waiting Events of
//! one kind about one pod become a single Event, which contains the latest and their number. Events that occur only
//! once for a pod, such as its eviction, never wait.

use std::collections::HashMap;

use curfew_agent_state::DomainEvent;
use jiff::Timestamp;
use tokio::time::Instant;

use super::TimedEvent;

/// How many Events of one namespace may come at once.
const BURST: f64 = 25.0;
/// How many a second may follow.
const RATE: f64 = 1.0;
/// How many pods' Events may wait, each kind counted; more are not told.
const WAITING: usize = 1024;

/// What becomes of an Event.
#[derive(Debug)]
pub(super) enum Pass {
    /// It is to be posted now.
    Now(Box<Together>),
    /// It will be, alone or with others.
    Later,
    /// Too many wait.
    Never,
}

/// Things of a kind that happened to one pod and are told together.
#[derive(Debug)]
pub(super) struct Together {
    /// The latest of them.
    pub(super) latest: TimedEvent,
    /// When the first happened.
    pub(super) since: Timestamp,
    /// How many there are.
    pub(super) times: u32,
}

impl From<TimedEvent> for Together {
    fn from(event: TimedEvent) -> Self {
        let more = match &event.0 {
            DomainEvent::Interaction(new) => new.more,
            _ => None,
        };
        Self {
            since: more.map_or(event.1, |more| more.since.min(event.1)),
            times: more.map_or(1, |more| more.times.saturating_add(1)),
            latest: event,
        }
    }
}

/// The namespaces' budgets, and what waits.
#[derive(Debug, Default)]
pub(super) struct EventRateLimiter {
    budgets: HashMap<String, Budget>,
    waiting: HashMap<Key, Together>,
}

/// A namespace, the UID of a pod there, and what happened to it.
type Key = (String, String, Sort);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sort {
    Interaction,
    Extension,
    Hold,
    Unmarked,
}

#[derive(Debug)]
struct Budget {
    left: f64,
    at: Instant,
}

impl EventRateLimiter {
    /// Whether anything waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Something happened.
    pub(super) fn pass(&mut self, event: TimedEvent, now: Instant) -> Pass {
        let (pod, sort) = match &event.0 {
            DomainEvent::Interaction(new) => (&new.pod, Sort::Interaction),
            DomainEvent::Extended(change) => (&change.pod, Sort::Extension),
            DomainEvent::Held(change) => (&change.pod, Sort::Hold),
            DomainEvent::Unmarked(refusal) => (&refusal.pod, Sort::Unmarked),
            // What decides them sees to it that these are few.
            _ => return Pass::Now(Box::new(event.into())),
        };
        let key = (pod.namespace.clone(), pod.uid.clone(), sort);
        if let Some(together) = self.waiting.get_mut(&key) {
            let next = Together::from(event);
            together.latest = next.latest;
            together.since = together.since.min(next.since);
            together.times = together.times.saturating_add(next.times);
            return Pass::Later;
        }
        if self.take(&key.0, now) {
            return Pass::Now(Box::new(event.into()));
        }
        if self.waiting.len() >= WAITING {
            return Pass::Never;
        }
        self.waiting.insert(key, event.into());
        Pass::Later
    }

    /// What has waited and may be posted by now, the longest first.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Together> {
        let mut keys: Vec<_> = self.waiting.keys().cloned().collect();
        keys.sort_by_key(|key| self.waiting.get(key).map(|together| together.since));
        let mut due = Vec::new();
        for key in keys {
            if self.take(&key.0, now) {
                due.extend(self.waiting.remove(&key));
            }
        }
        self.budgets.retain(|_, budget| budget.at_time(now) < BURST);
        due
    }

    fn take(&mut self, namespace: &str, now: Instant) -> bool {
        let full = Budget {
            left: BURST,
            at: now,
        };
        let budget = self.budgets.entry(namespace.to_owned()).or_insert(full);
        budget.left = budget.at_time(now);
        budget.at = now;
        let has = budget.left >= 1.0;
        if has {
            budget.left -= 1.0;
        }
        has
    }
}

impl Budget {
    fn at_time(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * RATE).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{at, record, shell};
    use curfew_agent_state::{More, NewInteraction, PodEviction, Source};

    fn event(pod: &str, second: i64) -> TimedEvent {
        let happened = DomainEvent::Interaction(NewInteraction {
            pod: record(pod, shell(0)).pod,
            known: shell(second),
            source: Source::Notice,
            eviction_time: None,
            dry_run: false,
            ending: None,
            more: None,
        });
        (happened, at(second))
    }

    #[test]
    fn a_few_are_told_one_by_one_and_many_together() {
        let (mut limiter, start) = (EventRateLimiter::default(), Instant::now());
        for second in 0..25 {
            assert!(matches!(
                limiter.pass(event("a", second), start),
                Pass::Now(_)
            ));
        }
        assert!(limiter.is_idle());
        for second in 25..2000 {
            assert!(matches!(
                limiter.pass(event("a", second), start),
                Pass::Later
            ));
        }
        assert!(matches!(limiter.pass(event("b", 2000), start), Pass::Later));
        assert!(limiter.due(start).is_empty());

        // The longest waits no more as soon as there is room for one.
        let due = limiter.due(start + Duration::from_secs(1));
        let [only] = due.as_slice() else {
            panic!("{due:?}")
        };
        assert_eq!(
            (only.times, only.since, only.latest.1),
            (1975, at(25), at(1999))
        );
        let due = limiter.due(start + Duration::from_secs(2));
        assert_eq!((due.len(), due[0].times), (1, 1));
        assert!(limiter.is_idle());
    }

    #[test]
    fn those_that_are_not_kept_are_counted_with_the_others() {
        let (mut limiter, start) = (EventRateLimiter::default(), Instant::now());
        let burst = |second| {
            let (mut happened, at_time) = event("a", second);
            if let DomainEvent::Interaction(new) = &mut happened {
                new.more = Some(More {
                    times: 44,
                    since: at(-5),
                });
            }
            (happened, at_time)
        };
        let Pass::Now(now) = limiter.pass(burst(0), start) else {
            panic!("there is room")
        };
        assert_eq!((now.times, now.since), (45, at(-5)));
        for second in 0..24 {
            assert!(matches!(
                limiter.pass(event("a", second), start),
                Pass::Now(_)
            ));
        }
        limiter.pass(event("a", 30), start);
        limiter.pass(burst(31), start);
        let due = limiter.due(start + Duration::from_secs(1));
        assert_eq!((due[0].times, due[0].since), (46, at(-5)));
    }

    #[test]
    fn other_namespaces_have_their_own_and_evictions_never_wait() {
        let (mut limiter, start) = (EventRateLimiter::default(), Instant::now());
        for second in 0..100 {
            drop(limiter.pass(event("a", second), start));
        }
        let mut elsewhere = record("c", shell(0)).pod;
        elsewhere.namespace = "elsewhere".to_owned();
        let other = DomainEvent::Interaction(NewInteraction {
            pod: elsewhere,
            known: shell(0),
            source: Source::Notice,
            eviction_time: None,
            dry_run: false,
            ending: None,
            more: None,
        });
        assert!(matches!(limiter.pass((other, at(0)), start), Pass::Now(_)));
        let evicted = DomainEvent::Evicted(PodEviction {
            pod: record("a", shell(0)).pod,
            decisive: Some(shell(0)),
            evict_now: None,
            ids: String::new(),
            eviction_time: at(600),
            dry_run: false,
            bare: false,
        });
        assert!(matches!(
            limiter.pass((evicted, at(0)), start),
            Pass::Now(_)
        ));
    }

    #[test]
    fn so_many_pods_may_wait_and_no_more() {
        let (mut limiter, start) = (EventRateLimiter::default(), Instant::now());
        let passes: Vec<_> = (0..2000)
            .map(|pod| limiter.pass(event(&format!("pod-{pod}"), 0), start))
            .collect();
        let never = passes.iter().filter(|pass| matches!(pass, Pass::Never));
        assert_eq!(never.count(), 2000 - 25 - WAITING);
        // What is not used any more is not kept either.
        let later = start + Duration::from_secs(3600);
        while !limiter.is_idle() {
            limiter.due(later);
            limiter.budgets.clear();
        }
        limiter.pass(event("x", 0), later);
        limiter.due(later + Duration::from_secs(60));
        assert!(limiter.budgets.is_empty());
    }
}
