//! Reading the API server's answer to an eviction: the one place that knows what each means ([`read`])
//! and when to ask again ([`Outcome::wait`]). No I/O.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use curfew_core::text::cut;
use kube::core::{Status, response::StatusDetails};

/// The cause by which the API server tells a disruption budget from its own throttling.
const DISRUPTION_BUDGET: &str = "DisruptionBudget";

/// What the API server's sentences about one budget begin with; its name follows.
const BUDGET_PREFIX: &str = "The disruption budget ";

/// The webhook that guards evictions by agents. Its denials carry the code that the API server itself
/// would have given, before any budget was touched.
const GUARD: &str = "eviction.curfew.dev";

/// The most bytes of a reason that are kept.
const MAX_REASON: usize = 512;

/// The most bytes of a budget's name, which has no more.
const MAX_NAME: usize = 253;

/// The longest wait that anybody may ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// An answer as it came.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// The header `Retry-After`, where it was sent and can be read.
    pub retry_after: Option<Duration>,
    /// The body: a `Status`, unless something between here and the API server answered.
    pub body: Bytes,
}

/// What came of a request to evict a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pod is on its way out; grace period and finalizers take their time.
    Accepted,
    /// That pod is not there any more, or another one has its name.
    Gone,
    /// People gave the pod more time meanwhile, or something about it was changed, in the words of who noticed it.
    Early(String),
    /// A PodDisruptionBudget has no room.
    Budget {
        /// Its name, where the answer tells it.
        name: Option<String>,
        /// In the API server's words, numbers included.
        why: String,
    },
    /// More than one PodDisruptionBudget covers the pod, which the API server refuses to judge: a
    /// person has to mend it.
    Budgets(String),
    /// The API server asks for patience, for so long if it says.
    Throttled(Option<Duration>),
    /// Our rights are not what they should be.
    Forbidden(String),
    /// An admission webhook or policy that is not ours says no.
    Denied(String),
    /// The API server is away, or cannot answer anybody now.
    Away {
        /// What was said, or what went wrong.
        why: String,
        /// How long to wait at the least, where that was said.
        wait: Option<Duration>,
    },
    /// It will pass: an error of the server, or of something in its way, over this one request.
    Passing {
        /// What was said, or what went wrong.
        why: String,
        /// How long to wait at the least, where that was said.
        wait: Option<Duration>,
    },
}

/// Reads an answer.
pub fn read(answer: &Answer) -> Outcome {
    if (200..300).contains(&answer.code) {
        return Outcome::Accepted;
    }
    let status: Status = serde_json::from_slice(&answer.body).unwrap_or_default();
    let details = status.details.as_ref();
    let why = match status.message.as_str() {
        "" => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        message => message.to_owned(),
    };
    let why = match cut(&why, MAX_REASON).into_owned() {
        empty if empty.is_empty() => format!("HTTP status {}", answer.code),
        why => why,
    };
    let wait = answer.retry_after.or_else(|| {
        let seconds = details.map_or(0, |details| details.retry_after_seconds);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(MAX_WAIT))
    });
    // A webhook's words and a policy's. Whatever code they chose, the API server itself did not say it.
    // (A webhook that cannot be called is something else: a 500, which passes.)
    let denied = ["denied the request", "denied request"];
    if denied.iter().any(|words| why.contains(words)) && !why.contains(GUARD) {
        return Outcome::Denied(why);
    }
    match answer.code {
        404 => Outcome::Gone,
        // It was changed after the agent had read it.
        409 if why.contains("ResourceVersion") => Outcome::Early(why),
        // The UID precondition failed: a pod of the same name took its place.
        409 => Outcome::Gone,
        429 => match details.and_then(budget_cause) {
            Some(cause) => Outcome::Budget {
                name: budget_name(cause),
                why: cut(cause, MAX_REASON).into_owned(),
            },
            None => Outcome::Throttled(wait),
        },
        500 if why.contains("more than one PodDisruptionBudget") => Outcome::Budgets(why),
        // A namespace that is being deleted takes its pods along without us.
        403 if why.contains("being terminated") => Outcome::Passing { why, wait },
        // The budget's numbers are out of bounds until its controller has looked again.
        403 if details.is_some_and(|details| details.kind == "poddisruptionbudget") => {
            Outcome::Budget {
                name: details.map(|details| cut(&details.name, MAX_NAME).into_owned()),
                why,
            }
        }
        425 if why.contains(GUARD) => Outcome::Early(why),
        // Too early, or too slow for something on the way.
        408 | 425 => Outcome::Passing { why, wait },
        // Our own guard's means that it could not read that pod in time.
        502 | 503 if !why.contains(GUARD) => Outcome::Away { why, wait },
        400..500 => Outcome::Forbidden(why),
        _ => Outcome::Passing { why, wait },
    }
}

/// Reads `Retry-After` in both its forms (RFC 9110, section 10.2.3): seconds, or the time of day.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let wait = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(value.trim()).ok()?;
            at.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_WAIT))
}

/// What is said of the budget that stands in the way.
fn budget_cause(details: &StatusDetails) -> Option<&str> {
    let mut causes = details.causes.iter();
    let cause = causes.find(|cause| cause.reason == DISRUPTION_BUDGET)?;
    Some(&cause.message)
}

fn budget_name(cause: &str) -> Option<String> {
    let name = cause.strip_prefix(BUDGET_PREFIX)?.split(' ').next()?;
    (!name.is_empty()).then(|| cut(name, MAX_NAME).into_owned())
}

impl Outcome {
    /// The API server did not answer.
    pub fn away(why: String) -> Self {
        Outcome::Away { why, wait: None }
    }

    /// Whether it says nothing of the pod, but that the API server wants to be left alone by all.
    pub fn is_outage(&self) -> bool {
        matches!(self, Outcome::Away { .. } | Outcome::Throttled(_))
    }

    /// Whether the request may have been carried out, and only its answer was lost.
    pub fn may_be_lost(&self) -> bool {
        matches!(self, Outcome::Away { .. } | Outcome::Passing { .. })
    }

    /// The name of the outcome in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Gone => "gone",
            Outcome::Early(_) => "early",
            Outcome::Budget { .. } => "disruption_budget",
            Outcome::Budgets(_) => "several_disruption_budgets",
            Outcome::Throttled(_) => "throttled",
            Outcome::Forbidden(_) => "forbidden",
            Outcome::Denied(_) => "denied",
            Outcome::Away { .. } => "unavailable",
            Outcome::Passing { .. } => "error",
        }
    }

    /// Every name of an outcome.
    pub const NAMES: [&str; 10] = [
        "accepted",
        "gone",
        "early",
        "disruption_budget",
        "several_disruption_budgets",
        "throttled",
        "forbidden",
        "denied",
        "unavailable",
        "error",
    ];

    /// Whether a PodDisruptionBudget stands in the way.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Outcome::Budget { .. } | Outcome::Budgets(_))
    }

    /// Whether it will not pass without people, who are told then.
    pub fn concerns_people(&self) -> bool {
        self.is_blocked() || matches!(self, Outcome::Forbidden(_) | Outcome::Denied(_))
    }

    /// Whether both have the same cause, so that people know it already.
    pub fn same_cause(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Budget { name: a, .. }, Outcome::Budget { name: b, .. }) => a == b,
            _ => self.as_str() == other.as_str(),
        }
    }

    /// What was said, where something was.
    pub fn message(&self) -> &str {
        match self {
            Outcome::Budget { why, .. }
            | Outcome::Budgets(why)
            | Outcome::Early(why)
            | Outcome::Forbidden(why)
            | Outcome::Denied(why)
            | Outcome::Away { why, .. }
            | Outcome::Passing { why, .. } => why,
            Outcome::Throttled(_) => "the API server asks for patience",
            Outcome::Accepted | Outcome::Gone => "",
        }
    }

    /// How long to wait after so many refusals of this kind in a row (1 or more): doubling up to a
    /// bound that fits the cause, spread by the pod so that many pods do not ask in step, and never
    /// less than was asked for.
    pub fn wait(&self, tries: u32, uid: &str) -> Duration {
        let (first, most, asked_for) = match self {
            // Room may come any moment; the watch of the budget tells sooner.
            Outcome::Budget { .. } => (2, 30, None),
            // A person has to act, which takes a while.
            Outcome::Budgets(_) | Outcome::Forbidden(_) | Outcome::Denied(_) => (5, 60, None),
            Outcome::Throttled(wait)
            | Outcome::Away { wait, .. }
            | Outcome::Passing { wait, .. } => (1, 30, *wait),
            // The pod is looked at first.
            Outcome::Early(_) => (1, 1, None),
            // Gone, and yet there: the watch and the API server have to agree first.
            Outcome::Accepted | Outcome::Gone => (10, 10, None),
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
mod tests;
