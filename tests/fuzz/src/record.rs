//! The values of an agent's store.

use curfew_agent::store;
use curfew_core::{Record, metadata, record::MAX_KNOWN};

use crate::same;

/// One value, or two of one pod with a line feed between them.
pub fn record(bytes: &[u8]) {
    let values: Vec<Record> = bytes
        .splitn(2, |byte| *byte == b'\n')
        .filter_map(store::decode)
        .inspect(alone)
        .collect();
    if let [one, other] = values.as_slice()
        && one.pod == other.pod
    {
        together(one, other);
    }
}

/// What holds for every record that was read.
fn alone(record: &Record) {
    same!(
        store::encode(record)
            .ok()
            .as_deref()
            .and_then(store::decode),
        Some(record.clone())
    );
    let known: Vec<_> = record.distinct().collect();
    assert!(!known.is_empty() && known.len() <= MAX_KNOWN);
    assert!(known.is_sorted_by_key(|known| known.interaction.time));
    assert!(record.interactions() as usize >= known.len());
    if record.evict_now().is_none() {
        assert!(record.deadline() <= record.eviction_time());
        assert_eq!(
            record.deadline().is_some(),
            record.eviction_time().is_some()
        );
    }
    let decisive = record.decisive();
    assert!(decisive.is_some_and(|known| record.extension() <= known.terms.max_extension));
    assert!(
        metadata::patch(&record.pod, &metadata::annotations(record, &[]), Some("1")).is_object()
    );
    let mut twice = record.clone();
    twice.join(record.clone());
    same!(&twice, record);
}

/// Two records of a pod tell the same when they are joined, whichever way, and however often. Of more than
/// [`MAX_KNOWN`] interactions some are let go, and when those come again, which are kept and how many there
/// were may be another; when the pod goes may not.
fn together(one: &Record, other: &Record) {
    let join = |mut one: Record, other: &Record| {
        one.join(other.clone());
        one
    };
    let known = |record: &Record| {
        let written = serde_json::to_value(record).unwrap_or_default();
        written["known"].as_array().map_or(0, Vec::len)
    };
    let all_kept = known(one) + known(other) <= MAX_KNOWN;
    let told = |record: &Record| {
        let decisive = record.decisive();
        (
            record
                .eviction_time()
                .map(|at| (at, decisive.map(|known| known.interaction.time))),
            all_kept.then(|| {
                let last = record.last().map(|last| last.interaction.time);
                (last, record.interactions())
            }),
        )
    };
    let joined = join(one.clone(), other);
    alone(&joined);
    same!(told(&join(joined.clone(), other)), told(&joined));
    same!(told(&join(joined.clone(), one)), told(&joined));
    same!(told(&join(other.clone(), one)), told(&joined));
}
