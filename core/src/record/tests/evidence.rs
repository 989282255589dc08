//! What is found in a pod, and what follows from it.

use super::*;
use crate::{
    drift::{Drift, Verdict},
    left::{self, LeftHow, Leftover},
    metadata::{DRIFT, fitting, room},
    terms::{WhenChanged, WhenUnchanged},
};

pub(super) fn on_evidence(changed: bool, unchanged: bool) -> OnEvidence {
    OnEvidence {
        when_changed: if changed {
            WhenChanged::Now
        } else {
            WhenChanged::AtDeadline
        },
        when_unchanged: if unchanged {
            WhenUnchanged::Release
        } else {
            WhenUnchanged::Evict
        },
    }
}

/// A shell on terms that say what follows from what is found.
fn on(second: i64, request: &str, ttl: u64, changed: bool, unchanged: bool) -> RecordedInteraction {
    let mut known = known(second, request, Action::Evict, ttl, request);
    known.terms.on_evidence = on_evidence(changed, unchanged);
    known
}

fn changed(second: i64) -> Drift {
    Drift {
        added: 2,
        findings: vec!["added /tmp/nc (executable)".into()],
        ..Drift::new(at(second))
    }
}

fn rebuilt(told: &Record) -> Record {
    Record::from_marks(pod(), metadata::read(&pod(), &marks_of(told)).unwrap()).unwrap()
}

#[test]
fn a_change_ends_the_timers_that_say_so() {
    let mut record = record(&[on(0, "a", 600, false, false), on(10, "b", 900, true, false)]);
    record.found(Drift::new(at(100)));
    assert_eq!(record.eviction_time(), Some(at(600)));
    record.found(changed(200));
    assert_eq!(record.eviction_time(), Some(at(200)));
    assert_eq!(record.decisive().unwrap().interaction.user, "b");
    // No later look and no extension takes that back; a hold counts.
    record.found(changed(300));
    record.found(Drift::new(at(400)));
    record.extension = extended(3600);
    assert_eq!(record.eviction_time(), Some(at(200)));
    assert_eq!(record.longest_extension(), Duration::ZERO);
    record.hold = held("evidence");
    assert_eq!(record.eviction_time(), Some(at(200 + 7200)));
    assert_eq!(rebuilt(&record).changed, Some(at(200)));
}

#[test]
fn a_change_moves_nothing_later_and_nothing_that_says_nothing_of_it() {
    let mut plain = record(&[on(0, "a", 600, false, true)]);
    plain.found(changed(10));
    assert_eq!(plain.eviction_time(), Some(at(600)));
    let mut late = record(&[on(0, "a", 600, true, false)]);
    late.extension = extended(60);
    late.found(changed(630));
    assert_eq!(late.eviction_time(), Some(at(630)), "within the extension");
    late.extension = None;
    assert_eq!(late.eviction_time(), Some(at(600)));
}

#[test]
fn a_change_ends_the_timer_of_a_later_interaction_at_once_and_leaves_a_dry_run_dry() {
    let mut record = record(&[on(0, "a", 600, false, false)]);
    record.found(changed(10));
    let mut dry = on(20, "dry", 600, true, false);
    dry.terms.enforcement = Enforcement::DryRun;
    record.learn(dry.clone());
    assert_eq!(record.eviction_time(), Some(at(600)));
    record.learn(on(30, "b", 600, true, false));
    assert_eq!(record.eviction_time(), Some(at(30)));
    let mut alone = super::record(&[dry]);
    alone.found(changed(25));
    assert!(alone.is_dry_run());
    assert_eq!(alone.eviction_time(), Some(at(25)));
}

#[test]
fn a_released_pod_stays_until_somebody_touches_it_again() {
    let mut record = record(&[on(0, "a", 600, false, true), on(50, "b", 60, false, true)]);
    record.found(Drift::new(at(105)));
    assert!(!record.is_released());
    assert!(record.release());
    assert!(record.is_released() && !record.is_dry_run());
    assert_eq!((record.released, record.deadline()), (Some(at(50)), None));
    assert_eq!(
        record.decisive().unwrap().interaction.user,
        "b",
        "as before"
    );
    let marks = marks_of(&record);
    assert!(!marks.contains_key(metadata::EVICTION_TIME) && !marks.contains_key(metadata::TTL));
    assert_eq!(marks[DRIFT], "Unchanged");
    let again = rebuilt(&record);
    assert!(again.is_released());
    assert_eq!(again.interactions(), 2);
    assert_eq!(marks_of(&again), marks);
    for mut record in [record, again] {
        assert!(!record.release(), "nothing is left");
        record.learn(on(200, "c", 60, false, true));
        assert!(!record.is_released());
        assert_eq!(record.eviction_time(), Some(at(260)));
        assert_eq!(record.decisive().unwrap().interaction.user, "c");
        assert_eq!(rebuilt(&record).eviction_time(), Some(at(260)));
    }
}

#[test]
fn an_order_is_carried_out_whatever_was_released() {
    let mut record = record(&[on(0, "a", 600, false, true)]);
    assert!(record.release());
    record.absorb(Marks {
        evict_now: Some(EvictNow {
            reason: "incident".into(),
            requester: "bob".into(),
            since: None,
        }),
        ..Marks::default()
    });
    record.put_order_in_force(at(700));
    assert_eq!(record.eviction_time(), Some(at(700)));
    assert!(!record.is_released());
}

#[test]
fn in_doubt_nothing_is_released() {
    let released = on(0, "a", 600, false, true);
    let with = |change: &dyn Fn(&mut RecordedInteraction)| {
        let mut other = on(9, "b", 900, false, true);
        change(&mut other);
        record(&[released.clone(), other]).may_be_released()
    };
    assert!(with(&|_| {}));
    assert!(with(&|other| other.interaction.kind = Kind::Bypass));
    // What starts no timer anyway, and what is only a dry run.
    assert!(with(&|other| other.terms.action = Action::Record));
    assert!(with(&|other| {
        other.terms.on_evidence = OnEvidence::default();
        other.terms.enforcement = Enforcement::DryRun;
    }));
    assert!(!with(
        &|other| other.terms.on_evidence = OnEvidence::default()
    ));
    for kind in [Kind::Attach, Kind::Portforward, Kind::Debug] {
        assert!(!with(&|other| other.interaction.kind = kind), "{kind}");
    }
    assert!(!with(&|other| {
        other.terms.action = Action::Record;
        other.terms.exemption = Some(Exemption::Unmanaged);
    }));

    let mut known = record(std::slice::from_ref(&released));
    assert!(known.may_be_released());
    known.absorb(Marks {
        count_in_metadata: Some(Counted {
            until: at(0),
            interactions: 2,
        }),
        ..Marks::default()
    });
    assert!(!known.may_be_released(), "nothing tells of the other one");

    let mut drifted = record(std::slice::from_ref(&released));
    drifted.found(changed(10));
    drifted.found(Drift::new(at(20)));
    assert!(!drifted.may_be_released() && !drifted.release());
}

#[test]
fn one_that_may_not_be_released_is_never_forgotten() {
    let mut all: Vec<_> = (0..40)
        .map(|n| on(n * 10, &format!("u{n}"), 600, false, true))
        .collect();
    all[7].terms.on_evidence = OnEvidence::default();
    let mut record = record(&all);
    assert!(!record.may_be_released());
    let again = rebuilt(&record);
    assert!(!again.may_be_released());
    // Changes count since the first interaction, which is not kept.
    assert_eq!(record.known.first().unwrap().interaction.user, "u0");
    record.learn(known(-500, "carl", Action::Record, 600, "early"));
    assert_eq!(record.since(), Some(at(-500)));
    for n in 0..20 {
        record.learn(on(1000 + n * 10, &format!("v{n}"), 600, false, true));
    }
    assert_eq!(record.known.first().unwrap().interaction.user, "u0");
    assert_eq!(record.since(), Some(at(-500)));
    record.found(Drift::new(at(2000)));
    assert_eq!(rebuilt(&record).since(), Some(at(-500)));
    let stored = serde_json::to_value(&record).unwrap();
    assert_eq!(serde_json::from_value::<Record>(stored).unwrap(), record);
}

/// An interaction that is still to come may be released, and what was changed before the first one is a change.
#[test]
fn the_pod_tells_since_when_changes_count_whatever_the_terms_are() {
    let mut first = known(0, "a", Action::Record, 600, "a");
    let plain = known(20, "b", Action::Record, 600, "b");
    for evidence in [OnEvidence::default(), on_evidence(false, true)] {
        first.terms.on_evidence = evidence;
        let mut told = record(&[first.clone(), plain.clone()]);
        assert!(told.begin_at(at(-3)));
        let mut again = rebuilt(&rebuilt(&told));
        assert_eq!(again.since(), Some(at(-3)), "{evidence:?}");
        again.learn(on(30, "c", 600, false, true));
        assert!(again.may_be_released());
        assert_eq!(rebuilt(&again).since(), Some(at(-3)));
    }
}

#[test]
fn an_exemption_that_ends_after_the_release_starts_no_timer() {
    let mut record = record(&[on(10, "a", 600, false, true)]);
    assert!(record.release());
    let mut exempt = known(5, "b", Action::Record, 600, "b");
    exempt.terms.exemption = Some(Exemption::Unmanaged);
    record.learn(exempt.clone());
    assert_eq!(record.end_exemption(false, false, at(700)), []);
    exempt.interaction.time = at(20);
    exempt.interaction.request = "c".into();
    record.learn(exempt);
    assert_eq!(record.end_exemption(false, false, at(700)).len(), 1);
    assert_eq!(record.eviction_time(), Some(at(1300)));
}

#[test]
fn nothing_is_written_where_nothing_was_found() {
    let plain = record(&[shell(0, "alice", "a")]);
    let stored = serde_json::to_value(&plain).unwrap();
    let keys: Vec<_> = stored.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["known", "pod"]);
    let read: Record = serde_json::from_value(stored).unwrap();
    assert_eq!(
        (&read.drift, read.changed, read.released),
        (&None, None, None)
    );
    let marks = marks_of(&plain);
    assert!(!marks.contains_key(DRIFT));
    let last = &marks[metadata::LAST_INTERACTION];
    for field in ["changed", "released", "since", "when", "bounds"] {
        assert!(!last.contains(&format!("\"{field}")), "{last}");
    }
}

#[test]
fn what_was_found_is_left_out_first_where_there_is_no_room() {
    let mut record = record(&[shell(0, "alice", "a"), shell(5, "bob", "b")]);
    let unsynced = [shell(0, "alice", "a")];
    let without = metadata::annotations(&record, &unsynced);
    record.found(changed(10));
    let with = metadata::annotations(&record, &unsynced);
    assert_eq!(with[DRIFT], "Changed (2 added)");
    let size: usize = with
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    assert_eq!(fitting(&record, &unsynced, size), with);
    let fits = fitting(&record, &unsynced, size - 1);
    assert_eq!(fits.len(), without.len());
    assert!(!fits.contains_key(DRIFT));
    record.found(Drift {
        left: left::parse("running nc"),
        ..changed(10)
    });
    assert_eq!(fitting(&record, &unsynced, size), fits, "nothing of it");
    assert!(fits[metadata::LAST_INTERACTION].contains("alone"));
    // It is Curfew's own: it takes no room from itself.
    let own: BTreeMap<_, _> = [(DRIFT.to_owned(), "Unchanged".to_owned())].into();
    assert_eq!(room(&own), metadata::MAX_ANNOTATIONS);
}

#[test]
fn a_summary_that_nobody_wrote_so_tells_nothing() {
    let mut told = record(&[shell(0, "alice", "a")]);
    told.found(changed(10));
    let mut marks = marks_of(&told);
    marks.insert(DRIFT.into(), "Unchanged, trust me".into());
    let marks = metadata::read(&pod(), &marks).unwrap();
    assert_eq!(marks.evidence.drift, None);
    assert_eq!(marks.evidence.changed, Some(at(10)));
    // The agent's own look counts.
    told.absorb(marks);
    assert_eq!(told.drift.unwrap().verdict, Verdict::Changed);
}

#[test]
fn on_a_pod_stands_what_follows() {
    let record = record(&[on(0, "a", 600, true, false), on(9, "b", 700, false, true)]);
    let again = rebuilt(&record);
    let terms = |record: &Record| -> Vec<_> {
        let all = record.distinct();
        all.map(|known| known.terms.on_evidence).collect()
    };
    assert_eq!(terms(&again), terms(&record));
    assert_eq!(terms(&again)[0].when_changed, WhenChanged::Now);
    assert_eq!(terms(&again)[1].when_unchanged, WhenUnchanged::Release);
}

prop_compose! {
    fn any_found()(
        drift in prop::option::of((0i64..60, 0u32..3, 0u32..2, prop::option::of("[a-z]{1,5}"), "[a-c]{0,2}")),
        changed in prop::option::of(0i64..60),
        released in prop::option::of(0i64..40),
        since in prop::option::of(-5i64..30),
    ) -> EvidenceMarks {
        let look = |(second, added, sessions, unseen, left): (i64, u32, u32, Option<String>, String)| {
            let unseen = unseen.into_iter().collect();
            let left = Leftover::new(LeftHow::Running, &left).into_iter().collect();
            let drift = Drift { added, sessions, unseen, left, ..Drift::new(at(second)) };
            Box::new(drift.bounded())
        };
        EvidenceMarks {
            drift: drift.map(look),
            changed: changed.map(at),
            released: released.map(at),
            since: since.map(at),
        }
    }
}

fn with(mut record: Record, found: EvidenceMarks) -> Record {
    record.absorb_evidence(found);
    record
}

/// When it ends by the definition, without any shortcut.
fn end(known: &RecordedInteraction, found: &EvidenceMarks, by: u64, held: bool) -> Timestamp {
    let (terms, time) = (known.terms, known.interaction.time);
    let hold = if held { terms.max_hold } else { Duration::ZERO };
    let own = later(
        time,
        terms.ttl + terms.max_extension.min(Duration::from_secs(by)) + hold,
    );
    match (terms.on_evidence.when_changed, found.changed) {
        (WhenChanged::Now, Some(changed)) => own.min(later(changed.max(time), hold)),
        _ => own,
    }
}

proptest! {
    #[test]
    fn joining_what_was_found_is_commutative_and_idempotent(
        ours in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
        theirs in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
        found in (any_found(), any_found()),
    ) {
        let one = with(record(&ours), found.0);
        let other = with(record(&theirs), found.1);
        joins_in_any_order(one, other)?;
    }

    /// Whether the change was found before or after so many interactions that not all are kept.
    #[test]
    fn the_earliest_of_all_ends_counts_whatever_was_found(
        mut all in prop::collection::vec(any_known(), 1..60),
        found in any_found(),
        later_found: bool,
        extension in 0u64..90,
        hold: bool,
    ) {
        all.sort_by_key(|known| known.interaction.time);
        for (at, known) in all.iter_mut().enumerate() {
            known.interaction.request = at.to_string();
        }
        let mut found = found;
        if later_found {
            // A look finds nothing before what happens.
            found.changed = found.changed.map(|changed| later(changed, Duration::from_secs(30)));
        }
        let mut told = if later_found {
            with(record(&all), found.clone())
        } else {
            let mut told = with(record(&all[..1]), found.clone());
            for known in &all[1..] {
                told.learn(known.clone());
            }
            told
        };
        told.extension = extended(extension).filter(|_| extension > 0);
        told.hold = held("evidence").filter(|_| hold);
        // What was dropped before the release was known may have had a longer one's place.
        if found.released.is_none() || !later_found {
            let runs = |known: &&RecordedInteraction| {
                known.terms.action == Action::Evict
                    && found.released.is_none_or(|released| known.interaction.time > released)
            };
            let rank = |known: &RecordedInteraction| {
                (known.terms.enforcement, end(known, &found, extension, hold))
            };
            let first = all.iter().filter(runs).map(rank).min();
            prop_assert_eq!(told.eviction_time(), first.map(|(_, end)| end));
        }
    }

    #[test]
    fn a_release_moves_no_deadline_of_a_later_interaction(
        all in prop::collection::vec(any_known(), 1..12),
        later_ones in prop::collection::vec(any_known(), 1..12),
    ) {
        let mut released = record(&all);
        released.release();
        let limit = released.released;
        let later_ones: Vec<_> = later_ones
            .into_iter()
            .enumerate()
            .map(|(at, mut known)| {
                known.interaction.time = later(known.interaction.time, Duration::from_secs(40));
                known.interaction.request = format!("later-{at}");
                known
            })
            .collect();
        for known in &later_ones {
            released.learn(known.clone());
        }
        let left = all.iter().filter(|known| limit.is_none_or(|limit| known.interaction.time > limit));
        let left: Vec<_> = left.chain(&later_ones).cloned().collect();
        prop_assert_eq!(released.eviction_time(), record(&left).eviction_time());
        prop_assert_eq!(released.is_dry_run(), record(&left).is_dry_run());
        prop_assert_eq!(released.longest_extension(), record(&left).longest_extension());
        prop_assert_eq!(released.longest_hold(), record(&left).longest_hold());
    }

    #[test]
    fn only_what_all_allow_is_released(all in prop::collection::vec(any_known(), 1..60)) {
        let mut told = record(&all);
        let timed = |known: &&RecordedInteraction| {
            known.terms.action == Action::Evict
                && Some(known.terms.enforcement) == told.enforcement()
        };
        let allowed = all.iter().filter(timed).all(|known| {
            known.terms.on_evidence.when_unchanged == WhenUnchanged::Release
        });
        let runs = told.deadline().is_some();
        prop_assert_eq!(told.release(), runs && allowed);
        if runs && !allowed {
            prop_assert!(told.deadline().is_some() && !rebuilt(&told).may_be_released());
        }
    }

    /// Store and metadata are each enough, whatever was found.
    #[test]
    fn either_home_alone_tells_what_was_found(
        all in prop::collection::vec(any_known(), 1..40),
        found in any_found(),
        overrides in prop::collection::vec((0u64..90, any::<bool>()), 4),
    ) {
        let told = with(record(&all), found);
        let stored: Record = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
        prop_assert_eq!(&stored, &told);
        let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
        let mut same = told.clone();
        same.absorb(marks.clone());
        prop_assert_eq!(&same.drift, &told.drift);
        prop_assert_eq!(same.interactions(), told.interactions());
        prop_assert_eq!(marks_of(&same), marks_of(&told));
        let rebuilt = Record::from_marks(pod(), marks).unwrap();
        prop_assert_eq!((rebuilt.changed, rebuilt.released), (told.changed, told.released));
        prop_assert_eq!(rebuilt.since(), told.since());
        prop_assert_eq!(rebuilt.is_released(), told.is_released());
        prop_assert_eq!(rebuilt.interactions(), told.interactions());
        prop_assert_eq!(marks_of(&rebuilt), marks_of(&told));
        prop_assert!(told.may_be_released() || !rebuilt.may_be_released());
        for (extension, hold) in overrides {
            let set = |record: &Record| {
                let mut record = record.clone();
                record.extension = extended(extension).filter(|_| extension > 0);
                record.hold = held("evidence").filter(|_| hold);
                record.eviction_time()
            };
            prop_assert_eq!(set(&rebuilt), set(&told));
        }
    }
}
