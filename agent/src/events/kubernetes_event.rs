//! The text of each Event, as `kubectl describe pod` and `kubectl events` show it.
//!
//! Parts of sentences come from [`super::advice`], and, because others show them too, from `Ending` and the budgets in
//! `curfew-core` and from [`EvictionOutcome::message`].

use std::{borrow::Cow, time::Duration};

use curfew_agent_state::{
    Consequence, DomainEvent, EvictionBlock, EvictionOrder, EvictionOutcome, NewInteraction,
    StoreLoss,
};
use curfew_core::{
    Action, Drift, Exemption, Kind, PodId, RecordedInteraction, State,
    drift::Verdict,
    duration,
    text::{cut, visible},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use super::advice::{advice, marks_advice, state};

/// Who reports, in Events.
const CONTROLLER: &str = "curfew.dev/agent";

/// The API server's limit of a note is 1,024 bytes.
const MAX_NOTE: usize = 1024;

/// As much of a user's name as a note has room for.
const MAX_USER: usize = 256;

/// What an Event says, and of what.
struct EventContent {
    regarding: ObjectReference,
    related: Option<ObjectReference>,
    warning: bool,
    reason: &'static str,
    action: &'static str,
    note: String,
}

/// The Event that tells it, if one does. `stamp` makes its name one of its own.
pub(super) fn of(
    event: &DomainEvent,
    instance: &str,
    now: Timestamp,
    stamp: i128,
) -> Option<Event> {
    let telling = telling(event)?;
    let stem = name_stem(telling.regarding.name.as_deref().unwrap_or_default());
    // As client-go names them; the pod's name may be as long as an Event's. A series is found again by
    // its name.
    let name = match event {
        DomainEvent::Blocked(block) | DomainEvent::StillBlocked(block) => {
            format!("{stem}.{:x}.blocked", block.since.as_nanosecond())
        }
        _ => format!("{stem}.{stamp:x}"),
    };
    // Events of what has no namespace stand in the default one.
    let namespace = telling.regarding.namespace.as_deref().unwrap_or("default");
    Some(Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name),
            ..ObjectMeta::default()
        },
        regarding: Some(telling.regarding),
        related: telling.related,
        type_: Some(if telling.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(telling.reason.to_owned()),
        action: Some(telling.action.to_owned()),
        // Users' names, commands and reasons are what others typed.
        note: Some(cut(&visible(&telling.note), MAX_NOTE).into_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    })
}

/// Lets an Event stand for several of its kind, of which it tells the latest and the first was then.
pub(super) fn stand_for(event: &mut Event, times: u32, since: Timestamp) {
    let more = format!("; and {} more of this kind since {since}", times - 1);
    let note = event.note.take().unwrap_or_default();
    event.note = Some(cut(&note, MAX_NOTE - more.len()).into_owned() + &more);
    let latest = event.event_time.replace(MicroTime(since));
    event.series = Some(EventSeries {
        count: times.try_into().unwrap_or(i32::MAX),
        last_observed_time: latest.unwrap_or(MicroTime(since)),
    });
}

/// Whether an Event tells it.
pub(super) fn tells(event: &DomainEvent) -> bool {
    telling(event).is_some()
}

fn telling(event: &DomainEvent) -> Option<EventContent> {
    let pod_event = |pod, warning, reason, action, note| EventContent {
        regarding: of_pod(pod),
        related: None,
        warning,
        reason,
        action,
        note,
    };
    let telling = match event {
        DomainEvent::Interaction(new) => {
            let warning = new.known.terms.action == Action::Evict;
            pod_event(&new.pod, warning, "PodInteraction", "Interact", interaction(new))
        }
        DomainEvent::Extended(change) => {
            let what = match &change.extension {
                Some(extension) => format!(
                    "{} extended the time of the pod by {}",
                    by(&extension.requester),
                    cut(&extension.text, 64)
                ),
                None => "the extension of the pod was removed".to_owned(),
            };
            let note = format!("{what}; {}", follows(change.consequence, change.dry_run));
            pod_event(&change.pod, false, "PodInteractionExtended", "Extend", note)
        }
        DomainEvent::Held(change) => match &change.hold {
            Some(hold) => {
                let follows = match change.consequence {
                    Consequence::EvictionAt(at) => {
                        let will_be = will_be(change.dry_run);
                        format!("unless it is released, it {will_be} evicted at {at}")
                    }
                    other => follows(other, change.dry_run),
                };
                let note = format!(
                    "{} holds the pod; {follows}; reason: {}",
                    by(&hold.requester),
                    hold.reason
                );
                pod_event(&change.pod, false, "PodInteractionHeld", "Hold", note)
            }
            None => {
                let follows = follows(change.consequence, change.dry_run);
                let note = format!("the hold of the pod was removed; {follows}");
                pod_event(&change.pod, false, "PodInteractionReleased", "Release", note)
            }
        },
        DomainEvent::EvictNow(EvictionOrder {
            pod,
            order,
            consequence,
            ..
        }) => {
            let follows = match consequence {
                Consequence::TooLate => "; it is already terminating",
                _ => "",
            };
            let note = format!(
                "{} ordered to evict the pod now{follows}; reason: {}",
                by(&order.requester),
                order.reason
            );
            pod_event(pod, true, "PodInteractionEvictNow", "EvictNow", note)
        }
        DomainEvent::Evicted(eviction) => {
            let (what, reason, action) = match eviction.dry_run {
                true => (
                    "dry run: the API server would have evicted the pod, and nothing was done",
                    "PodInteractionWouldEvict",
                    "DryRun",
                ),
                false => ("evicted", "PodInteractionEvicted", "Evict"),
            };
            let time = eviction.eviction_time;
            let mut note = match (&eviction.evict_now, &eviction.decisive) {
                (Some(order), _) => format!(
                    "{what}: {} ordered it, effective from {time}, with the reason: {}",
                    by(&order.requester),
                    order.reason
                ),
                (None, Some(RecordedInteraction { interaction: did, .. })) => format!(
                    "{what}: its time ended at {time}, after {} interacted with it ({}) at {}",
                    by(&did.user),
                    did.kind,
                    did.time
                ),
                (None, None) => format!("{what}: its time ended at {time}"),
            };
            // A pod that was detached before has no controller any more, but was replaced.
            if eviction.bare && eviction.evict_now.is_none() {
                note += match eviction.dry_run {
                    true => "; it has no controller, so nothing would have replaced it",
                    false => "; it has no controller, so nothing replaces it",
                };
            }
            pod_event(&eviction.pod, false, reason, action, note)
        }
        DomainEvent::Drifted(found) if found.drift.verdict == Verdict::Changed => {
            let mut note = "something in the pod has changed since the first interaction".to_owned();
            note += &counts(&found.drift);
            if let Some(at) = found.eviction_time {
                note += &format!("; it {} evicted at {at}", will_be(found.dry_run));
            }
            // Last, so that nothing else is lost when it is cut.
            note += &findings(&found.drift);
            pod_event(&found.pod, true, "PodInteractionChanged", "Look", note)
        }
        DomainEvent::Released(released) => {
            let not_evicted = match released.dry_run {
                true => "dry run: the pod would not have been evicted",
                false => "the pod is not evicted",
            };
            let note = format!(
                "{not_evicted}: when its files and processes were looked at, at {}, nothing had changed since the \
                 first interaction, and no session went on",
                released.drift.time
            );
            pod_event(&released.pod, false, "PodInteractionUnchanged", "Release", note)
        }
        DomainEvent::Unmarked(refusal) if !refusal.again => {
            let why = &refusal.why;
            let follows = match refusal.eviction_time {
                Some(at) if refusal.dry_run => format!("it would still be evicted at {at} (dry run)"),
                Some(at) => format!("it will still be evicted at {at}"),
                None => "no timer runs for it".to_owned(),
            };
            let note = format!(
                "the labels and annotations of the pod cannot show the interactions with it; {follows}; {}; \
                 the API server says: {why}",
                marks_advice(why)
            );
            pod_event(&refusal.pod, true, "PodInteractionNotMarked", "Mark", note)
        }
        DomainEvent::Blocked(block) | DomainEvent::StillBlocked(block) => {
            let what = match block.dry_run {
                true => "dry run: the API server would not have evicted the pod yet",
                false => "cannot be evicted yet",
            };
            let note = format!(
                "{what}: {}; {}",
                block.why.message(),
                advice(block)
            );
            blocked(block, state(&block.why), note)
        }
        DomainEvent::Stuck(block) => {
            let (at, why) = (block.eviction_time, block.why.message());
            let what = match block.dry_run {
                true => format!(
                    "dry run: the eviction was due at {at}, and the API server would still refuse it; it is not \
                     asked again"
                ),
                false => format!("should have been evicted at {at} and is still running"),
            };
            let note = format!("{what}: {why}; {}", advice(block));
            blocked(block, State::Stuck, note)
        }
        DomainEvent::StoreRebuilt { node, loss } => EventContent {
            regarding: of_node(node),
            related: None,
            warning: true,
            reason: "StoreRebuilt",
            action: "Rebuild",
            note: match loss {
                StoreLoss::Moved(moved_to) => format!(
                    "the agent's store was damaged and moved to {moved_to}; the records of the node's pods \
                     were rebuilt from their metadata; delete the damaged store when it is no longer needed \
                     for diagnosis"
                ),
                StoreLoss::Deleted => "the agent's store was deleted while the agent was using it; the agent \
                                       created a new one and wrote what it knows about the node's pods; \
                                       exclude the folder of the store from whatever deletes files on the node"
                    .to_owned(),
                StoreLoss::Batches(lost) => format!(
                    "the agent's store had lost its latest {lost} writes when the agent started, because its file was \
                     damaged, replaced or deleted; what was lost was rebuilt from the metadata of the node's pods"
                ),
            },
        },
        // Logged only; that a pod cannot be marked is told once.
        DomainEvent::Stored(_)
        | DomainEvent::Marked { .. }
        | DomainEvent::MarkFailed { .. }
        | DomainEvent::Unmarked(_)
        | DomainEvent::Drifted(_)
        | DomainEvent::EvictionAnswered(_)
        | DomainEvent::Gone { .. }
        | DomainEvent::ClockWentBack(_)
        | DomainEvent::StoreOpened { .. }
        | DomainEvent::StoreFailed { .. } => return None,
    };
    Some(telling)
}

fn interaction(new: &NewInteraction) -> String {
    let (known, ending, dry_run) = (&new.known, new.ending, new.dry_run);
    let did = &known.interaction;
    let what = match did.kind {
        Kind::Exec => "ran a command",
        Kind::Attach => "attached",
        Kind::Portforward => "forwarded a port",
        Kind::Debug => "added a debug container",
        Kind::Bypass => "began a session that was not admitted, past the API server",
    };
    let who = match did.kind {
        // The node does not tell who it was.
        Kind::Bypass => "somebody".into(),
        _ => by(&did.user),
    };
    let mut note = format!("{who} {what} ({}) at {}", did.kind, did.time);
    if let Some(container) = &did.container {
        note += &format!(", container {container}");
    }
    match (ending, new.eviction_time) {
        (Some(ending), _) => note += &format!("; {ending}"),
        (None, Some(at)) => note += &format!("; the pod {} evicted at {at}", will_be(dry_run)),
        (None, None) => note += "; it is only recorded, and the pod is not evicted",
    }
    let eviction_time = new.eviction_time.filter(|_| ending.is_none());
    if eviction_time.is_some() && known.terms.action == Action::Record {
        note += " because of another interaction";
    }
    if eviction_time.is_some() && known.has_lost_its_exemption() {
        note += match known.terms.exemption {
            Some(Exemption::Completing) => ", because no Job controls it any more",
            _ => ", because it has a controller now",
        };
    }
    if eviction_time.is_some() && dry_run {
        note += " (dry run)";
    }
    if let (None, None, Some(exemption)) = (ending, eviction_time, known.terms.exemption) {
        note += &format!(" ({}: {})", exemption.as_str(), exemption.why());
    }
    if let Some(why) = &known.irregular {
        note += &format!("; irregular: {why}");
    }
    // Last, so that nothing else is lost when it is cut.
    if !did.command.is_empty() {
        note += &format!("; command: {}", did.command);
    }
    note
}

/// What was found, in numbers.
fn counts(drift: &Drift) -> String {
    let summary = drift.summary();
    let counts = summary.split_once(' ');
    counts.map_or_else(String::new, |(_, counts)| format!(" {counts}"))
}

/// What was found first.
fn findings(drift: &Drift) -> String {
    match drift.findings.is_empty() {
        true => String::new(),
        false => format!("; found: {}", drift.findings.join(", ")),
    }
}

/// What is said of an eviction to come.
fn will_be(dry_run: bool) -> &'static str {
    match dry_run {
        true => "would be",
        false => "will be",
    }
}

fn follows(consequence: Consequence, dry_run: bool) -> String {
    let will_be = will_be(dry_run);
    match consequence {
        Consequence::EvictionAt(at) => format!("it {will_be} evicted at {at}"),
        Consequence::TooLong {
            longest: Duration::ZERO,
            at,
        } => format!(
            "this has no effect, because not every interaction with the pod allows an extension; it {will_be} \
             evicted at {at}"
        ),
        Consequence::TooLong { longest, at } => format!(
            "only {} of it counts, the maximum that all interactions with the pod allow; it {will_be} evicted at \
             {at}",
            duration::format(longest)
        ),
        Consequence::TooLate => {
            "this has no effect, because the pod is already terminating".to_owned()
        }
        Consequence::NoTimer => "no timer runs for it".to_owned(),
    }
}

fn blocked(block: &EvictionBlock, state: State, note: String) -> EventContent {
    let related = match &block.why {
        EvictionOutcome::Budget { name, .. } => name.as_deref(),
        _ => None,
    };
    EventContent {
        regarding: of_pod(&block.pod),
        related: related.map(|name| ObjectReference {
            api_version: Some("policy/v1".to_owned()),
            kind: Some("PodDisruptionBudget".to_owned()),
            namespace: Some(block.pod.namespace.clone()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        }),
        warning: true,
        reason: "PodInteractionEvictionBlocked",
        action: state.action(),
        note,
    }
}

/// A user's name, or somebody. What is escaped is longer, and leaves room for the rest all the same.
fn by(user: &str) -> Cow<'_, str> {
    match visible(user) {
        Cow::Borrowed("") => "somebody".into(),
        Cow::Borrowed(user) => cut(user, MAX_USER),
        Cow::Owned(user) => cut(&user, MAX_USER).into_owned().into(),
    }
}

fn of_pod(pod: &PodId) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}

/// The kubelet, too, gives a node's name as its UID, and `kubectl describe node` looks for that.
fn of_node(node: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    }
}

/// As much of a name as leaves room for the rest; it does not end in the separator of labels.
fn name_stem(name: &str) -> &str {
    let end = name.len().min(200);
    name.get(..end)
        .unwrap_or_default()
        .trim_end_matches(['.', '-'])
}

#[cfg(test)]
pub(super) mod tests;
