//! Marks on pods whose annotations are nearly full.

use super::*;

type Told = BTreeMap<&'static str, String>;

fn size(told: &Told) -> usize {
    told.iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

fn read(told: Told) -> Marks {
    let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
    metadata::read(&pod(), &told.collect()).unwrap()
}

#[test]
fn where_there_is_little_room_the_most_important_comes_first() {
    let record = record(&[shell(0, "alice", "a")]);
    let all = metadata::annotations(&record, &[]);
    let fitting = |room| metadata::fitting(&record, &[], room);
    assert_eq!(fitting(size(&all)), all);
    let short = fitting(size(&all) - 1);
    assert_eq!(size(&short), size(&fitting(size(&short))));
    for missing in [
        metadata::TTL,
        metadata::MAX_EXTENSION,
        metadata::LAST_INTERACTION,
    ] {
        assert!(!short.contains_key(missing), "{missing}");
    }
    assert_eq!(short[metadata::COMMAND], all[metadata::COMMAND]);
    let shortest = fitting(100);
    let keys: Vec<_> = shortest.keys().copied().collect();
    let expected = [
        metadata::EVICTION_TIME,
        metadata::INTERACTION,
        metadata::INTERACTOR,
    ];
    assert_eq!(keys, expected);
    for room in 0..size(&all) {
        let told = fitting(room);
        assert!(size(&told) <= room);
        let known = record.decisive().unwrap();
        let enough = metadata::tells(&told, &record, known);
        let marks = read(told);
        assert!(marks.known.is_empty() && marks.count_in_metadata.is_none());
        assert_eq!(marks.short.is_some(), enough, "{room}");
        if enough {
            let again = Record::from_marks(pod(), marks).unwrap();
            assert_eq!(again.eviction_time(), record.eviction_time(), "{room}");
            assert_eq!(again.decisive().unwrap().interaction.user, "alice");
        }
    }
    assert!(fitting(0).is_empty());
}

#[test]
fn those_that_stand_nowhere_else_are_kept_as_long_as_there_is_room() {
    let unsynced: Vec<_> = (0..5)
        .map(|n| shell(n, &format!("u{n}"), &format!("r{n}")))
        .collect();
    let record = record(&unsynced);
    let of = |unsynced: &[RecordedInteraction]| size(&metadata::annotations(&record, unsynced));
    for left_out in 0..5 {
        let told = metadata::fitting(&record, &unsynced, of(&unsynced[left_out..]));
        let marks = read(told);
        // The latest is told in any case.
        assert_eq!(marks.unsynced, unsynced[left_out..4]);
        assert_eq!(marks.interactions(), 5);
    }
    let told = metadata::fitting(&record, &unsynced, of(&[]) - 1);
    assert_eq!(read(told).short.map(|short| short.interactions), Some(5));
}

#[test]
fn what_a_pod_tells_in_short_is_its_record_unless_it_goes_earlier() {
    let mut held = record(&[shell(0, "alice", "a"), shell(5, "bob", "b")]);
    held.extension = Some(Extension {
        by: Duration::from_secs(60),
        text: "1m".into(),
        requester: "alice".into(),
    });
    let own = metadata::fitting(&held, &[], 300);
    let mut annotations: BTreeMap<_, _> = own
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    annotations.insert(metadata::EXTENSION.into(), "1m".into());
    annotations.insert(metadata::EXTENSION_REQUESTER.into(), "alice".into());
    let marks = metadata::read(&pod(), &annotations).unwrap();
    assert!(marks.short.is_some());
    let mut again = held.clone();
    again.absorb(marks.clone());
    assert_eq!(again, held, "its own, cut");
    let rebuilt = Record::from_marks(pod(), marks).unwrap();
    assert_eq!(rebuilt.eviction_time(), held.eviction_time());
    assert_eq!(rebuilt.interactions(), held.interactions());

    let mut strict = shell(9, "carol", "c");
    strict.terms.ttl = Duration::from_secs(1);
    let mut more = rebuilt;
    more.learn(strict);
    let told = metadata::fitting(&more, &[], 300);
    let marks = read(told);
    let mut agent = held.clone();
    for _ in 0..2 {
        agent.absorb(marks.clone());
        assert_eq!(agent.eviction_time(), more.eviction_time());
        assert_eq!(agent.interactions(), 3);
    }
}
