//! Reads the API server's answer to an eviction. Only this module knows what each answer means. No I/O.
//! [`EvictionOutcome::wait`] says when to retry.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use curfew_agent_state::EvictionOutcome;
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

/// Reads an answer.
pub fn read(answer: &Answer) -> EvictionOutcome {
    if (200..300).contains(&answer.code) {
        return EvictionOutcome::Accepted;
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
        return EvictionOutcome::Denied(why);
    }
    match answer.code {
        404 => EvictionOutcome::Gone,
        // It was changed after the agent had read it.
        409 if why.contains("ResourceVersion") => EvictionOutcome::DeadlineMoved(why),
        // The UID precondition failed: a pod of the same name took its place.
        409 => EvictionOutcome::Gone,
        429 => match details.and_then(budget_cause) {
            Some(cause) => EvictionOutcome::Budget {
                name: budget_name(cause),
                why: cut(cause, MAX_REASON).into_owned(),
            },
            None => EvictionOutcome::Throttled(wait),
        },
        500 if why.contains("more than one PodDisruptionBudget") => {
            EvictionOutcome::MultipleBudgets(why)
        }
        // A namespace that is being deleted takes its pods along without us.
        403 if why.contains("being terminated") => EvictionOutcome::Transient { why, wait },
        // The budget's numbers are out of bounds until its controller has looked again.
        403 if details.is_some_and(|details| details.kind == "poddisruptionbudget") => {
            EvictionOutcome::Budget {
                name: details.map(|details| cut(&details.name, MAX_NAME).into_owned()),
                why,
            }
        }
        425 if why.contains(GUARD) => EvictionOutcome::DeadlineMoved(why),
        // Too early, or too slow for something on the way.
        408 | 425 => EvictionOutcome::Transient { why, wait },
        // Our own guard's means that it could not read that pod in time.
        502 | 503 if !why.contains(GUARD) => EvictionOutcome::Unavailable { why, wait },
        400..500 => EvictionOutcome::Forbidden(why),
        _ => EvictionOutcome::Transient { why, wait },
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

#[cfg(test)]
mod tests;
