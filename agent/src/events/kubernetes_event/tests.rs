use super::*;
use crate::testing::{at, record, shell};
use curfew_agent_state::{
    EvictionOrder, ExtensionChange, HoldChange, MarkRefusal, PodEviction, Source,
};
use curfew_core::{
    Command, Ending, RecordedInteraction, interaction,
    record::{EvictNow, Extension, Hold},
};
use std::time::Duration;

fn event(happened: &DomainEvent) -> Event {
    of(happened, "curfew-agent-x", at(0), 7).unwrap()
}

fn note_of(happened: &DomainEvent) -> String {
    event(happened).note.unwrap()
}

pub(in crate::events) fn block(policy_would_free: bool) -> EvictionBlock {
    EvictionBlock {
        pod: record("u-1", shell(0)).pod,
        id: "request-0".into(),
        why: EvictionOutcome::Budget {
            name: Some("web".into()),
            why: "The disruption budget web needs 2 healthy pods and has 1 currently".into(),
        },
        policy_would_free,
        never: None,
        eviction_time: at(600),
        dry_run: false,
        since: at(601),
        times: 1,
    }
}

#[test]
fn says_who_how_which_command_when_and_what_follows() {
    let event = DomainEvent::Interaction(NewInteraction {
        pod: record("u-1", shell(0)).pod,
        known: shell(0),
        source: Source::Notice,
        eviction_time: Some(at(600)),
        dry_run: false,
        ending: None,
        more: None,
    });
    assert_eq!(
        note_of(&event),
        "alice ran a command (exec) at 2027-01-15T08:00:00Z, container app; the pod will be \
         evicted at 2027-01-15T08:10:00Z; command: sh -c id"
    );
}

#[test]
fn promises_no_eviction_of_a_pod_that_ends() {
    let told = |ending, known: RecordedInteraction| {
        let event = event(&DomainEvent::Interaction(NewInteraction {
            pod: record("u-1", shell(0)).pod,
            known,
            source: Source::Notice,
            eviction_time: Some(at(600)),
            dry_run: false,
            ending,
            more: None,
        }));
        (event.type_.unwrap(), event.note.unwrap())
    };
    for (ending, says) in [
        (Ending::Terminating, "the pod is already terminating"),
        (Ending::Finished, "the pod has already ended by itself"),
    ] {
        let (_, note) = told(Some(ending), shell(0));
        assert!(
            note.contains(says) && !note.contains("evicted at"),
            "{note}"
        );
    }
    let mut known = shell(0);
    assert_eq!(told(None, known.clone()).0, "Warning");
    known.terms.action = Action::Record;
    assert_eq!(told(None, known).0, "Normal");
}

#[test]
fn says_why_no_timer_starts_and_why_it_does_after_all() {
    let told = |known: RecordedInteraction, source, eviction_time| {
        note_of(&DomainEvent::Interaction(NewInteraction {
            pod: record("u-1", shell(0)).pod,
            known,
            source,
            eviction_time,
            dry_run: false,
            ending: None,
            more: None,
        }))
    };
    for &exemption in Exemption::ALL {
        let mut known = shell(0);
        known.terms.action = Action::Record;
        known.terms.exemption = Some(exemption);
        let note = told(known.clone(), Source::Notice, None);
        let says = format!(
            "is not evicted ({}: {})",
            exemption.as_str(),
            exemption.why()
        );
        assert!(note.contains(&says), "{note}");
        known.terms.action = Action::Evict;
        let note = told(known, Source::Controller, Some(at(600)));
        let because = match exemption {
            Exemption::Unmanaged => Some("because it has a controller now"),
            Exemption::Completing => Some("because no Job controls it any more"),
            Exemption::Harmless | Exemption::Protected => None,
        };
        assert!(
            because.is_none_or(|because| note.contains(because)),
            "{note}"
        );
    }
}

#[test]
fn says_that_nothing_replaces_a_bare_pod() {
    let told = |bare| {
        note_of(&DomainEvent::Evicted(PodEviction {
            pod: record("u-1", shell(0)).pod,
            decisive: Some(shell(0)),
            evict_now: None,
            ids: String::new(),
            eviction_time: at(600),
            dry_run: false,
            bare,
        }))
    };
    assert!(told(true).ends_with("; it has no controller, so nothing replaces it"));
    assert!(!told(false).contains("controller"));
}

#[test]
fn an_order_is_told_with_who_gave_it_and_why() {
    let order = EvictNow {
        reason: "shell of an unknown user".into(),
        requester: "ann".into(),
        since: Some(at(60)),
    };
    let told = |consequence| {
        event(&DomainEvent::EvictNow(EvictionOrder {
            pod: record("u-1", shell(0)).pod,
            id: String::new(),
            order: order.clone(),
            consequence,
        }))
    };
    let ordered = told(Consequence::EvictionAt(at(60)));
    assert_eq!(ordered.reason.as_deref(), Some("PodInteractionEvictNow"));
    assert_eq!(ordered.type_.as_deref(), Some("Warning"));
    assert_eq!(
        ordered.note.unwrap(),
        "ann ordered to evict the pod now; reason: shell of an unknown user"
    );
    let late = told(Consequence::TooLate).note.unwrap();
    assert!(late.contains("; it is already terminating;"), "{late}");
    for decisive in [None, Some(shell(0))] {
        let note = note_of(&DomainEvent::Evicted(PodEviction {
            pod: record("u-1", shell(0)).pod,
            decisive,
            evict_now: Some(order.clone()),
            ids: String::new(),
            eviction_time: at(60),
            dry_run: false,
            bare: true,
        }));
        assert_eq!(
            note,
            "evicted: ann ordered it, effective from 2027-01-15T08:01:00Z, with the reason: \
             shell of an unknown user"
        );
    }
}

#[test]
fn names_the_budget_its_numbers_and_what_would_help() {
    let told = event(&DomainEvent::Blocked(block(false)));
    let note = told.note.unwrap();
    assert!(
        note.contains("budget web needs 2 healthy pods and has 1"),
        "{note}"
    );
    assert_eq!(told.related.unwrap().name.as_deref(), Some("web"));
    let note = note_of(&DomainEvent::Stuck(block(true)));
    assert!(
        note.contains("is still running") && note.contains("AlwaysAllow"),
        "{note}"
    );
}

#[test]
fn the_action_tells_the_state() {
    let action = |happened| event(&happened).action.unwrap();
    assert_eq!(action(DomainEvent::Blocked(block(false))), "Evict");
    assert_eq!(action(DomainEvent::Stuck(block(false))), "EvictStuck");
    let mut denied = block(false);
    denied.why = EvictionOutcome::Denied("no".into());
    assert_eq!(action(DomainEvent::Blocked(denied)), "EvictRetrying");
}

#[test]
fn a_series_keeps_its_name_and_all_others_have_their_own() {
    let mut later = block(false);
    later.times = 9;
    let first = event(&DomainEvent::Blocked(block(false)));
    let again = event(&DomainEvent::StillBlocked(later.clone()));
    assert_eq!(first.metadata.name, again.metadata.name);
    assert_ne!(
        first.metadata.name,
        event(&DomainEvent::Stuck(later)).metadata.name
    );
}

#[test]
fn tells_what_follows_from_extension_and_hold() {
    let pod = record("u-1", shell(0)).pod;
    let extended = |consequence| {
        note_of(&DomainEvent::Extended(ExtensionChange {
            pod: pod.clone(),
            id: "request-0".into(),
            extension: Some(Extension {
                by: Duration::from_secs(1800),
                text: "30m".into(),
                requester: "bob".into(),
            }),
            maximum: false,
            consequence,
            dry_run: false,
        }))
    };
    assert_eq!(
        extended(Consequence::EvictionAt(at(2400))),
        "bob extended the time of the pod by 30m; it will be evicted at 2027-01-15T08:40:00Z"
    );
    assert!(extended(Consequence::TooLate).contains("already terminating"));
    let cut = |seconds| {
        extended(Consequence::TooLong {
            longest: Duration::from_secs(seconds),
            at: at(660),
        })
    };
    assert_eq!(
        cut(60),
        "bob extended the time of the pod by 30m; only 1m0s of it counts, the maximum that all \
         interactions with the pod allow; it will be evicted at 2027-01-15T08:11:00Z"
    );
    assert!(cut(0).contains("has no effect"));
    let held = event(&DomainEvent::Held(HoldChange {
        pod: pod.clone(),
        id: "request-0".into(),
        hold: Some(Hold {
            reason: "evidence".into(),
            requester: String::new(),
        }),
        consequence: Consequence::EvictionAt(at(9000)),
        dry_run: false,
    }));
    assert_eq!(
        (held.reason.as_deref(), held.note.as_deref()),
        (
            Some("PodInteractionHeld"),
            Some(
                "somebody holds the pod; unless it is released, it will be evicted at \
                 2027-01-15T10:30:00Z; reason: evidence"
            )
        )
    );
}

#[test]
fn several_of_a_kind_are_told_in_one() {
    let mut known = shell(0);
    known.interaction.command = Command::new(["x".repeat(5000)]);
    known.interaction.user = "u".repeat(interaction::MAX_USER);
    let mut event = event(&DomainEvent::Interaction(NewInteraction {
        pod: record("u-1", shell(0)).pod,
        known,
        source: Source::Notice,
        eviction_time: Some(at(600)),
        dry_run: false,
        ending: None,
        more: None,
    }));
    let latest = event.event_time.clone();
    stand_for(&mut event, 38, at(-60));
    let note = event.note.unwrap();
    assert!(note.ends_with("; and 37 more of this kind since 2027-01-15T07:59:00Z"));
    assert!(note.len() <= MAX_NOTE);
    let series = event.series.unwrap();
    assert_eq!(
        (series.count, Some(series.last_observed_time)),
        (38, latest)
    );
    assert_eq!(event.event_time, Some(MicroTime(at(-60))));
}

#[test]
fn nothing_that_a_terminal_obeys_is_told() {
    let mut known = shell(0);
    known.interaction.command = Command::new(["echo", "\u{1b}[2J\u{7}\u{202e}gnp"]);
    let note = note_of(&DomainEvent::Interaction(NewInteraction {
        pod: record("u-1", shell(0)).pod,
        known,
        source: Source::Notice,
        eviction_time: None,
        dry_run: false,
        ending: None,
        more: None,
    }));
    assert!(!note.contains(curfew_core::text::is_unsafe), "{note:?}");
    assert!(note.contains("\\u{1b}[2J\\u{7}\\u{202e}gnp"), "{note}");
}

#[test]
fn fits_the_limits_of_the_api_whatever_users_send() {
    let mut known = shell(0);
    known.interaction.user = "ü".repeat(interaction::MAX_USER / 2);
    known.interaction.command = Command::new(["x".repeat(5000)]);
    let mut pod = record("u-1", shell(0)).pod;
    pod.name = "a.".repeat(126);
    let event = event(&DomainEvent::Interaction(NewInteraction {
        pod,
        known,
        source: Source::Notice,
        eviction_time: Some(at(600)),
        dry_run: false,
        ending: None,
        more: None,
    }));
    let note = event.note.unwrap();
    assert!(note.len() <= MAX_NOTE, "{}", note.len());
    assert!(note.contains("evicted at"));
    let name = event.metadata.name.unwrap();
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
}

#[test]
fn says_what_a_pod_without_marks_comes_to() {
    let told = |eviction_time| {
        event(&DomainEvent::Unmarked(MarkRefusal {
            pod: record("u-1", shell(0)).pod,
            ids: "request-0".to_owned(),
            code: 403,
            why: "denied the request: ".to_owned() + &"x".repeat(500),
            eviction_time,
            dry_run: false,
            again: false,
        }))
    };
    let timed = told(Some(at(600)));
    assert_eq!(timed.reason.as_deref(), Some("PodInteractionNotMarked"));
    assert_eq!(timed.type_.as_deref(), Some("Warning"));
    let note = timed.note.unwrap();
    assert!(
        note.contains("it will still be evicted at 2027-01-15T08:10:00Z"),
        "{note}"
    );
    assert!(
        note.len() <= MAX_NOTE && note.contains("the API server says: denied"),
        "{note}"
    );
    assert!(told(None).note.unwrap().contains("no timer runs for it"));
}

#[test]
fn a_dry_run_is_told_in_the_conditional() {
    let interaction = note_of(&DomainEvent::Interaction(NewInteraction {
        pod: record("u-1", shell(0)).pod,
        known: shell(0),
        source: Source::Notice,
        eviction_time: Some(at(600)),
        dry_run: true,
        ending: None,
        more: None,
    }));
    let says = "; the pod would be evicted at 2027-01-15T08:10:00Z (dry run); command";
    assert!(interaction.contains(says), "{interaction}");
    let told = event(&DomainEvent::Evicted(PodEviction {
        pod: record("u-1", shell(0)).pod,
        decisive: Some(shell(0)),
        evict_now: None,
        ids: String::new(),
        eviction_time: at(600),
        dry_run: true,
        bare: true,
    }));
    assert_eq!(told.reason.as_deref(), Some("PodInteractionWouldEvict"));
    let note = told.note.unwrap();
    assert!(
        note.starts_with("dry run: the API server would have evicted the pod"),
        "{note}"
    );
    assert!(note.ends_with("nothing would have replaced it"), "{note}");
    let mut blocked = block(false);
    blocked.dry_run = true;
    let told = event(&DomainEvent::Blocked(blocked.clone()));
    assert_eq!(
        told.reason.as_deref(),
        Some("PodInteractionEvictionBlocked")
    );
    assert_eq!(told.related.unwrap().name.as_deref(), Some("web"));
    let note = told.note.unwrap();
    assert!(
        note.starts_with("dry run: the API server would not have evicted"),
        "{note}"
    );
    assert!(
        note.ends_with("it would be evicted as soon as the budget allows it"),
        "{note}"
    );
    let note = note_of(&DomainEvent::Stuck(blocked));
    assert!(
        note.contains("would still refuse it; it is not asked again"),
        "{note}"
    );
    for consequence in [
        Consequence::EvictionAt(at(600)),
        Consequence::TooLong {
            longest: Duration::from_secs(60),
            at: at(600),
        },
        Consequence::TooLong {
            longest: Duration::ZERO,
            at: at(600),
        },
    ] {
        let pod = record("u-1", shell(0)).pod;
        let extended = note_of(&DomainEvent::Extended(ExtensionChange {
            pod: pod.clone(),
            id: String::new(),
            extension: None,
            consequence,
            dry_run: true,
            maximum: false,
        }));
        let held = note_of(&DomainEvent::Held(HoldChange {
            pod,
            id: String::new(),
            hold: Some(Hold {
                reason: "evidence".into(),
                requester: String::new(),
            }),
            consequence,
            dry_run: true,
        }));
        for note in [extended, held] {
            assert!(note.contains("it would be evicted at"), "{note}");
            assert!(!note.contains("will be"), "{note}");
        }
    }
}
