//! What people can do about a refused eviction.

use std::borrow::Cow;

use curfew_core::State;

use crate::{evict::answer::Outcome, ledger::Block};

/// What would help.
pub(super) fn advice(block: &Block) -> Cow<'static, str> {
    let advice = match &block.why {
        Outcome::Budget { .. } => return budget_advice(block),
        Outcome::Budgets(_) => "leave only one PodDisruptionBudget whose selector matches the pod",
        Outcome::Denied(_) => {
            "an admission webhook or policy that is not Curfew's stands in the way"
        }
        _ => "check the rights of the ServiceAccount curfew-agent",
    };
    advice.into()
}

fn budget_advice(block: &Block) -> Cow<'static, str> {
    const UNREADY: &str = "the pod is not ready: unhealthyPodEvictionPolicy: AlwaysAllow in that budget \
                           would let it go; otherwise";
    match (block.policy_would_free, block.never) {
        (true, Some(never)) => format!("{UNREADY}, {never}").into(),
        (true, None) => format!("{UNREADY} it goes when the budget has room").into(),
        (false, Some(never)) => never.to_string().into(),
        (false, None) => "it goes as soon as the budget has room".into(),
    }
}

/// The state of a pod that was refused for this reason.
pub(super) fn state(why: &Outcome) -> State {
    match why.is_blocked() {
        true => State::Blocked,
        false => State::Retrying,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::event::tests::block;
    use curfew_core::budget::NeverRoom;

    #[test]
    fn a_budget_that_never_has_room_is_not_waited_for() {
        let mut never = block(false);
        assert_eq!(advice(&never), "it goes as soon as the budget has room");
        never.never = Some(NeverRoom::NoneUnavailable);
        let text = advice(&never);
        assert!(
            text.starts_with("this budget never has room, because its maxUnavailable is 0"),
            "{text}"
        );
        never.policy_would_free = true;
        let text = advice(&never);
        assert!(
            text.contains("AlwaysAllow") && text.contains("never has room"),
            "{text}"
        );
    }
}
