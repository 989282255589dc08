//! Interactions that are a dry run, among others that are enforced.

use super::*;
use crate::metadata::{fitting, tells};

fn dry(second: i64, ttl: u64, request: &str) -> RecordedInteraction {
    let mut known = known(second, "alice", Action::Evict, ttl, request);
    known.terms.enforcement = Enforcement::DryRun;
    known
}

fn is_enforced(known: &RecordedInteraction) -> bool {
    known.terms.action == Action::Evict && known.terms.enforcement == Enforcement::Enforce
}

fn read(marks: BTreeMap<&'static str, String>) -> Option<Record> {
    let marks = marks
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Record::from_marks(pod(), metadata::read(&pod(), &marks).unwrap())
}

#[test]
fn a_dry_run_is_said_on_the_pod() {
    let record = record(&[dry(0, 600, "a")]);
    let marks = marks_of(&record);
    assert_eq!(marks[metadata::ENFORCEMENT], "DryRun");
    assert_eq!(marks[metadata::EVICTION_TIME], at(600).to_string());
    assert_eq!(marks[metadata::TTL], "10m0s");
    let enforced = marks_of(&super::record(&[shell(0, "bob", "b")]));
    assert!(!enforced.contains_key(metadata::ENFORCEMENT));
}

#[test]
fn the_first_that_is_enforced_sets_the_deadline() {
    let mut record = record(&[dry(0, 60, "a")]);
    assert!(record.is_dry_run());
    record.learn(shell(100, "bob", "b"));
    assert!(!record.is_dry_run());
    // Neither the earlier one nor a later one that ends first.
    record.learn(dry(200, 1, "c"));
    assert_eq!(record.eviction_time(), Some(at(700)));
    assert_eq!(record.decisive().unwrap().interaction.user, "bob");
    assert!(!marks_of(&record).contains_key(metadata::ENFORCEMENT));
}

#[test]
fn what_starts_no_timer_is_no_dry_run() {
    let mut recorded = known(0, "alice", Action::Record, 600, "a");
    recorded.terms.enforcement = Enforcement::DryRun;
    let record = record(&[recorded]);
    assert!(!record.is_dry_run());
    assert!(!marks_of(&record).contains_key(metadata::ENFORCEMENT));
}

#[test]
fn a_record_of_an_earlier_release_is_enforced() {
    let record: Record = serde_json::from_str(
        r#"{"pod":{"namespace":"shop","name":"cart-1","uid":"u-1"},"known":[{"interaction":{
        "time":"2027-01-15T08:00:00Z","kind":"exec","user":"alice","request":"r-1"},
        "terms":{"action":"Evict","ttl":"10m0s","maxExtension":"1h0m0s"}}]}"#,
    )
    .unwrap();
    assert!(record.deadline().is_some() && !record.is_dry_run());
    let mut marks = marks_of(&self::record(&[dry(0, 600, "a")]));
    let last = self::record(&[shell(0, "alice", "a")]);
    marks.insert(
        metadata::LAST_INTERACTION.into(),
        marks_of(&last)[metadata::LAST_INTERACTION].clone(),
    );
    marks.remove(metadata::ENFORCEMENT);
    let marks = metadata::read(&pod(), &marks).unwrap();
    assert!(!Record::from_marks(pod(), marks).unwrap().is_dry_run());
}

#[test]
fn the_answer_is_kept_with_the_record() {
    let mut answered = record(&[dry(0, 600, "a")]);
    answered.would_go = Some(at(601));
    let stored = serde_json::to_value(&answered).unwrap();
    assert_eq!(
        serde_json::from_value::<Record>(stored).unwrap().would_go,
        Some(at(601))
    );
    let mut joined = record(&[dry(0, 600, "a")]);
    joined.join(answered.clone());
    assert_eq!(joined.would_go, Some(at(601)));
    // And on the pod, as long as it is a dry run.
    let rebuilt = |record: &Record| read(metadata::annotations(record, &[])).unwrap();
    assert_eq!(rebuilt(&answered).would_go, Some(at(601)));
    answered.learn(shell(700, "bob", "b"));
    assert_eq!(rebuilt(&answered).would_go, None);
}

proptest! {
    /// Dry runs shield nothing, bring nothing forward, and take no room from what is enforced.
    #[test]
    fn they_change_nothing_that_is_enforced(
        all in prop::collection::vec(any_known(), 1..60),
        extension in 0u64..90,
        hold: bool,
    ) {
        let enforced: Vec<_> = all.iter().filter(|known| is_enforced(known)).cloned().collect();
        prop_assume!(!enforced.is_empty());
        let set = |mut record: Record| {
            record.extension = extended(extension).filter(|_| extension > 0);
            record.hold = held("evidence").filter(|_| hold);
            record
        };
        let (mixed, alone) = (set(record(&all)), set(record(&enforced)));
        prop_assert!(!mixed.is_dry_run());
        prop_assert_eq!(mixed.deadline(), alone.deadline());
        prop_assert_eq!(mixed.eviction_time(), alone.eviction_time());
        prop_assert_eq!(mixed.longest_extension(), alone.longest_extension());
        prop_assert_eq!(mixed.longest_hold(), alone.longest_hold());
        prop_assert!(is_enforced(mixed.decisive().unwrap()));
    }

    #[test]
    fn a_pod_is_one_while_all_its_timers_are(all in prop::collection::vec(any_known(), 1..60)) {
        let record = record(&all);
        let timed = all.iter().any(|known| known.terms.action == Action::Evict);
        prop_assert_eq!(record.is_dry_run(), timed && !all.iter().any(is_enforced));
        prop_assert_eq!(marks_of(&record).contains_key(metadata::ENFORCEMENT), record.is_dry_run());
    }

    /// However little room there is, a pod never tells that a dry run is enforced.
    #[test]
    fn the_marks_of_one_are_never_read_as_enforced(
        all in prop::collection::vec(any_known(), 1..20),
        room in 0usize..3000,
    ) {
        let told = record(&all);
        let marks = fitting(&told, &[], room);
        let enough = tells(&marks, &told, told.decisive().unwrap());
        if let Some(rebuilt) = read(marks) {
            prop_assert_eq!(rebuilt.is_dry_run(), told.is_dry_run());
            prop_assert_eq!(rebuilt.eviction_time(), told.eviction_time());
            let mut agent = told.clone();
            agent.join(rebuilt);
            prop_assert_eq!(agent.is_dry_run(), told.is_dry_run());
            prop_assert_eq!(agent.eviction_time(), told.eviction_time());
        } else {
            prop_assert!(!enough);
        }
    }
}
