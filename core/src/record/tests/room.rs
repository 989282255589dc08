//! Marks on pods whose annotations are nearly full.

use super::*;

#[test]
fn where_there_is_little_room_the_most_important_comes_first() {
    let record = record(&[shell(0, "alice", "a")]);
    let all = metadata::annotations(&record, &[]);
    let size = |told: &BTreeMap<&'static str, String>| -> usize {
        told.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    };
    assert_eq!(metadata::fitting(all.clone(), size(&all)), all);
    let short = metadata::fitting(all.clone(), size(&all) - 1);
    assert_eq!(
        size(&short),
        size(&metadata::fitting(all.clone(), size(&short)))
    );
    for missing in [
        metadata::TTL,
        metadata::MAX_EXTENSION,
        metadata::LAST_INTERACTION,
    ] {
        assert!(!short.contains_key(missing), "{missing}");
    }
    assert_eq!(short[metadata::COMMAND], all[metadata::COMMAND]);
    let shortest = metadata::fitting(all.clone(), 100);
    let keys: Vec<_> = shortest.keys().copied().collect();
    let expected = [
        metadata::EVICTION_TIME,
        metadata::INTERACTION,
        metadata::INTERACTOR,
    ];
    assert_eq!(keys, expected);
    for room in 0..size(&all) {
        let told = metadata::fitting(all.clone(), room);
        assert!(size(&told) <= room);
        // So little is no record.
        let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
        assert_eq!(
            metadata::read(&pod(), &told.collect()),
            Ok(metadata::Marks::default())
        );
    }
    assert!(metadata::fitting(all, 0).is_empty());
}
