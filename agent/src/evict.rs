//! The Eviction API: asking, and reading the answer.
//!
//! [`classify`] and [`backoff`] are the one place that knows what each answer means and when to
//! ask again. See <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use curfew_core::{PodId, text::cut};
use curfew_runtime::explain;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, EvictParams, Preconditions},
};

/// The API server answers an eviction of a pending pod after ten seconds at the latest; webhooks in its
/// way may take up to thirty.
const TIMEOUT: Duration = Duration::from_secs(35);

/// The cause by which the API server tells a disruption budget from its own throttling.
const DISRUPTION_BUDGET: &str = "DisruptionBudget";

/// What came of a request to evict a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The pod is on its way out; grace period and finalizers take their time.
    Accepted,
    /// That pod is not there any more, or another one has its name.
    Gone,
    /// A PodDisruptionBudget has no room; in its words.
    Budget(String),
    /// More than one PodDisruptionBudget covers the pod, which the API server refuses to judge: a
    /// person has to mend it.
    Budgets(String),
    /// The API server asks for patience, for so long if it says.
    Throttled(Option<Duration>),
    /// We may not: our rights are not what they should be, or another admission webhook says no.
    Forbidden(String),
    /// It will pass: a server error, a time-out, a connection that broke.
    Passing(String),
}

impl Outcome {
    /// The name of the outcome in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Gone => "gone",
            Outcome::Budget(_) => "disruption_budget",
            Outcome::Budgets(_) => "several_disruption_budgets",
            Outcome::Throttled(_) => "throttled",
            Outcome::Forbidden(_) => "forbidden",
            Outcome::Passing(_) => "error",
        }
    }

    /// Every name of an outcome.
    pub const NAMES: [&str; 7] = [
        "accepted",
        "gone",
        "disruption_budget",
        "several_disruption_budgets",
        "throttled",
        "forbidden",
        "error",
    ];

    /// Whether a PodDisruptionBudget stands in the way.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Outcome::Budget(_) | Outcome::Budgets(_))
    }

    /// Whether it will not pass without people, who are told then.
    pub fn concerns_people(&self) -> bool {
        self.is_blocked() || matches!(self, Outcome::Forbidden(_))
    }

    /// Whether both have the same cause, so that people know it already.
    pub fn same_cause(&self, other: &Outcome) -> bool {
        self.as_str() == other.as_str()
    }

    /// What was said, where something was.
    pub fn message(&self) -> &str {
        match self {
            Outcome::Budget(why)
            | Outcome::Budgets(why)
            | Outcome::Forbidden(why)
            | Outcome::Passing(why) => why,
            Outcome::Accepted | Outcome::Gone | Outcome::Throttled(_) => "",
        }
    }
}

/// Asks the API server to evict exactly this pod.
pub async fn evict(client: Client, pod: &PodId) -> Outcome {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace);
    let params = EvictParams {
        delete_options: Some(DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        }),
        ..EvictParams::default()
    };
    match tokio::time::timeout(TIMEOUT, pods.evict(&pod.name, &params)).await {
        Ok(Ok(_)) => Outcome::Accepted,
        Ok(Err(kube::Error::Api(status))) => classify(&status),
        Ok(Err(error)) => Outcome::Passing(explain::short(&error)),
        Err(_) => Outcome::Passing(format!("no answer within {TIMEOUT:?}")),
    }
}

/// Reads a refusal of the API server.
fn classify(status: &kube::core::Status) -> Outcome {
    let message = cut(&status.message, 512).into_owned();
    let details = status.details.as_ref();
    match status.code {
        404 => Outcome::Gone,
        // The UID precondition failed: a pod of the same name took its place. The watch decides.
        409 => Outcome::Gone,
        429 => {
            let budget = details.is_some_and(|details| {
                details.causes.iter().any(|c| c.reason == DISRUPTION_BUDGET)
            });
            if budget {
                Outcome::Budget(message)
            } else {
                let seconds = details.map_or(0, |details| details.retry_after_seconds);
                Outcome::Throttled((seconds > 0).then(|| Duration::from_secs(seconds.into())))
            }
        }
        500 if message.contains("more than one PodDisruptionBudget") => Outcome::Budgets(message),
        // A namespace that is being deleted refuses too; its pods go without us.
        403 if message.contains("being terminated") => Outcome::Passing(message),
        400..=499 => Outcome::Forbidden(message),
        _ => Outcome::Passing(message),
    }
}

/// How long to wait after so many refusals in a row (1 or more): doubling up to a bound that fits the
/// cause, and spread by the pod so that many pods do not ask in step.
pub fn backoff(outcome: &Outcome, tries: u32, uid: &str) -> Duration {
    let (first, most) = match outcome {
        // Room may come any moment, whenever another pod becomes ready.
        Outcome::Budget(_) => (2, 10),
        Outcome::Budgets(_) | Outcome::Forbidden(_) => (5, 60),
        Outcome::Throttled(Some(wait)) => (wait.as_secs().clamp(1, 300), 300),
        Outcome::Throttled(None) | Outcome::Passing(_) => (1, 30),
        // Gone, and yet there: the watch and the API server have to agree first.
        Outcome::Accepted | Outcome::Gone => (10, 10),
    };
    let wait = Duration::from_secs(first << (tries - 1).min(16)).min(Duration::from_secs(most));
    let mut hasher = DefaultHasher::new();
    (uid, tries).hash(&mut hasher);
    // Between three quarters and the whole of it; never less than the API server asked for.
    let spread = 0.75 + (hasher.finish() % 1024) as f64 / 4096.0;
    match outcome {
        Outcome::Throttled(Some(least)) => wait.max(*least),
        _ => wait.mul_f64(spread),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use serde_json::json;

    fn status(code: u16, message: &str) -> Status {
        serde_json::from_value(json!({"code": code, "message": message})).unwrap()
    }

    fn with_details(status: &Status, details: serde_json::Value) -> Status {
        Status {
            details: Some(serde_json::from_value(details).unwrap()),
            ..status.clone()
        }
    }

    #[test]
    fn reads_each_answer() {
        let budget = with_details(
            &status(429, "Cannot evict pod"),
            json!({"causes": [{"reason": DISRUPTION_BUDGET, "message": "web needs 2 pods"}]}),
        );
        let throttled = with_details(&status(429, "slow down"), json!({"retryAfterSeconds": 7}));
        for (status, name) in [
            (status(404, "not found"), "gone"),
            (status(409, "the UID in the precondition"), "gone"),
            (budget, "disruption_budget"),
            (throttled.clone(), "throttled"),
            (status(429, ""), "throttled"),
            (
                status(500, "This pod has more than one PodDisruptionBudget, which"),
                "several_disruption_budgets",
            ),
            (status(500, "etcd is away"), "error"),
            (status(503, ""), "error"),
            (status(403, "forbidden"), "forbidden"),
            (
                status(
                    403,
                    "unable to create because namespace x is being terminated",
                ),
                "error",
            ),
            (status(400, "admission webhook denied"), "forbidden"),
        ] {
            let outcome = classify(&status);
            assert_eq!(outcome.as_str(), name, "{status:?}");
            assert!(Outcome::NAMES.contains(&name));
        }
        assert_eq!(
            classify(&throttled),
            Outcome::Throttled(Some(Duration::from_secs(7)))
        );
    }

    #[test]
    fn waits_longer_each_time_and_never_too_long() {
        let budget = Outcome::Budget(String::new());
        assert!(backoff(&budget, 1, "a") <= Duration::from_secs(2));
        assert!(backoff(&budget, 2, "a") > Duration::from_millis(2900));
        assert!(backoff(&budget, 1000, "a") <= Duration::from_secs(10));
        assert_ne!(backoff(&budget, 3, "a"), backoff(&budget, 3, "b"));
        let asked = Outcome::Throttled(Some(Duration::from_secs(7)));
        assert!(backoff(&asked, 1, "a") >= Duration::from_secs(7));
    }
}
