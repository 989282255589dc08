//! The text of the warnings and denials that users see. [`crate::admission`] decides which one is sent.

use curfew_core::{Action, Ending, Enforcement, Kind, PodId, Terms, WhenChanged};
use jiff::Timestamp;

use crate::review::answer::Answer;

/// The interaction is recorded, on these terms.
pub(super) fn recorded(
    pod: &PodId,
    terms: &Terms,
    deadline: Option<Timestamp>,
    dry_run: bool,
    ending: Option<Ending>,
) -> Answer {
    Answer::Allow(Some(match (deadline, ending) {
        (_, Some(ending)) => format!("this interaction with pod {pod} was recorded; {ending}"),
        (Some(deadline), None) if dry_run => format!(
            "this interaction with pod {pod} was recorded; it would be evicted at {deadline} (dry run)"
        ),
        (Some(deadline), None) => {
            let earlier = terms.on_evidence.when_changed == WhenChanged::Now
                && (terms.action, terms.enforcement) == (Action::Evict, Enforcement::Enforce);
            let earlier = match earlier {
                true => ", or as soon as a change in it is found",
                false => "",
            };
            format!("pod {pod} will be evicted at {deadline}{earlier}")
        }
        (None, None) => format!("this interaction with pod {pod} was recorded"),
    }))
}

/// A policy forbids the interaction, which is irregular for these reasons.
pub(super) fn forbidden(pod: &str, kind: Kind, policy: &str, irregular: Option<&str>) -> Answer {
    let irregular = irregular.map_or_else(String::new, |why| format!(" It is irregular: {why}."));
    Answer::Deny {
        code: 403,
        reason: "Forbidden",
        message: format!(
            "InteractionPolicy {policy} forbids this interaction ({kind}) with pod {pod}.{irregular} Nothing was \
             done. `kubectl describe interactionpolicy {policy}` shows to which users and pods it applies."
        ),
    }
}

/// The interaction could be recorded nowhere and is denied. `id` finds the reason in the log.
pub(super) fn denied(pod: &str, node: Option<&str>, id: &str) -> Answer {
    let agent = match node {
        Some(node) => format!("with its agent on node {node}"),
        None => "with its agent".to_owned(),
    };
    Answer::Deny {
        code: 503,
        reason: "ServiceUnavailable",
        message: format!(
            "Curfew records every interaction with a pod before it admits it, and could record this one \
             neither {agent} nor on pod {pod} itself. Nothing was done. Try again in a moment. If it still \
             fails, the cluster's administrators can find the reason in the log of curfew-webhook, id {id}."
        ),
    }
}

/// The policies were never read, and the interaction is denied. `id` finds it in the log.
pub(super) fn undecided(pod: &str, id: &str) -> Answer {
    Answer::Deny {
        code: 503,
        reason: "ServiceUnavailable",
        message: format!(
            "Curfew has not been able to read its InteractionPolicies yet, so it does not know whether one of \
             them forbids this interaction with pod {pod}. Nothing was done. Try again in a moment. If it \
             still fails, the cluster's administrators can find the reason in the log of curfew-webhook, id \
             {id}."
        ),
    }
}

/// The interaction could be recorded nowhere and is let through, for this reason.
pub(super) fn unrecorded(pod: &str, because: &str) -> Answer {
    Answer::Allow(Some(format!(
        "Curfew did not record this interaction with pod {pod}: {because}"
    )))
}
