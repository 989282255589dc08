//! The lines in the log. One interaction is followed through the logs of webhook and agent by the `id` of its
//! admission request; a line about several has `ids`, with spaces between them.

use curfew_agent_state::{DomainEvent, EvictionBlock, EvictionOrder, Source};
use curfew_core::RecordedInteraction;
use jiff::Timestamp;

/// What became of a pod's timer.
fn timer(before: Option<Timestamp>, after: Option<Timestamp>) -> &'static str {
    match (before, after) {
        (_, None) => "none",
        (None, Some(_)) => "set",
        (Some(before), Some(after)) if before != after => "moved",
        (Some(_), Some(_)) => "stands",
    }
}

fn shown(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// The request of an interaction, if there is one.
fn request(known: Option<&RecordedInteraction>) -> &str {
    known.map_or("", |known| &known.interaction.request)
}

/// Logs it. Each line has the key `event`, as those of the webhook have, so that one search finds an
/// interaction's whole life.
pub(super) fn line(node: &str, event: &DomainEvent) {
    match event {
        DomainEvent::Stored(stored) => {
            let did = &stored.interaction;
            tracing::info!(
                event = "stored", node, pod = %stored.pod, uid = stored.pod.uid, id = did.request, user = did.user,
                kind = %did.kind, container = did.container, command = %did.command, time = %did.time,
                timer = timer(stored.before, stored.eviction_time), eviction_time = shown(stored.eviction_time),
                interactions = stored.interactions, "stored"
            );
        }
        DomainEvent::Interaction(new) => {
            let did = &new.known.interaction;
            let (pod, eviction_time) = (&new.pod, shown(new.eviction_time));
            match new.source {
                // It was logged when it was stored.
                Source::Notice => {}
                Source::Metadata => tracing::info!(
                    event = "learned", node, %pod, uid = pod.uid, id = did.request, user = did.user, kind = %did.kind,
                    container = did.container, command = %did.command, time = %did.time, eviction_time,
                    "learned from the pod"
                ),
                Source::Controller => tracing::info!(
                    event = "exemption-ended", node, %pod, uid = pod.uid, id = did.request, eviction_time,
                    "no longer exempt: the pod has a controller"
                ),
                Source::Leftovers => tracing::warn!(
                    event = "irregular", node, %pod, uid = pod.uid, id = did.request, user = did.user, eviction_time,
                    irregular = new.known.irregular.as_deref(), "irregular by what its session left behind"
                ),
            }
        }
        DomainEvent::Extended(change) => {
            let extension = change.extension.as_ref();
            tracing::info!(
                event = "extension", node, pod = %change.pod, uid = change.pod.uid, id = change.id,
                consequence = change.consequence.as_str(), eviction_time = shown(change.consequence.eviction_time()),
                dry_run = change.dry_run, maximum = change.maximum,
                extension = extension.map(|extension| extension.text.as_str()),
                user = extension.map(|extension| extension.requester.as_str()),
                "extension"
            );
        }
        DomainEvent::Held(change) => {
            let hold = change.hold.as_ref();
            tracing::info!(
                event = "hold", node, pod = %change.pod, uid = change.pod.uid, id = change.id,
                consequence = change.consequence.as_str(), eviction_time = shown(change.consequence.eviction_time()),
                dry_run = change.dry_run, held = hold.is_some(),
                user = hold.map(|hold| hold.requester.as_str()), reason = hold.map(|hold| hold.reason.as_str()),
                "hold"
            );
        }
        DomainEvent::EvictNow(EvictionOrder {
            pod,
            id,
            order,
            consequence,
        }) => tracing::info!(
            event = "evict-now", node, %pod, uid = pod.uid, id, consequence = consequence.as_str(),
            eviction_time = shown(consequence.eviction_time()), user = order.requester, reason = order.reason,
            "ordered to evict the pod now"
        ),
        DomainEvent::Evicted(eviction) => {
            let (pod, id) = (&eviction.pod, request(eviction.decisive.as_ref()));
            let (ids, eviction_time) = (&eviction.ids, eviction.eviction_time);
            match eviction.dry_run {
                true => tracing::info!(
                    event = "would-evict", node, %pod, uid = pod.uid, id, ids, %eviction_time,
                    "dry run: the API server would have evicted the pod"
                ),
                false => tracing::info!(
                    event = "evicted", node, %pod, uid = pod.uid, id, ids, %eviction_time,
                    ordered = eviction.evict_now.is_some(), "evicted"
                ),
            }
        }
        DomainEvent::Drifted(found) => tracing::info!(
            event = "drift", node, pod = %found.pod, uid = found.pod.uid, id = found.id,
            verdict = found.drift.verdict.as_str(), drift = found.drift.summary(), sessions = found.drift.sessions,
            "looked at the containers"
        ),
        DomainEvent::Released(released) => tracing::info!(
            event = "released", node, pod = %released.pod, uid = released.pod.uid,
            id = request(released.decisive.as_ref()), ids = released.ids, dry_run = released.dry_run,
            "not evicted: nothing had changed"
        ),
        DomainEvent::Blocked(block) => tracing::warn!(
            event = "blocked", node, pod = %block.pod, uid = block.pod.uid, id = block.id,
            reason = block.why.as_str(), answer = block.why.message(), dry_run = block.dry_run, "eviction blocked"
        ),
        // That it goes on is no news here.
        DomainEvent::StillBlocked(_) => {}
        // Nobody waits for it.
        DomainEvent::Stuck(EvictionBlock { dry_run: true, .. }) => {}
        DomainEvent::Stuck(block) => tracing::error!(
            event = "stuck", node, pod = %block.pod, uid = block.pod.uid, id = block.id,
            reason = block.why.as_str(), answer = block.why.message(), eviction_time = %block.eviction_time,
            "eviction blocked for too long"
        ),
        DomainEvent::EvictionAnswered(answer) => tracing::debug!(
            event = "eviction-answered", node, pod = %answer.pod, uid = answer.pod.uid, id = answer.id,
            outcome = answer.outcome.as_str(), dry_run = answer.dry_run, answer = answer.outcome.message(),
            "requested an eviction"
        ),
        DomainEvent::Marked { pod, ids, missing } => {
            tracing::info!(event = "marked", node, %pod, uid = pod.uid, ids, missing, "marked");
        }
        DomainEvent::MarkFailed { pod, ids, error } => tracing::warn!(
            event = "mark-failed", node, %pod, uid = pod.uid, ids, error,
            "cannot write the pod's metadata yet"
        ),
        DomainEvent::Unmarked(refusal) => tracing::error!(
            event = "mark-refused", node, pod = %refusal.pod, uid = refusal.pod.uid, ids = refusal.ids,
            code = refusal.code, error = refusal.why,
            "the pod's metadata cannot be written; the pod is still evicted on time"
        ),
        DomainEvent::Gone { pod, id, ids } => {
            tracing::info!(event = "gone", node, %pod, uid = pod.uid, id, ids, "gone");
        }
        DomainEvent::ClockWentBack(by) => {
            tracing::warn!(
                event = "clock-went-back",
                node,
                seconds = by.as_secs(),
                "the clock jumped back"
            );
        }
        DomainEvent::StoreOpened {
            writable: false, ..
        } => {}
        DomainEvent::StoreOpened {
            records, set_aside, ..
        } => tracing::info!(
            event = "store-opened",
            node,
            records,
            set_aside,
            "the store is open"
        ),
        // It is tried every second; that it is open is told when that went well.
        DomainEvent::StoreFailed { again: true, .. } => {}
        DomainEvent::StoreFailed { error, records, .. } => tracing::error!(
            event = "store-failed",
            node,
            error,
            records,
            "the store cannot be written; the agent retries, and interactions are recorded on the pods in the \
             meantime"
        ),
        // Logged, with its cause, where the damaged one was moved aside or the deleted one was missed.
        DomainEvent::StoreRebuilt { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn says_what_became_of_the_timer() {
        let (early, late) = (Some(at(600)), Some(at(900)));
        assert_eq!(timer(None, None), "none");
        assert_eq!(timer(None, late), "set");
        assert_eq!(timer(late, early), "moved");
        assert_eq!(timer(early, early), "stands");
    }
}
