use super::*;
use crate::{
    interaction::{Command, Kind},
    metadata,
    terms::{Action, Enforcement, OnEvidence},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

mod again;
mod deadline;
mod dry_run;
mod evict_now;
mod evidence;
mod exempt;
mod left;
mod room;

/// Records of one pod may be put together in any order, and more than once.
fn joins_in_any_order(one: Record, other: Record) -> Result<(), TestCaseError> {
    let mut left = one.clone();
    left.join(other.clone());
    let mut right = other.clone();
    right.join(one.clone());
    prop_assert_eq!(&left, &right);
    let mut again = left.clone();
    again.join(one);
    again.join(other);
    prop_assert_eq!(again, left);
    Ok(())
}

fn pod() -> PodId {
    PodId {
        namespace: "shop".into(),
        name: "cart-1".into(),
        uid: "u-1".into(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn known(second: i64, user: &str, action: Action, ttl: u64, request: &str) -> RecordedInteraction {
    RecordedInteraction {
        interaction: Interaction {
            time: at(second),
            kind: Kind::Exec,
            user: user.into(),
            container: Some("app".into()),
            command: Command::new(["sh"]),
            stdin: false,
            tty: false,
            request: request.into(),
        },
        terms: Terms {
            action,
            ttl: Duration::from_secs(ttl),
            max_extension: Duration::from_secs(3600),
            max_hold: Duration::from_secs(7200),
            exemption: None,
            enforcement: Enforcement::Enforce,
            on_evidence: OnEvidence::default(),
        },
        policy: None,
        irregular: None,
    }
}

fn shell(second: i64, user: &str, request: &str) -> RecordedInteraction {
    known(second, user, Action::Evict, 600, request)
}

fn record(all: &[RecordedInteraction]) -> Record {
    let mut record = Record::new(pod(), all[0].clone());
    for known in &all[1..] {
        record.learn(known.clone());
    }
    record
}

fn extended(by: u64) -> Option<Extension> {
    Some(Extension {
        by: Duration::from_secs(by),
        text: format!("{by}s"),
        requester: "alice".into(),
    })
}

fn held(reason: &str) -> Option<Hold> {
    Some(Hold {
        reason: reason.into(),
        requester: "alice".into(),
    })
}

#[test]
fn the_first_that_starts_a_timer_sets_the_deadline() {
    let record = record(&[shell(10, "alice", "a"), shell(50, "bob", "b")]);
    assert_eq!(record.deadline(), Some(at(610)));
    assert_eq!(record.decisive().unwrap().interaction.user, "alice");
    assert_eq!(record.last().unwrap().interaction.user, "bob");
    assert_eq!(record.interactions(), 2);
}

#[test]
fn a_shorter_time_to_live_brings_the_deadline_forward() {
    let record = record(&[
        shell(0, "alice", "a"),
        known(100, "bob", Action::Evict, 60, "b"),
    ]);
    assert_eq!(record.deadline(), Some(at(160)));
}

#[test]
fn what_only_is_recorded_never_shields_a_shell_afterwards() {
    let mut record = record(&[known(0, "alice", Action::Record, 600, "a")]);
    assert_eq!(record.deadline(), None);
    record.learn(shell(5, "alice", "b"));
    assert_eq!(record.deadline(), Some(at(605)));
}

#[test]
fn a_retried_request_and_a_fallback_are_one_interaction() {
    let record = record(&[
        shell(0, "alice", "a"),
        shell(1, "alice", "a"),  // the API server asked again
        shell(2, "alice", "a2"), // kubectl fell back to SPDY
        shell(9, "alice", "b"),
    ]);
    assert_eq!(record.interactions(), 2);
    assert_eq!(record.deadline(), Some(at(600)));
}

#[test]
fn the_same_command_on_other_terms_or_other_streams_is_another_interaction() {
    let mut harmless = known(0, "alice", Action::Record, 600, "a");
    harmless.terms.exemption = Some(Exemption::Harmless);
    let strict = shell(1, "alice", "b");
    let mut typed = shell(1, "alice", "c");
    (typed.interaction.stdin, typed.interaction.tty) = (true, true);
    let mut elsewhere = shell(2, "alice", "d");
    elsewhere.interaction.container = Some("sidecar".into());
    let record = record(&[harmless, strict, typed, elsewhere]);
    assert_eq!((record.interactions(), record.distinct().count()), (4, 4));
    let marks = metadata::read(&pod(), &marks_of(&record)).unwrap();
    assert_eq!(Record::from_marks(pod(), marks).unwrap().interactions(), 4);
}

#[test]
fn the_metadata_tell_the_streams() {
    let mut typed = shell(0, "alice", "a");
    (typed.interaction.stdin, typed.interaction.tty) = (true, true);
    let told = record(&[typed, shell(9, "bob", "b")]);
    let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
    let rebuilt = Record::from_marks(pod(), marks).unwrap();
    let did = &rebuilt.decisive().unwrap().interaction;
    assert_eq!(
        (did.user.as_str(), did.stdin, did.tty),
        ("alice", true, true)
    );
}

#[test]
fn a_loop_of_one_command_is_many_interactions() {
    let all: Vec<_> = (0..10)
        .map(|second| shell(second, "alice", &format!("r{second}")))
        .collect();
    assert_eq!(record(&all).interactions(), 4, "seconds 0, 3, 6 and 9");
}

#[test]
fn an_extension_counts_within_its_maximum_only() {
    let mut record = record(&[shell(0, "alice", "a")]);
    record.extension = extended(1800);
    assert_eq!(record.deadline(), Some(at(2400)));
    record.extension = extended(3601);
    assert_eq!(record.deadline(), Some(at(4200)));
    assert_eq!(record.extension(), Duration::from_secs(3600));
}

#[test]
fn a_hold_ends_at_a_time_that_holding_again_does_not_move() {
    let mut record = record(&[shell(0, "alice", "a")]);
    record.extension = extended(1800);
    assert_eq!(record.eviction_time(), Some(at(2400)));
    record.hold = held("evidence");
    assert_eq!(record.deadline(), Some(at(2400)));
    assert_eq!(record.eviction_time(), Some(at(2400 + 7200)));
    record.hold = held("again");
    assert_eq!(record.eviction_time(), Some(at(2400 + 7200)));
    record.hold = None;
    assert_eq!(record.eviction_time(), Some(at(2400)));
}

#[test]
fn a_hold_keeps_nothing_that_has_no_deadline() {
    let mut record = record(&[known(0, "alice", Action::Record, 600, "a")]);
    record.hold = held("evidence");
    assert_eq!(record.eviction_time(), None);
}

#[test]
fn an_exemption_is_told_as_long_as_nothing_starts_a_timer() {
    let mut harmless = known(0, "alice", Action::Record, 600, "a");
    harmless.terms.exemption = Some(Exemption::Harmless);
    let mut record = record(&[harmless]);
    assert_eq!(record.exemption(), Some(Exemption::Harmless));
    record.learn(shell(5, "alice", "b"));
    assert_eq!(record.exemption(), None);
}

#[test]
fn what_stands_on_the_pod_wins_over_what_was_remembered() {
    let mut kept = record(&[shell(0, "alice", "a")]);
    kept.extension = extended(1800);
    kept.hold = held("evidence");
    let bare = Record {
        extension: None,
        hold: None,
        ..kept.clone()
    };
    // Released while nobody looked.
    kept.absorb(metadata::read(&pod(), &marks_of(&bare)).unwrap());
    assert_eq!((&kept.extension, &kept.hold), (&None, &None));
    // All metadata lost: nobody released anything.
    let mut remembered = bare.clone();
    remembered.hold = held("evidence");
    remembered.absorb(Marks::default());
    assert_eq!(remembered.hold, held("evidence"));
}

#[test]
fn many_interactions_are_counted_and_few_are_kept() {
    let all: Vec<_> = (0..100)
        .map(|n| shell(n * 10, "alice", &format!("r{n}")))
        .collect();
    let record = record(&all);
    assert_eq!(record.interactions(), 100);
    assert_eq!(record.deadline(), Some(at(600)));
    assert_eq!(record.distinct().count(), MAX_KNOWN);
    assert_eq!(record.last().unwrap().interaction.time, at(990));
}

#[test]
fn those_of_one_second_are_all_counted_after_a_rebuild() {
    let told = record(&[
        shell(0, "alice", "a"),
        shell(9, "bob", "b"),
        shell(10, "carl", "c"),
    ]);
    let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
    let mut rebuilt = Record::from_marks(pod(), marks).unwrap();
    for user in ["dora", "eve", "frida"] {
        rebuilt.learn(shell(10, user, user));
        rebuilt.learn(shell(10, user, user));
    }
    assert_eq!(rebuilt.interactions(), 6);
}

#[test]
fn a_burst_within_one_second_is_counted_whole() {
    // In an order in which there is no room for many of those that come last.
    let users: Vec<_> = (0..60).map(|n| format!("u{:02}", n * 37 % 60)).collect();
    let mut burst = record(&[shell(0, "alice", "a")]);
    for (n, user) in users.iter().enumerate() {
        burst.learn(shell(0, user, user));
        assert_eq!(burst.interactions(), n as u32 + 2);
        // Its notice may come twice, as long as it is kept.
        burst.learn(burst.last().unwrap().clone());
        assert_eq!(burst.interactions(), n as u32 + 2);
    }
    // So does one of an earlier second.
    burst.learn(shell(-60, "zoe", "late"));
    assert_eq!(burst.interactions(), 62);
    let marks = metadata::read(&pod(), &marks_of(&burst)).unwrap();
    let mut rebuilt = Record::from_marks(pod(), marks.clone()).unwrap();
    assert_eq!(rebuilt.interactions(), 62);
    for user in users {
        rebuilt.learn(shell(1, &user, &format!("{user}-1")));
    }
    assert_eq!(rebuilt.interactions(), 122);
    burst.absorb(marks);
    assert_eq!(burst.interactions(), 62);
}

#[test]
fn marks_of_another_pod_tell_nothing() {
    let record = record(&[shell(0, "alice", "a")]);
    let marks = marks_of(&record);
    let copy = PodId {
        uid: "u-2".into(),
        ..pod()
    };
    assert_eq!(metadata::read(&copy, &marks), Ok(Marks::default()));
}

#[test]
fn the_patch_is_bound_to_the_pod_that_was_read() {
    let record = record(&[known(0, "alice", Action::Record, 600, "a")]);
    let patch = metadata::patch(&record.pod, &metadata::annotations(&record, &[]), Some("7"));
    let metadata = &patch["metadata"];
    assert_eq!(metadata["uid"], "u-1");
    assert_eq!(metadata["resourceVersion"], "7");
    assert_eq!(metadata["labels"]["curfew.dev/interacted"], "true");
    assert_eq!(metadata["annotations"]["curfew.dev/interactor"], "alice");
    assert_eq!(metadata["annotations"]["curfew.dev/container"], "app");
    // What the record has no value for is taken away.
    let annotations = metadata["annotations"].as_object().unwrap();
    assert_eq!(
        annotations.get("curfew.dev/ttl"),
        Some(&serde_json::Value::Null)
    );
    assert_eq!(annotations.len(), crate::metadata::WRITTEN.len());
}

#[test]
fn a_broken_mark_is_named() {
    let record = record(&[shell(0, "alice", "a")]);
    for (key, value) in [
        (metadata::INTERACTION_TIME, "yesterday"),
        (metadata::INTERACTION, "ssh"),
        (metadata::INTERACTIONS, "-1"),
        (metadata::TTL, "1d"),
        (metadata::LAST_INTERACTION, "{}"),
    ] {
        let mut marks = marks_of(&record);
        marks.insert(key.into(), value.into());
        let error = metadata::read(&pod(), &marks).unwrap_err();
        assert_eq!((error.key, error.value.as_str()), (key, value));
    }
}

fn marks_of(record: &Record) -> BTreeMap<String, String> {
    metadata::annotations(record, &[])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

prop_compose! {
    fn any_known()(
        second in 0i64..30,
        user in 0usize..3,
        evict: bool,
        ttl in 0u64..40,
        longest in (0u64..60, 0u64..60),
        request in 0usize..12,
        dry: bool,
        evidence: (bool, bool),
    ) -> RecordedInteraction {
        let action = if evict { Action::Evict } else { Action::Record };
        // One request is one interaction of one user: the API server does not reuse its UIDs.
        let request = format!("r{request}-{user}-{evict}-{ttl}-{longest:?}-{dry}-{evidence:?}");
        let mut known = known(second, ["a", "b", "c"][(user + request.len()) % 3], action, ttl, &request);
        known.terms.max_extension = Duration::from_secs(longest.0);
        known.terms.max_hold = Duration::from_secs(longest.1);
        known.terms.enforcement = if dry { Enforcement::DryRun } else { Enforcement::Enforce };
        known.terms.on_evidence = evidence::on_evidence(evidence.0, evidence.1);
        known
    }
}

proptest! {
    #[test]
    fn order_does_not_matter(
        all in prop::collection::vec(any_known(), 1..MAX_KNOWN),
        seed: u64,
    ) {
        let mut shuffled = all.clone();
        let len = shuffled.len();
        for n in 0..len {
            shuffled.swap(n, (seed as usize).wrapping_mul(n + 7) % len);
        }
        prop_assert_eq!(record(&all), record(&shuffled));
    }

    /// Store, metadata and notices may be put together in any order, and more than once.
    #[test]
    fn joining_is_commutative_and_idempotent(
        ours in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
        theirs in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
        extensions in (prop::option::of(0u64..90), prop::option::of(0u64..90)),
        holds in (prop::option::of("[a-c]"), prop::option::of("[a-c]")),
    ) {
        let mut one = record(&ours);
        one.extension = extensions.0.and_then(extended);
        one.hold = holds.0.as_deref().and_then(held);
        let mut other = record(&theirs);
        other.extension = extensions.1.and_then(extended);
        other.hold = holds.1.as_deref().and_then(held);
        joins_in_any_order(one, other)?;
    }

    /// However many there are in a second, and in whatever order they come.
    #[test]
    fn different_interactions_are_counted_each(
        seconds in prop::collection::vec(0i64..4, 1..80),
        offset in 0usize..80,
    ) {
        let interactions: Vec<_> = seconds
            .iter()
            .enumerate()
            .map(|(n, second)| {
                let name = format!("u{:02}", (n * 7 + offset) % 80);
                shell(*second, &name, &n.to_string())
            })
            .collect();
        prop_assert_eq!(record(&interactions).interactions() as usize, interactions.len());
    }

    /// Whatever comes later, an interaction that was learned stays: kept, or counted when there are
    /// too many to keep, and the deadline stays within what it promised.
    #[test]
    fn nothing_learned_is_forgotten(mut all in prop::collection::vec(any_known(), 1..60)) {
        // In the order in which things happen; a request that is asked again is the same interaction.
        all.sort_by_key(|known| known.interaction.time);
        for (at, known) in all.iter_mut().enumerate() {
            known.interaction.request = at.to_string();
        }
        let mut record = Record::new(pod(), all[0].clone());
        for (at, known) in all.iter().enumerate() {
            let before = record.interactions();
            record.learn(known.clone());
            prop_assert!(record.interactions() >= before);
            let promised = all[..=at].iter().filter_map(RecordedInteraction::timer).min();
            prop_assert_eq!(record.decisive().unwrap().timer(), promised);
        }
    }

    #[test]
    fn learning_again_changes_nothing(all in prop::collection::vec(any_known(), 1..40)) {
        let mut once = record(&all);
        let before = once.clone();
        for known in before.known.clone() {
            prop_assert!(!once.learn(known));
        }
        prop_assert_eq!(once, before);
    }

    #[test]
    fn a_deadline_only_comes_nearer(all in prop::collection::vec(any_known(), 2..40)) {
        let mut record = Record::new(pod(), all[0].clone());
        for known in &all[1..] {
            // One that is enforced counts before one that is a dry run, whenever it ends.
            let before = record.timer();
            record.learn(known.clone());
            prop_assert!(record.timer() <= before || before.is_none());
        }
    }

    /// What says nothing new is passed over, and only that.
    #[test]
    fn a_pod_is_believed_whatever_is_known_already(
        ours in prop::collection::vec((any_known(), any::<bool>()), 1..4),
        others in prop::collection::vec(any_known(), 0..2),
        nameless in prop::collection::vec(any::<bool>(), 4),
        stricter in prop::collection::vec(any::<bool>(), 4),
    ) {
        let own = |(mut known, nameless): (RecordedInteraction, bool)| {
            if nameless {
                known.interaction.request.clear();
            }
            known
        };
        let ours: Vec<_> = ours.into_iter().map(own).collect();
        let mut told: Vec<_> = ours.iter().cloned().chain(others).collect();
        for (known, (nameless, stricter)) in told.iter_mut().zip(nameless.into_iter().zip(stricter)) {
            if nameless {
                known.interaction.request.clear();
            }
            if stricter {
                known.terms.max_extension /= 2;
            }
        }
        let mut joined = record(&ours);
        let mut absorbed = joined.clone();
        joined.known.extend(told.iter().cloned());
        joined.settle();
        absorbed.absorb(Marks { known: told, ..Marks::default() });
        prop_assert_eq!(absorbed, joined);
    }

    #[test]
    fn the_metadata_alone_rebuilds_what_people_were_told(
        all in prop::collection::vec(any_known(), 1..40),
    ) {
        let told = record(&all);
        let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
        let mut same = told.clone();
        same.absorb(marks.clone());
        prop_assert_eq!(same.deadline(), told.deadline());
        prop_assert_eq!(same.interactions(), told.interactions());
        let rebuilt = Record::from_marks(pod(), marks).unwrap();
        prop_assert_eq!(rebuilt.deadline(), told.deadline());
        prop_assert_eq!(rebuilt.interactions(), told.interactions());
        prop_assert_eq!(marks_of(&rebuilt), marks_of(&told));
    }
}
