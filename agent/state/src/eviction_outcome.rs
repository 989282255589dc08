//! What comes of a request to evict a pod, and when to ask again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use strum::{IntoStaticStr, VariantNames};

/// Stands before the name of what a dry run was answered.
const DRY_RUN: &str = "dry_run_";

/// What came of a request to evict a pod.
#[derive(Debug, Clone, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum EvictionOutcome {
    /// The pod is on its way out; grace period and finalizers take their time.
    Accepted,
    /// That pod is not there any more, or another one has its name.
    Gone,
    /// People gave the pod more time in the meantime, or the pod was changed. Contains the message of the component
    /// that noticed this.
    #[strum(serialize = "early")]
    DeadlineMoved(String),
    /// A PodDisruptionBudget has no room.
    #[strum(serialize = "disruption_budget")]
    Budget {
        /// Its name, where the answer tells it.
        name: Option<String>,
        /// In the API server's words, numbers included.
        why: String,
    },
    /// More than one PodDisruptionBudget selects the pod. The API server does not support that, and a person has to
    /// correct it.
    #[strum(serialize = "several_disruption_budgets")]
    MultipleBudgets(String),
    /// The API server throttles the agent. Contains the time that it asks the agent to wait, if it says one.
    Throttled(Option<Duration>),
    /// Our rights are not what they should be.
    Forbidden(String),
    /// An admission webhook or policy that is not ours says no.
    Denied(String),
    /// The API server is away, or cannot answer anybody now.
    Unavailable {
        /// What was said, or what went wrong.
        why: String,
        /// How long to wait at the least, where that was said.
        wait: Option<Duration>,
    },
    /// It will pass: an error of the server, or of something in its way, over this one request.
    #[strum(serialize = "error")]
    Transient {
        /// What was said, or what went wrong.
        why: String,
        /// How long to wait at the least, where that was said.
        wait: Option<Duration>,
    },
}

impl EvictionOutcome {
    /// The API server did not answer.
    pub fn unavailable(why: String) -> Self {
        EvictionOutcome::Unavailable { why, wait: None }
    }

    /// Whether the outcome says nothing about the pod, and all requests to the API server should pause.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            EvictionOutcome::Unavailable { .. } | EvictionOutcome::Throttled(_)
        )
    }

    /// Whether the request may have been carried out, and only its answer was lost.
    pub fn may_be_lost(&self) -> bool {
        matches!(
            self,
            EvictionOutcome::Unavailable { .. } | EvictionOutcome::Transient { .. }
        )
    }

    /// The name of the outcome in metrics.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// Every name of an outcome.
    pub const NAMES: &[&str] = Self::VARIANTS;

    /// The name of the outcome in metrics, as the answer to a request that may have been a dry run.
    pub fn result(&self, dry_run: bool) -> String {
        let prefix = if dry_run { DRY_RUN } else { "" };
        format!("{prefix}{}", self.as_str())
    }

    /// Every [`result`](Self::result).
    pub fn results() -> impl Iterator<Item = String> {
        let with = |prefix: &'static str| {
            Self::NAMES
                .iter()
                .map(move |name| format!("{prefix}{name}"))
        };
        with("").chain(with(DRY_RUN))
    }

    /// Whether a PodDisruptionBudget stands in the way.
    pub fn is_blocked(&self) -> bool {
        matches!(
            self,
            EvictionOutcome::Budget { .. } | EvictionOutcome::MultipleBudgets(_)
        )
    }

    /// Whether people have to correct the cause, so that an Event must report it.
    pub fn concerns_people(&self) -> bool {
        self.is_blocked()
            || matches!(
                self,
                EvictionOutcome::Forbidden(_) | EvictionOutcome::Denied(_)
            )
    }

    /// Whether both have the same cause, so that people know it already.
    pub fn same_cause(&self, other: &EvictionOutcome) -> bool {
        match (self, other) {
            (EvictionOutcome::Budget { name: a, .. }, EvictionOutcome::Budget { name: b, .. }) => {
                a == b
            }
            _ => self.as_str() == other.as_str(),
        }
    }

    /// What was said, where something was.
    pub fn message(&self) -> &str {
        match self {
            EvictionOutcome::Budget { why, .. }
            | EvictionOutcome::MultipleBudgets(why)
            | EvictionOutcome::DeadlineMoved(why)
            | EvictionOutcome::Forbidden(why)
            | EvictionOutcome::Denied(why)
            | EvictionOutcome::Unavailable { why, .. }
            | EvictionOutcome::Transient { why, .. } => why,
            EvictionOutcome::Throttled(_) => "the API server throttles the agent",
            EvictionOutcome::Accepted | EvictionOutcome::Gone => "",
        }
    }

    /// How long to wait after `tries` refusals of this kind in a row (1 or more). The time doubles up to a maximum
    /// that depends on the cause. It differs between pods, so that their requests do not come at the same time. It
    /// is never shorter than the time that the API server asked for.
    pub fn wait(&self, tries: u32, uid: &str) -> Duration {
        let (first, most, asked_for) = match self {
            // Room may come any moment; the watch of the budget tells sooner.
            EvictionOutcome::Budget { .. } => (2, 30, None),
            // A person has to act, which takes a while.
            EvictionOutcome::MultipleBudgets(_)
            | EvictionOutcome::Forbidden(_)
            | EvictionOutcome::Denied(_) => (5, 60, None),
            EvictionOutcome::Throttled(wait)
            | EvictionOutcome::Unavailable { wait, .. }
            | EvictionOutcome::Transient { wait, .. } => (1, 30, *wait),
            // The pod is looked at first.
            EvictionOutcome::DeadlineMoved(_) => (1, 1, None),
            // Gone, and yet there: the watch and the API server have to agree first.
            EvictionOutcome::Accepted | EvictionOutcome::Gone => (10, 10, None),
        };
        let doubled = Duration::from_secs(first << (tries.max(1) - 1).min(16));
        let mut hasher = DefaultHasher::new();
        (uid, tries).hash(&mut hasher);
        // Between three quarters and the whole of it.
        let spread = 0.75 + (hasher.finish() % 1024) as f64 / 4096.0;
        let backoff = doubled.min(Duration::from_secs(most)).mul_f64(spread);
        let least = asked_for.unwrap_or_default();
        // Those who were asked for the same patience do not come back in the same moment, either.
        backoff.max(least + least.mul_f64((1.0 - spread) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_outcome_of_a_dry_run_has_a_name_of_its_own() {
        assert_eq!(EvictionOutcome::Accepted.result(true), "dry_run_accepted");
        let denied = EvictionOutcome::Denied("no".into());
        assert_eq!(
            [false, true].map(|dry_run| denied.result(dry_run)),
            ["denied", "dry_run_denied"]
        );
        let results: BTreeSet<_> = EvictionOutcome::results().collect();
        assert_eq!(results.len(), 2 * EvictionOutcome::NAMES.len());
        assert!(results.contains("accepted") && results.contains("dry_run_denied"));
    }
}
