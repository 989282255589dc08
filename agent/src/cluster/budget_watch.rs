//! The watch of a single PodDisruptionBudget, by its name, while it blocks an eviction.

use std::pin::pin;

use curfew_agent_state::{BudgetId, BudgetView};
use curfew_core::budget::{NeverRoom, Numbers};
use curfew_runtime::watch::Watch;
use futures::TryStreamExt;
use k8s_openapi::{
    api::policy::v1::PodDisruptionBudget, apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, Client, api::ListParams, runtime::watcher};
use tokio::sync::mpsc;

use super::Observation;

/// What a budget tells of itself.
fn view(budget: &PodDisruptionBudget) -> BudgetView {
    let generation = budget.metadata.generation.unwrap_or_default();
    let policy = budget
        .spec
        .as_ref()
        .and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.as_ref();
    let current = status.and_then(|status| status.observed_generation) >= Some(generation);
    BudgetView {
        generation,
        current,
        allowed: status.map_or(0, |status| status.disruptions_allowed),
        healthy: status.map_or(0, |status| status.current_healthy),
        desired: status.map_or(0, |status| status.desired_healthy),
        always_unhealthy: policy == Some("AlwaysAllow"),
        never: never(budget, current),
    }
}

/// Why the budget never has room, if it never has. Its status counts only where it is that of its
/// present spec.
fn never(budget: &PodDisruptionBudget, current: bool) -> Option<NeverRoom> {
    let spec = budget.spec.as_ref()?;
    let text = |bound: &Option<IntOrString>| match bound {
        Some(IntOrString::Int(number)) => Some(number.to_string()),
        Some(IntOrString::String(text)) => Some(text.clone()),
        None => None,
    };
    let (min, max) = (text(&spec.min_available), text(&spec.max_unavailable));
    let status = budget.status.as_ref().filter(|_| current);
    NeverRoom::of(Numbers {
        min_available: min.as_deref(),
        max_unavailable: max.as_deref(),
        desired: status.map(|status| status.desired_healthy),
        expected: status.map(|status| status.expected_pods),
    })
}

/// Watches one budget and reports what it sees, for as long as somebody takes that.
pub(crate) async fn watch(
    watch: Watch,
    client: Client,
    id: BudgetId,
    observations: mpsc::Sender<Observation>,
) {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, &id.namespace);
    let by_name = ListParams::default().fields(&format!("metadata.name={}", id.name));
    let mut events = pin!(watch.events(budgets, by_name));
    let mut found = false;
    loop {
        let seen = match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                found = false;
                continue;
            }
            Ok(Some(watcher::Event::InitApply(budget))) => {
                found = true;
                Some(view(&budget))
            }
            Ok(Some(watcher::Event::InitDone)) if found => continue,
            Ok(Some(watcher::Event::InitDone | watcher::Event::Delete(_))) => None,
            Ok(Some(watcher::Event::Apply(budget))) => Some(view(&budget)),
            Ok(None) => return,
            // The watch tries again, and logs it.
            Err(_) => continue,
        };
        let seen = Observation::BudgetSeen(id.clone(), seen);
        if observations.send(seen).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(spec: serde_json::Value, status: serde_json::Value) -> BudgetView {
        let budget = json!({"metadata": {"generation": 3}, "spec": spec, "status": status});
        view(&serde_json::from_value::<PodDisruptionBudget>(budget).unwrap())
    }

    fn status(healthy: i32, desired: i32) -> serde_json::Value {
        json!({
            "observedGeneration": 3, "currentHealthy": healthy, "desiredHealthy": desired,
            "disruptionsAllowed": 0, "expectedPods": 3,
        })
    }

    #[test]
    fn reads_numbers_and_policy() {
        let budget = told(
            json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}),
            status(1, 2),
        );
        assert!(budget.current && budget.always_unhealthy);
        assert_eq!((budget.allowed, budget.healthy, budget.desired), (0, 1, 2));
        let mut stale = status(1, 2);
        stale["observedGeneration"] = json!(2);
        assert!(!told(json!({}), stale).current);
        let fresh = json!({"metadata": {"generation": 1}});
        assert!(!view(&serde_json::from_value(fresh).unwrap()).current);
    }

    #[test]
    fn sees_that_there_will_never_be_room() {
        let never = |spec, status| told(spec, status).never;
        assert_eq!(
            never(json!({"maxUnavailable": 0}), json!(null)),
            Some(NeverRoom::NoneUnavailable)
        );
        assert_eq!(
            never(json!({"minAvailable": "100%"}), status(3, 3)),
            Some(NeverRoom::AllAvailable)
        );
        let four = json!({"minAvailable": 4});
        assert_eq!(
            never(four.clone(), status(3, 4)),
            Some(NeverRoom::TooLarge {
                desired: 4,
                expected: 3
            })
        );
        assert_eq!(never(json!({"minAvailable": 2}), status(1, 2)), None);
        let mut stale = status(3, 4);
        stale["observedGeneration"] = json!(2);
        assert_eq!(never(four, stale), None, "its numbers are of another spec");
    }

    #[test]
    fn spares_unready_pods_as_the_policy_says() {
        for (policy, healthy, ready, spares) in [
            ("IfHealthyBudget", 1, false, false),
            ("IfHealthyBudget", 2, false, true),
            ("IfHealthyBudget", 2, true, false),
            ("AlwaysAllow", 1, false, true),
            ("AlwaysAllow", 1, true, false),
        ] {
            let budget = told(
                json!({"unhealthyPodEvictionPolicy": policy}),
                status(healthy, 2),
            );
            assert_eq!(budget.spares(ready), spares, "{policy} {healthy} {ready}");
        }
        assert!(
            !told(json!({}), status(0, 0)).spares(false),
            "none has to be healthy, none may go"
        );
        assert!(told(json!({}), status(1, 2)).frees_by_policy(false));
    }
}
