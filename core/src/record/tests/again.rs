//! The same interaction, of which something else becomes known later.

use super::*;

/// It was irregular, as is known since, and this is its time to live.
fn irregular(known: &RecordedInteraction, ttl: u64) -> RecordedInteraction {
    let mut again = known.clone();
    again.terms.action = Action::Evict;
    again.terms.ttl = Duration::from_secs(ttl);
    again.irregular = Some("no session of a person ever left `nc` running there".into());
    again.policy = Some("irregular".into());
    again
}

fn rebuilt(told: &Record) -> Record {
    Record::from_marks(pod(), metadata::read(&pod(), &marks_of(told)).unwrap()).unwrap()
}

#[test]
fn the_stricter_terms_of_one_interaction_hold_and_it_counts_once() {
    let shell = shell(0, "alice", "a");
    let found = irregular(&shell, 0);
    for told in [
        vec![shell.clone(), found.clone()],
        vec![found.clone(), shell.clone()],
        vec![shell.clone(), found.clone(), shell.clone(), found.clone()],
    ] {
        let record = record(&told);
        assert_eq!((record.interactions(), record.distinct().count()), (1, 1));
        assert_eq!(record.deadline(), Some(at(0)));
        let last = record.last().unwrap();
        assert_eq!(last.irregular, found.irregular);
        assert_eq!(last.policy.as_deref(), Some("irregular"));
        assert_eq!(rebuilt(&record).last(), Some(last));
    }
}

#[test]
fn what_is_laxer_changes_nothing_but_that_it_is_irregular() {
    let shell = shell(0, "alice", "a");
    for lax in [
        irregular(&shell, 3600),
        RecordedInteraction {
            terms: known(0, "alice", Action::Record, 0, "a").terms,
            ..irregular(&shell, 0)
        },
    ] {
        let mut record = record(std::slice::from_ref(&shell));
        assert!(record.learn(lax.clone()));
        assert_eq!(record.deadline(), Some(at(600)));
        assert!(record.last().unwrap().irregular.is_some());
        assert!(!record.learn(lax), "it is known");
    }
}

#[test]
fn what_was_only_recorded_goes_by_the_terms_of_what_is_irregular() {
    let recorded = known(0, "alice", Action::Record, 5, "a");
    let record = record(&[recorded.clone(), irregular(&recorded, 900)]);
    assert_eq!(record.deadline(), Some(at(900)), "and not 5 s");
}

#[test]
fn it_is_said_once_that_it_is_irregular() {
    let before = record(&[shell(0, "alice", "a"), shell(9, "bob", "b")]);
    let mut after = before.clone();
    after.learn(irregular(&shell(9, "bob", "b"), 0));
    let told: Vec<_> = after.irregular_since(&before).collect();
    assert_eq!(told, [after.last().unwrap()]);
    assert_eq!(after.irregular_since(&after.clone()).count(), 0);
    // One that was never known otherwise is told as such.
    let mut new = before.clone();
    new.learn(irregular(&shell(20, "carl", "c"), 0));
    assert_eq!(new.irregular_since(&before).count(), 0);
    assert!(new.has_request("c") && !before.has_request("c") && !before.has_request(""));
}

/// The pod shows for a moment what was written before.
#[test]
fn what_the_pod_told_before_is_no_other_interaction() {
    for (ours, again) in [
        (vec![shell(0, "alice", "a")], shell(0, "alice", "a")),
        // The annotations tell the first without its request.
        (
            vec![shell(0, "alice", "a"), shell(9, "bob", "b")],
            shell(0, "alice", "a"),
        ),
        (
            vec![shell(0, "alice", "a"), shell(9, "bob", "b")],
            shell(9, "bob", "b"),
        ),
    ] {
        let before = record(&ours);
        let mut after = before.clone();
        after.learn(irregular(&again, 5));
        let expected = (after.interactions(), after.deadline());
        assert_eq!(expected.0 as usize, ours.len());
        let stale = metadata::read(&pod(), &marks_of(&before)).unwrap();
        after.absorb(stale.clone());
        assert_eq!((after.interactions(), after.deadline()), expected);
        // A store that was lost in between.
        let mut lost = Record::from_marks(pod(), stale).unwrap();
        lost.learn(irregular(&again, 5));
        assert_eq!((lost.interactions(), lost.deadline()), expected);
        let known = |known: &RecordedInteraction| after.tells_of(known);
        assert!(before.distinct().all(known), "nothing is told anew");
    }
}

prop_compose! {
    /// Some of a few interactions, each told on different terms.
    fn any_told()(
        request in 0usize..5,
        evict: bool,
        lengths in (0u64..40, 0u64..60, 0u64..60),
        dry: bool,
        evidence: (bool, bool),
        reason in prop::option::of("[a-c]"),
    ) -> RecordedInteraction {
        let action = if evict { Action::Evict } else { Action::Record };
        let user = ["a", "b", "c", "d", "e"][request];
        let mut known = known(10 * request as i64, user, action, lengths.0, user);
        known.terms.max_extension = Duration::from_secs(lengths.1);
        known.terms.max_hold = Duration::from_secs(lengths.2);
        known.terms.enforcement = if dry { Enforcement::DryRun } else { Enforcement::Enforce };
        known.terms.on_evidence = evidence::on_evidence(evidence.0, evidence.1);
        known.policy = reason.as_deref().map(Into::into);
        known.irregular = reason.as_deref().map(Into::into);
        known
    }
}

proptest! {
    #[test]
    fn whatever_is_told_of_one_it_is_one(
        (told, shuffled) in prop::collection::vec(any_told(), 1..12)
            .prop_flat_map(|told| (Just(told.clone()), Just(told).prop_shuffle())),
    ) {
        let one = record(&told);
        prop_assert_eq!(&one, &record(&shuffled));
        let requests: std::collections::BTreeSet<_> =
            told.iter().map(|known| &known.interaction.request).collect();
        prop_assert_eq!(one.interactions() as usize, requests.len());
        prop_assert_eq!(one.distinct().count(), requests.len());
    }

    #[test]
    fn joining_what_was_told_on_different_terms_is_commutative_and_idempotent(
        ours in prop::collection::vec(any_told(), 1..8),
        theirs in prop::collection::vec(any_told(), 1..8),
    ) {
        let (one, other) = (record(&ours), record(&theirs));
        joins_in_any_order(one, other)?;
    }

    /// Where it is enforced: what is only a dry run is told no more once something is.
    #[test]
    fn a_deadline_that_is_enforced_only_comes_nearer(
        told in prop::collection::vec(any_told(), 2..12),
        extension in 0u64..90,
        hold: bool,
    ) {
        let end = |record: &Record| {
            let mut record = record.clone();
            record.extension = extended(extension).filter(|_| extension > 0);
            record.hold = held("evidence").filter(|_| hold);
            record.eviction_time().filter(|_| !record.is_dry_run())
        };
        let mut record = Record::new(pod(), told[0].clone());
        for known in &told[1..] {
            let before = end(&record);
            record.learn(known.clone());
            prop_assert!(before.is_none_or(|before| end(&record).is_some_and(|end| end <= before)));
        }
    }
}
