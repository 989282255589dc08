//! The annotations of a pod.

use std::collections::BTreeMap;

use curfew_core::{
    PodId, Record, metadata,
    record::MAX_REASON,
    text::{is_blank, is_unsafe, visible},
};
use serde::Deserialize;

use crate::same;

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A pod as JSON, of which only the UID and the annotations count.
pub fn metadata(bytes: &[u8]) {
    let Ok(Pod { metadata: pod }) = serde_json::from_slice(bytes) else {
        return;
    };
    let id = PodId {
        namespace: "shop".to_owned(),
        name: "cart-1".to_owned(),
        uid: pod.uid,
    };
    if let Some(hold) = metadata::hold(&pod.annotations) {
        assert!(hold.reason.len() <= MAX_REASON && !is_blank(&hold.reason));
        assert!(!visible(&hold.reason).contains(is_unsafe));
    }
    let marks = match metadata::read(&id, &pod.annotations) {
        Ok(marks) => marks,
        Err(invalid) => {
            assert!(invalid.to_string().len() < 1024, "{invalid}");
            return;
        }
    };
    let Some(record) = Record::from_marks(id.clone(), marks) else {
        return;
    };
    // What is written for what was read tells the same, together with what people wrote.
    let mut written = metadata::annotations(&record, &[])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<BTreeMap<_, _>>();
    for key in [
        metadata::EXTENSION,
        metadata::EXTENSION_REQUESTER,
        metadata::HOLD,
        metadata::HOLD_REQUESTER,
        metadata::EVICT_NOW,
        metadata::EVICT_NOW_REQUESTER,
    ] {
        if let Some(value) = pod.annotations.get(key) {
            written.insert(key.to_owned(), value.clone());
        }
    }
    let again = metadata::read(&id, &written).ok();
    let again = again.and_then(|marks| Record::from_marks(id, marks));
    let told = |record: &Record| {
        (
            record.deadline(),
            record.eviction_time(),
            record.interactions(),
            record.last().map(|last| last.interaction.time),
        )
    };
    same!(again.as_ref().map(told), Some(told(&record)));
    let mut joined = record.clone();
    joined.join(record.clone());
    same!(joined, record);
    nearly_full(&record, written);
}

/// However little room there is, it is kept to, and what is read there is the record, cut.
fn nearly_full(record: &Record, mut annotations: BTreeMap<String, String>) {
    let full = metadata::annotations(record, &[]);
    let size = |told: &BTreeMap<&str, String>| -> usize {
        told.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    };
    for room in [0, 50, 150, 250, 400, size(&full).saturating_sub(1)] {
        let told = metadata::fitting(record, &[], room);
        assert!(size(&told) <= room, "{told:?}");
        let decisive = record.decisive();
        let enough = decisive.map_or(told.len() == full.len(), |known| {
            metadata::tells(&told, record, known)
        });
        annotations.retain(|key, _| !metadata::WRITTEN.contains(&key.as_str()));
        annotations.extend(told.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let marks = metadata::read(&record.pod, &annotations).unwrap_or_default();
        let again = Record::from_marks(record.pod.clone(), marks.clone());
        // Parts of a second have no place on a pod.
        if let (true, Some(again)) = (enough, again) {
            same!(again.eviction_time(), record.eviction_time());
        }
        let mut own = record.clone();
        own.absorb(marks);
        same!(own.eviction_time(), record.eviction_time());
        same!(own.interactions(), record.interactions());
    }
}
