//! Orders to evict a pod now.

use super::*;

fn order(reason: &str) -> [(String, String); 2] {
    [
        (metadata::EVICT_NOW.to_owned(), reason.to_owned()),
        (metadata::EVICT_NOW_REQUESTER.to_owned(), "ann".to_owned()),
    ]
}

/// What a pod tells that has these marks and an order.
fn ordered(marks: BTreeMap<String, String>) -> Option<Record> {
    let marks = marks.into_iter().chain(order("misused")).collect();
    Record::from_marks(pod(), metadata::read(&pod(), &marks).unwrap())
}

/// The same once the agent has seen it at that second.
fn seen(marks: BTreeMap<String, String>, second: i64) -> Record {
    let mut record = ordered(marks).unwrap();
    record.put_order_in_force(at(second));
    record
}

fn dry(second: i64) -> RecordedInteraction {
    let mut known = shell(second, "alice", "a");
    known.terms.enforcement = Enforcement::DryRun;
    known
}

#[test]
fn an_order_beats_time_to_live_extension_and_hold() {
    let mut told = record(&[shell(0, "alice", "a")]);
    told.extension = extended(3600);
    told.hold = held("evidence");
    let mut ordered = seen(marks_of(&told), 60);
    ordered.extension = told.extension;
    ordered.hold = told.hold;
    assert_eq!(ordered.eviction_time(), Some(at(60)));
    let order = ordered.evict_now().unwrap();
    assert_eq!((&*order.reason, &*order.requester), ("misused", "ann"));
    // Later times to live do not matter, and neither does a later look.
    ordered.learn(shell(300, "bob", "b"));
    ordered.put_order_in_force(at(400));
    assert_eq!(ordered.eviction_time(), Some(at(60)));
}

#[test]
fn an_order_leaves_an_earlier_deadline_as_it_is() {
    let told = marks_of(&record(&[shell(0, "alice", "a")]));
    assert_eq!(seen(told, 700).eviction_time(), Some(at(600)));
}

#[test]
fn an_order_is_enforced_although_the_terms_are_a_dry_run() {
    let mut told = record(&[dry(0)]);
    told.would_go = Some(at(600));
    let before = marks_of(&told);
    assert_eq!(before[metadata::ENFORCEMENT], "DryRun");
    let record = seen(before, 900);
    assert!(!record.is_dry_run());
    assert_eq!(record.eviction_time(), Some(at(900)));
    let after = marks_of(&record);
    assert!(!after.contains_key(metadata::ENFORCEMENT));
    assert_eq!(after[metadata::EVICTION_TIME], at(900).to_string());
    // What is written does not make an enforced interaction of one that was a dry run.
    let again = ordered(after).unwrap();
    let mut joined = record.clone();
    joined.join(again.clone());
    assert_eq!((joined.interactions(), again.interactions()), (1, 1));
    assert_eq!(joined.eviction_time(), Some(at(900)));
}

#[test]
fn what_was_only_recorded_is_evicted_and_has_no_time_to_live() {
    let recorded = known(0, "alice", Action::Record, 600, "a");
    let record = seen(marks_of(&record(&[recorded])), 60);
    assert_eq!(record.eviction_time(), Some(at(60)));
    let marks = marks_of(&record);
    assert_eq!(marks[metadata::EVICTION_TIME], at(60).to_string());
    assert!(!marks.contains_key(metadata::TTL) && !marks.contains_key(metadata::MAX_EXTENSION));
    assert_eq!(ordered(marks).unwrap().deadline(), None);
}

#[test]
fn a_pod_that_nobody_touched_has_a_record_of_its_order() {
    let mut record = ordered(BTreeMap::new()).unwrap();
    assert_eq!(
        record.eviction_time(),
        None,
        "no agent has seen the order yet"
    );
    record.put_order_in_force(at(60));
    assert_eq!(record.eviction_time(), Some(at(60)));
    assert_eq!((record.interactions(), record.decisive()), (0, None));
    let marks = marks_of(&record);
    assert_eq!(
        marks,
        [(metadata::EVICTION_TIME.to_owned(), at(60).to_string())].into()
    );
    assert!(!metadata::is_short(
        &marks.clone().into_iter().chain(order("x")).collect()
    ));
    // Another agent process goes on with it.
    assert_eq!(seen(marks, 900), record);
    // Somebody touches the pod before it is gone.
    record.learn(shell(70, "alice", "a"));
    assert_eq!(record.interactions(), 1);
    assert_eq!(seen(marks_of(&record), 900).eviction_time(), Some(at(60)));
}

#[test]
fn an_order_without_a_reason_or_of_another_pod_is_none() {
    let read = |marks| Record::from_marks(pod(), metadata::read(&pod(), &marks).unwrap());
    assert_eq!(read(order(" \u{202e}").into()), None);
    let mut other = record(&[shell(0, "alice", "a")]);
    other.pod.uid = "u-2".into();
    assert_eq!(ordered(marks_of(&other)), None);
}

#[test]
fn a_pod_without_room_for_its_record_is_evicted_when_that_is_ordered() {
    let record = seen(marks_of(&record(&[shell(0, "alice", "a")])), 60);
    for room in [0, 60, 200, 300] {
        let marks = metadata::fitting(&record, &[], room);
        let marks = marks
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let again = seen(marks.collect(), 60);
        assert_eq!(again.eviction_time(), Some(at(60)), "{room}");
        // The time of the order does not become the deadline of an interaction.
        let mut joined = record.clone();
        joined.absorb(Marks {
            evict_now: again.evict_now().cloned(),
            ..Marks::default()
        });
        assert_eq!(joined, record, "{room}");
    }
}

#[test]
fn the_release_before_reads_a_record_with_an_order() {
    let record = seen(marks_of(&record(&[shell(0, "alice", "a")])), 60);
    let written = serde_json::to_value(&record).unwrap();
    assert_eq!(written["evict_now"]["reason"], "misused");
    assert_eq!(
        serde_json::from_value::<Record>(written.clone()).unwrap(),
        record
    );
    // It ignores the field; what it writes tells nothing of the order, which stands on the pod.
    let mut older = written;
    older.as_object_mut().unwrap().remove("evict_now");
    let older: Record = serde_json::from_value(older).unwrap();
    assert_eq!(older.eviction_time(), Some(at(600)));
    assert_eq!(seen(marks_of(&older), 60), record);
}

proptest! {
    #[test]
    fn nothing_moves_an_order_later(
        mut all in prop::collection::vec(any_known(), 1..8),
        later in prop::collection::vec(any_known(), 0..8),
        extension in 0u64..100_000,
        hold in any::<bool>(),
        moment in 0i64..100_000,
    ) {
        all[0].interaction.request = "first".into();
        let mut ordered = seen(marks_of(&record(&all)), moment);
        let promised = ordered.eviction_time().unwrap();
        prop_assert!(promised <= at(moment));
        prop_assert!(!ordered.is_dry_run());
        for known in later {
            ordered.learn(known);
        }
        ordered.extension = extended(extension);
        ordered.hold = hold.then(|| held("evidence")).flatten();
        ordered.put_order_in_force(at(moment + 10));
        prop_assert!(ordered.eviction_time().unwrap() <= promised);
        // Either home alone goes on with it.
        let stored = serde_json::to_string(&ordered).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&stored).unwrap(), ordered.clone());
        let mut from_pod = seen(marks_of(&ordered), moment + 1000);
        (from_pod.extension, from_pod.hold) = (ordered.extension.clone(), ordered.hold.clone());
        prop_assert_eq!(from_pod.eviction_time(), ordered.eviction_time());
    }
}
