//! How many eviction requests may be open. Usually these are several. After the API server has failed, there are
//! none for a pause, and then one at a time until it answers. A pause for each pod alone would not be enough: it
//! would neither limit how many requests the whole node sends to a failing server, nor keep the pods in order until
//! it is back.

use curfew_core::record::later;
use jiff::{SignedDuration, Timestamp};

use crate::{earlier, eviction_outcome::EvictionOutcome};

/// An API server that has just started answers requests before it has read the RBAC objects. After an outage, this
/// many refusals by its authorizer, a second apart, are attributed to this.
const STARTING: u32 = 3;

/// What the last answers said of the API server.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    /// The pod whose request failed last, if no request was answered since. If the requests of only one pod fail,
    /// the pod may be the cause. If the requests of two pods fail, the server is.
    failed: Option<String>,
    tripped: Option<Tripped>,
    /// How often the API server refused as one that has just started, in a row.
    starts: u32,
}

#[derive(Debug)]
struct Tripped {
    tries: u32,
    until: Timestamp,
}

impl CircuitBreaker {
    /// Takes note of an answer to a request for this pod. Returns whether requests go on by it.
    pub(super) fn answered(
        &mut self,
        uid: &str,
        outcome: &EvictionOutcome,
        now: Timestamp,
    ) -> bool {
        if !outcome.is_outage() {
            self.failed = None;
            return self.tripped.take().is_some();
        }
        let tries = match (&self.tripped, &self.failed) {
            // What was open when the breaker tripped is answered, too.
            (Some(tripped), _) if now < tripped.until => return false,
            (Some(tripped), _) => tripped.tries.saturating_add(1),
            // The server itself says that it is overloaded, so one answer is enough.
            (None, _) if matches!(outcome, EvictionOutcome::Throttled(_)) => 1,
            (None, Some(other)) if other != uid => 1,
            (None, _) => {
                self.failed = Some(uid.to_owned());
                return false;
            }
        };
        let until = later(now, outcome.wait(tries, uid));
        self.tripped = Some(Tripped { tries, until });
        false
    }

    /// Whether this is the answer of an API server that is back and has just started, so that it says nothing of
    /// our rights. It is asked again after a short pause then.
    pub(super) fn is_startup_refusal(
        &mut self,
        uid: &str,
        outcome: &EvictionOutcome,
        now: Timestamp,
    ) -> bool {
        let away = self.tripped.is_some() || self.failed.is_some();
        if !away || !matches!(outcome, EvictionOutcome::Forbidden(_)) {
            self.starts = 0;
            return false;
        }
        // What was open when the breaker tripped is answered, too.
        if self
            .tripped
            .as_ref()
            .is_some_and(|tripped| now < tripped.until)
        {
            return true;
        }
        if self.starts == STARTING {
            return false;
        }
        self.starts += 1;
        let until = later(
            now,
            EvictionOutcome::unavailable(String::new()).wait(1, uid),
        );
        self.tripped = Some(Tripped { tries: 1, until });
        true
    }

    /// How many requests may be open now, where that many may be at the most.
    pub(super) fn permits(&self, most: usize, now: Timestamp) -> usize {
        match &self.tripped {
            None => most,
            Some(tripped) => usize::from(now >= tripped.until),
        }
    }

    /// When to ask again.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.tripped.as_ref().map(|tripped| tripped.until)
    }

    /// The clock went back.
    pub(super) fn shift(&mut self, by: SignedDuration) {
        if let Some(tripped) = &mut self.tripped {
            tripped.until = earlier(tripped.until, by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use std::time::Duration;

    /// The longest pause that nobody asked for.
    const LONGEST: Duration = Duration::from_secs(30);

    fn away() -> EvictionOutcome {
        EvictionOutcome::unavailable("refused".into())
    }

    #[test]
    fn a_server_that_has_just_started_is_given_a_moment() {
        let forbidden = EvictionOutcome::Forbidden("not yet".into());
        let mut breaker = CircuitBreaker::default();
        assert!(
            !breaker.is_startup_refusal("a", &forbidden, at(0)),
            "it was not away"
        );
        breaker.answered("a", &away(), at(0));
        for second in 1..=3 {
            assert!(breaker.is_startup_refusal("a", &forbidden, at(second)));
            assert_eq!(breaker.permits(5, at(second)), 0);
            assert!(
                breaker.is_startup_refusal("b", &forbidden, at(second)),
                "it was open before"
            );
            assert_eq!(breaker.permits(5, at(second + 1)), 1);
        }
        assert!(
            !breaker.is_startup_refusal("a", &forbidden, at(4)),
            "it means it"
        );
        assert!(breaker.answered("a", &forbidden, at(4)));
        assert_eq!(breaker.permits(5, at(4)), 5);
    }

    #[test]
    fn one_pod_alone_trips_nothing() {
        let mut breaker = CircuitBreaker::default();
        for second in 0..9 {
            breaker.answered("a", &away(), at(second));
            assert_eq!(breaker.permits(5, at(second)), 5);
        }
        breaker.answered("b", &EvictionOutcome::Accepted, at(9));
        breaker.answered("b", &away(), at(9));
        assert_eq!(breaker.permits(5, at(9)), 5, "not in a row");
        breaker.answered("a", &away(), at(9));
        assert_eq!(breaker.permits(5, at(9)), 0);
    }

    #[test]
    fn asks_once_after_each_pause_until_there_is_an_answer() {
        let mut breaker = CircuitBreaker::default();
        breaker.answered("a", &away(), at(0));
        breaker.answered("b", &away(), at(0));
        breaker.answered("c", &away(), at(0));
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let retry_at = breaker.retry_at().unwrap();
            assert_eq!(breaker.permits(5, retry_at), 1);
            breaker.answered("d", &away(), retry_at);
            let pause = breaker
                .retry_at()
                .unwrap()
                .duration_since(retry_at)
                .unsigned_abs();
            assert!(pause >= last.mul_f64(0.7) && pause <= LONGEST, "{pause:?}");
            last = pause;
        }
        assert!(last >= LONGEST.mul_f64(0.7), "{last:?}");
        let refused = EvictionOutcome::MultipleBudgets(String::new());
        assert!(
            breaker.answered("d", &refused, at(900)),
            "any answer will do"
        );
        assert_eq!(breaker.permits(5, at(900)), 5);
        assert_eq!(breaker.retry_at(), None);
    }

    #[test]
    fn is_as_patient_as_it_was_asked_to_be() {
        let mut breaker = CircuitBreaker::default();
        let patience = EvictionOutcome::Throttled(Some(Duration::from_secs(100)));
        breaker.answered("a", &patience, at(0));
        assert_eq!(breaker.permits(5, at(99)), 0);
        assert_eq!(breaker.permits(5, at(120)), 1);
    }
}
