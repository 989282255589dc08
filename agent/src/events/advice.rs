//! What people can do about a refused eviction.

use std::borrow::Cow;

use curfew_agent_state::{EvictionBlock, EvictionOutcome};
use curfew_core::State;

/// What the policy `curfew-accounts` says of a request that changes more than its own labels and annotations. The
/// agent itself asks for nothing else.
const CHANGED_ON_THE_WAY: &str = "which a mutating admission webhook or policy may have added";

/// What would help.
pub(super) fn advice(block: &EvictionBlock) -> Cow<'static, str> {
    let advice = match &block.why {
        EvictionOutcome::Budget { .. } => return budget_advice(block),
        EvictionOutcome::MultipleBudgets(_) => {
            "leave only one PodDisruptionBudget whose selector matches the pod"
        }
        EvictionOutcome::Denied(_) => {
            "an admission webhook or policy that is not part of Curfew denies it"
        }
        _ => "check the rights of the ServiceAccount curfew-agent",
    };
    advice.into()
}

fn budget_advice(block: &EvictionBlock) -> Cow<'static, str> {
    const UNREADY: &str = "the pod is not ready: unhealthyPodEvictionPolicy: AlwaysAllow in that budget would \
                           allow its eviction; otherwise";
    match (block.policy_would_free, block.never) {
        (true, Some(never)) => format!("{UNREADY}, {never}").into(),
        (true, None) => format!("{UNREADY} it is evicted when the budget allows it").into(),
        (false, None) if block.dry_run => {
            "it would be evicted as soon as the budget allows it".into()
        }
        (false, Some(never)) => never.to_string().into(),
        (false, None) => "it is evicted as soon as the budget allows it".into(),
    }
}

/// What would help where the API server refused a change of a pod's metadata for this reason.
pub(super) fn marks_advice(why: &str) -> &'static str {
    if why.contains(CHANGED_ON_THE_WAY) {
        "a mutating admission webhook or policy changes pods that Curfew updates (kubectl get \
         mutatingwebhookconfigurations,mutatingadmissionpolicies lists them): exclude the requests of \
         system:serviceaccount:curfew:curfew-agent from it"
    } else {
        "exclude the requests of system:serviceaccount:curfew:curfew-agent from whatever refuses them"
    }
}

/// The state of a pod that was refused for this reason.
pub(super) fn state(why: &EvictionOutcome) -> State {
    match why.is_blocked() {
        true => State::Blocked,
        false => State::Retrying,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::kubernetes_event::tests::block;
    use curfew_core::budget::NeverRoom;

    #[test]
    fn whoever_changes_pods_on_the_way_is_to_leave_the_agent_out() {
        let policy = include_str!("../../../manifests/base/admission-accounts.yaml");
        assert_eq!(policy.matches(CHANGED_ON_THE_WAY).count(), 2);
        let changed = format!("denied request: spec.containers, {CHANGED_ON_THE_WAY}");
        assert!(marks_advice(&changed).contains("mutatingwebhookconfigurations"));
        assert!(!marks_advice("denied the request: no").contains("mutating"));
    }

    #[test]
    fn a_budget_that_never_has_room_is_not_waited_for() {
        let mut never = block(false);
        assert_eq!(
            advice(&never),
            "it is evicted as soon as the budget allows it"
        );
        never.never = Some(NeverRoom::NoneUnavailable);
        let text = advice(&never);
        assert!(
            text.starts_with(
                "this budget never allows an eviction, because its maxUnavailable is 0"
            ),
            "{text}"
        );
        never.policy_would_free = true;
        let text = advice(&never);
        assert!(
            text.contains("AlwaysAllow") && text.contains("never allows an eviction"),
            "{text}"
        );
    }
}
