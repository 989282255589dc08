//! What is posted to an agent, up to the record and to what is written on the pod.

use curfew_core::{Notice, Record, metadata, notice as wire};

use crate::same;

/// The most bytes of annotations that a pod may have.
const ANNOTATIONS: usize = 256 * 1024;

/// A body that is posted to the agent of node-1.
pub fn notice(body: &[u8]) {
    let Ok(notice) = serde_json::from_slice::<Notice>(body) else {
        return;
    };
    let written = serde_json::to_vec(&notice).unwrap_or_default();
    same!(
        serde_json::from_slice::<Notice>(&written).ok(),
        Some(notice.clone())
    );
    if let Err(refusal) = notice.check("node-1") {
        assert!(refusal.to_string().len() < 2048, "{refusal}");
        return;
    }
    assert!(notice.version <= wire::VERSION);
    let mut record = Record::new(notice.pod.clone(), notice.known.clone());
    let once = record.clone();
    assert!(!record.learn(notice.known), "the same interaction was news");
    same!(record, once);
    assert_eq!(record.interactions(), 1);
    let told = metadata::annotations(&record, &[]);
    let size: usize = told
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    // Each byte of a text may take six of JSON in the annotation of the last interaction.
    assert!(size < ANNOTATIONS / 16, "{size} bytes of annotations");
}
