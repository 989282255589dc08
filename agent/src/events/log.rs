//! The lines in the log. One interaction is followed through the logs of webhook and agent by the `id` of its
//! admission request; a line about several has `ids`, with spaces between them.

use curfew_agent_state::{Announcement, Block, Source};
use curfew_core::{Interaction, Record};
use jiff::Timestamp;

/// A notice of this was stored, which is all that it takes for the webhook to admit it.
pub(crate) fn stored(node: &str, did: &Interaction, before: Option<Timestamp>, record: &Record) {
    let pod = &record.pod;
    tracing::info!(
        node, %pod, uid = pod.uid, id = did.request, user = did.user, kind = %did.kind,
        container = did.container, command = %did.command, time = %did.time,
        timer = timer(before, record.eviction_time()), eviction_time = shown(record.eviction_time()),
        interactions = record.interactions(), "stored"
    );
}

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

/// Something was announced. That it goes on is no news here.
pub(crate) fn announcement(node: &str, announcement: &Announcement) {
    match announcement {
        Announcement::Interaction {
            source: Source::Notice,
            ..
        } => {}
        Announcement::Interaction {
            pod,
            known,
            source: Source::Metadata,
            eviction_time,
            ..
        } => {
            let did = &known.interaction;
            tracing::info!(
                node, %pod, uid = pod.uid, id = did.request, user = did.user, kind = %did.kind,
                container = did.container, command = %did.command, time = %did.time,
                eviction_time = shown(*eviction_time), "learned from the pod"
            );
        }
        Announcement::Interaction {
            pod,
            known,
            source: Source::Controller,
            eviction_time,
            ..
        } => tracing::info!(
            node, %pod, uid = pod.uid, id = known.interaction.request, eviction_time = shown(*eviction_time),
            "exempt no longer: the pod has a controller"
        ),
        Announcement::Extended {
            pod,
            id,
            extension,
            consequence,
            maximum,
        } => tracing::info!(
            node, %pod, uid = pod.uid, id, consequence = consequence.as_str(),
            eviction_time = shown(consequence.eviction_time()), maximum,
            extension = extension.as_ref().map(|extension| extension.text.as_str()),
            user = extension.as_ref().map(|extension| extension.requester.as_str()),
            "extension"
        ),
        Announcement::Held {
            pod,
            id,
            hold,
            consequence,
        } => tracing::info!(
            node, %pod, uid = pod.uid, id, consequence = consequence.as_str(),
            eviction_time = shown(consequence.eviction_time()), held = hold.is_some(),
            user = hold.as_ref().map(|hold| hold.requester.as_str()),
            reason = hold.as_ref().map(|hold| hold.reason.as_str()),
            "hold"
        ),
        Announcement::Evicted {
            pod,
            decisive,
            ids,
            eviction_time,
            ..
        } => tracing::info!(
            node, %pod, uid = pod.uid, id = decisive.interaction.request, ids, %eviction_time,
            "evicted"
        ),
        Announcement::Blocked(Block { pod, id, why, .. }) => tracing::warn!(
            node, %pod, uid = pod.uid, id, reason = why.as_str(), answer = why.message(),
            "eviction blocked"
        ),
        // The latter is logged with each answer.
        Announcement::StillBlocked(_) | Announcement::Unmarked { .. } => {}
        Announcement::Stuck(Block {
            pod,
            id,
            why,
            eviction_time,
            ..
        }) => tracing::error!(
            node, %pod, uid = pod.uid, id, reason = why.as_str(), answer = why.message(),
            %eviction_time, "eviction blocked for too long"
        ),
        // Logged, with its cause, where the damaged one was moved aside or the deleted one was missed.
        Announcement::StoreRebuilt { .. } => {}
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
