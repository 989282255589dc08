//! The time at which a pod is evicted.
//!
//! Each interaction that starts a timer has its own deadline: the time of the interaction, plus its time to live,
//! plus as much of the pod's extension and hold as the terms of the interaction allow. The earliest deadline counts.
//! So another interaction never moves the deadline to a later time, whatever its terms are.
//!
//! The timers of interactions that are only a dry run count only where all timers of the pod are dry: they neither
//! delay an eviction that is enforced, nor bring it forward.
//!
//! Where a look found that something has changed, an interaction whose terms say so ends then, if it does not end earlier.
//! That is the same as a shorter time to live and a shorter extension. A release ends the timers of all interactions up
//! to a time.
//!
//! An order to evict the pod now is enforced whatever the terms of the interactions say: it counts like a deadline at
//! the moment at which the agent saw it, which nothing moves to a later time.
//!
//! At most four interactions matter, whatever extension or hold people set. Without an extension, one interaction
//! has the earliest deadline: it is called decisive. With the longest possible extension, the same or another
//! interaction has the earliest deadline. The difference between these two deadlines is the longest extension of the
//! pod. A shorter extension moves the deadline by exactly its length, and a longer one moves it by the difference
//! only. The same applies to a pod that is held, with two more interactions. Three others matter for what may be found
//! later: two that would end with a change, and one that may not be released.

use std::time::Duration;

use jiff::Timestamp;

use super::{EvictNow, Record, RecordedInteraction, evidence::Evidence, later};
use crate::terms::{Action, Enforcement, Exemption};

/// The most interactions that decide when the pod goes.
pub const MAX_BOUNDS: usize = 4;

/// What people may wish: no extension or the longest that there could be, without a hold and with one.
const EXTREMES: [(Duration, bool); MAX_BOUNDS] = [
    (Duration::ZERO, false),
    (Duration::MAX, false),
    (Duration::ZERO, true),
    (Duration::MAX, true),
];

/// A timer: whether it is enforced, and when it ends.
pub(super) type Timer = (Enforcement, Timestamp);

impl RecordedInteraction {
    /// Whether it starts no timer only for as long as the pod has no controller, or a Job as its controller.
    pub fn is_exempt_for_now(&self) -> bool {
        self.terms.action == Action::Record && self.terms.exemption.is_some_and(Exemption::may_end)
    }

    /// Whether it was exempt in that way, and the pod has had another controller since, or none.
    pub fn has_lost_its_exemption(&self) -> bool {
        self.terms.action == Action::Evict && self.terms.exemption.is_some_and(Exemption::may_end)
    }

    /// How long the pod may live on, with as much of the extension and of the hold as its terms allow.
    fn length(&self, extension: Duration, held: bool) -> Duration {
        let terms = &self.terms;
        let hold = if held { terms.max_hold } else { Duration::ZERO };
        let extension = extension.min(terms.max_extension);
        terms.ttl.saturating_add(extension).saturating_add(hold)
    }

    /// The timer that this interaction alone starts, without an extension. Of two timers, the smaller one counts.
    pub(super) fn timer(&self) -> Option<Timer> {
        let end = self.end(Evidence::default(), Duration::ZERO, false)?;
        Some((self.terms.enforcement, end))
    }

    /// When the pod would be evicted if this were the only interaction, with as much of the extension and the hold
    /// as its terms allow. None if it starts no timer, or if that has ended with a release.
    fn end(&self, evidence: Evidence, extension: Duration, held: bool) -> Option<Timestamp> {
        if self.terms.action == Action::Record || evidence.has_released(self) {
            return None;
        }
        let hold = if held {
            self.terms.max_hold
        } else {
            Duration::ZERO
        };
        let changed = evidence.end(self).map(|changed| later(changed, hold));
        let end = later(self.interaction.time, self.length(extension, held));
        Some(changed.map_or(end, |changed| changed.min(end)))
    }
}

impl Record {
    /// The interaction that sets the deadline: of those that start a timer that counts the one that ends first
    /// without an extension; where none does, the one that did before the pod was released, or the first of all. None
    /// where nobody interacted with the pod.
    pub fn decisive(&self) -> Option<&RecordedInteraction> {
        let unreleased = Evidence {
            released: None,
            ..self.evidence()
        };
        self.first_to_end(Duration::ZERO, false)
            .or_else(|| self.first_to_end_by(unreleased, Duration::ZERO, false))
            .map(|(_, known)| known)
            .or(self.known.first())
    }

    /// The request of the interaction that sets the deadline, by which it is found in the logs; empty where there is
    /// none.
    pub fn decisive_request(&self) -> String {
        let decisive = self.decisive();
        decisive.map_or_else(String::new, |known| known.interaction.request.clone())
    }

    /// The order to evict the pod now, where there is one.
    pub fn evict_now(&self) -> Option<&EvictNow> {
        self.evict_now.as_ref()
    }

    /// Since when an order to evict the pod is in force.
    fn ordered(&self) -> Option<Timestamp> {
        self.evict_now.as_ref()?.since
    }

    /// The agent of the pod's node sees an order that stands on the pod: it is in force from now on, unless it was
    /// before.
    pub fn put_order_in_force(&mut self, now: Timestamp) {
        if let Some(order) = &mut self.evict_now {
            let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
            order.since = Some(order.since.map_or(now, |since| since.min(now)));
        }
    }

    /// The interactions that decide when the pod goes, whatever extension and hold will stand on it and whatever will be
    /// found in it: the decisive one first. None where no timer runs.
    pub fn bounds(&self) -> Vec<&RecordedInteraction> {
        let evidence = self.evidence();
        let mut bounds: Vec<&RecordedInteraction> = Vec::with_capacity(MAX_BOUNDS);
        for (extension, held) in EXTREMES {
            let Some((end, known)) = self.first_to_end(extension, held) else {
                break;
            };
            let decided =
                |known: &&RecordedInteraction| known.end(evidence, extension, held) == Some(end);
            if !bounds.iter().any(decided) {
                bounds.push(known);
            }
        }
        let fixed = |known: &&RecordedInteraction| !known.may_be_released();
        if !bounds.iter().any(fixed) {
            bounds.extend(self.timed().find(fixed));
        }
        // By the time of the interaction without a hold, and with one by its length.
        let rank = |known: &&RecordedInteraction| known.interaction.time;
        first_to_change(&mut bounds, self.timed(), rank);
        first_to_change(&mut bounds, self.timed(), |known| known.terms.max_hold);
        bounds
    }

    /// The interactions that would decide when the pod is evicted if it got a controller, or lost its Job.
    pub fn exempt_bounds(&self) -> Vec<&RecordedInteraction> {
        let mut bounds: Vec<&RecordedInteraction> = Vec::new();
        // The two exemptions end apart from each other.
        for exemption in [Exemption::Unmanaged, Exemption::Completing] {
            let exempt = self.known.iter().filter(|known| {
                known.is_exempt_for_now() && known.terms.exemption == Some(exemption)
            });
            for (extension, held) in EXTREMES {
                let rank = |known: &&RecordedInteraction| {
                    (known.terms.enforcement, known.length(extension, held))
                };
                let Some(first) = exempt.clone().min_by_key(rank) else {
                    break;
                };
                let told = |known: &&RecordedInteraction| {
                    known.terms.exemption == Some(exemption) && rank(known) == rank(&first)
                };
                if !bounds.iter().any(told) {
                    bounds.push(first);
                }
            }
            first_to_change(&mut bounds, exempt, |known| {
                (
                    known.terms.exemption != Some(exemption),
                    known.terms.enforcement,
                    known.terms.max_hold,
                )
            });
        }
        bounds
    }

    /// The pod is `bare` now, which means that it has no controller, or it is `of_job`. Interactions whose exemption
    /// does not hold for such a pod start a timer: from now on, or from their own time, whichever is later. The timer
    /// continues even if the exemption would hold again. Returns the interactions whose timer starts.
    pub fn end_exemption(
        &mut self,
        bare: bool,
        of_job: bool,
        now: Timestamp,
    ) -> Vec<RecordedInteraction> {
        let mut started = Vec::new();
        let evidence = self.evidence();
        for known in &mut self.known {
            if evidence.has_released(known) {
                continue;
            }
            let exemption = known
                .terms
                .exemption
                .filter(|_| known.terms.action == Action::Record);
            if exemption.is_some_and(|exemption| !exemption.holds(bare, of_job)) {
                let past = now
                    .as_second()
                    .saturating_sub(known.interaction.time.as_second());
                let past = Duration::from_secs(past.try_into().unwrap_or_default());
                known.terms.action = Action::Evict;
                known.terms.ttl = known.terms.ttl.saturating_add(past);
                started.push(known.clone());
            }
        }
        if !started.is_empty() {
            self.settle();
        }
        started
    }

    fn first_to_end(
        &self,
        extension: Duration,
        held: bool,
    ) -> Option<(Timestamp, &RecordedInteraction)> {
        self.first_to_end_by(self.evidence(), extension, held)
    }

    fn first_to_end_by(
        &self,
        evidence: Evidence,
        extension: Duration,
        held: bool,
    ) -> Option<(Timestamp, &RecordedInteraction)> {
        let ends = self.known.iter().filter_map(|known| {
            let end = known.end(evidence, extension, held)?;
            Some((known.terms.enforcement, end, known))
        });
        ends.min().map(|(_, end, known)| (end, known))
    }

    fn end(&self, extension: Duration, held: bool) -> Option<Timestamp> {
        self.first_to_end(extension, held).map(|(end, _)| end)
    }

    /// Whether timers run, and all of them are a dry run: the pod is not evicted.
    pub fn is_dry_run(&self) -> bool {
        self.enforcement() == Some(Enforcement::DryRun)
    }

    /// Whether the timer that counts is enforced, as an order is always. None when no timer runs.
    pub fn enforcement(&self) -> Option<Enforcement> {
        match self.ordered() {
            Some(_) => Some(Enforcement::Enforce),
            None => self.enforcement_of_timers(),
        }
    }

    /// The same, whatever people ordered.
    pub(crate) fn enforcement_of_timers(&self) -> Option<Enforcement> {
        let first = self.first_to_end(Duration::ZERO, false);
        first.map(|(_, first)| first.terms.enforcement)
    }

    /// The timer that counts, with the extension and the hold that stand on the pod.
    pub(super) fn timer(&self) -> Option<Timer> {
        self.enforcement().zip(self.eviction_time())
    }

    /// The extension that stands on the pod, whether that much is allowed or not.
    fn asked_for(&self) -> Duration {
        self.extension
            .as_ref()
            .map_or(Duration::ZERO, |extension| extension.by)
    }

    /// When the pod's time ends, with as much of the extension as each interaction allows. None when nothing
    /// started a timer.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.end(self.asked_for(), false)
    }

    /// When the pod will be evicted, or would be if it [is a dry run](Self::is_dry_run): at its deadline, or when its
    /// hold ends. The end of a hold depends on the
    /// deadline and not on the time at which someone set it, so setting it again does not prolong it. If somebody
    /// ordered to evict the pod now: since then, or since an earlier time that is enforced.
    pub fn eviction_time(&self) -> Option<Timestamp> {
        let timer = self.first_to_end(self.asked_for(), self.hold.is_some());
        let ordered = self.ordered();
        let timer = timer.filter(|(_, known)| {
            ordered.is_none() || known.terms.enforcement == Enforcement::Enforce
        });
        let timer = timer.map(|(end, _)| end);
        ordered.into_iter().chain(timer).min()
    }

    /// By how much the deadline is extended: by no more than every interaction allows.
    pub fn extension(&self) -> Duration {
        self.asked_for().min(self.longest_extension())
    }

    /// The maximum by which the deadline can be extended, in whole seconds, so that no interaction lasts longer than
    /// its terms allow. An extension of this length has its full effect, and a longer one has no further effect.
    pub fn longest_extension(&self) -> Duration {
        between(
            self.end(Duration::ZERO, false),
            self.end(Duration::MAX, false),
        )
    }

    /// By how much a hold keeps a pod beyond a deadline that is not extended, in whole seconds.
    pub fn longest_hold(&self) -> Duration {
        between(
            self.end(Duration::ZERO, false),
            self.end(Duration::ZERO, true),
        )
    }

    /// Whether the extension that stands on the pod uses up all that is allowed.
    pub fn is_extended_to_the_last(&self) -> bool {
        self.extension.is_some() && self.asked_for() == self.longest_extension()
    }
}

/// Adds of those that end with a change the one with the smallest rank, unless there is one with that rank already.
fn first_to_change<'a, R: Ord>(
    bounds: &mut Vec<&'a RecordedInteraction>,
    all: impl Iterator<Item = &'a RecordedInteraction>,
    rank: impl Fn(&&RecordedInteraction) -> R,
) {
    let first = all
        .filter(|known| known.ends_with_a_change())
        .min_by_key(|known| rank(known));
    if let Some(first) = first {
        let told = |known: &&&RecordedInteraction| {
            known.ends_with_a_change() && rank(known) == rank(&first)
        };
        if !bounds.iter().any(|known| told(&known)) {
            bounds.push(first);
        }
    }
}

fn between(one: Option<Timestamp>, other: Option<Timestamp>) -> Duration {
    let seconds = one
        .zip(other)
        .map_or(0, |(one, other)| other.duration_since(one).as_secs());
    Duration::from_secs(seconds.unsigned_abs())
}
