//! Reads a record as it was written, by whatever release or by whatever else.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::{Counted, EvictNow, Extension, Hold, Record, RecordedInteraction};
use crate::{drift::Drift, pod_id::PodId};

/// A record as it was written.
#[derive(Deserialize)]
pub(super) struct Written {
    pod: PodId,
    #[serde(deserialize_with = "no_more_room")]
    known: Vec<RecordedInteraction>,
    #[serde(default)]
    counted: Option<Counted>,
    #[serde(default, rename = "told")]
    count_in_metadata: Option<Counted>,
    #[serde(default)]
    extension: Option<Extension>,
    #[serde(default)]
    hold: Option<Hold>,
    #[serde(default)]
    evict_now: Option<EvictNow>,
    #[serde(default)]
    would_go: Option<Timestamp>,
    #[serde(default)]
    drift: Option<Drift>,
    #[serde(default)]
    changed: Option<Timestamp>,
    #[serde(default)]
    released: Option<Timestamp>,
    #[serde(default)]
    since: Option<Timestamp>,
}

/// What was read has no interaction, and so is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known: is empty; it must contain at least one interaction")]
pub(super) struct NoInteraction;

impl TryFrom<Written> for Record {
    type Error = NoInteraction;

    fn try_from(written: Written) -> Result<Self, NoInteraction> {
        if written.known.is_empty() {
            return Err(NoInteraction);
        }
        let mut record = Self {
            pod: written.pod,
            known: written.known,
            counted: written.counted,
            count_in_metadata: written.count_in_metadata,
            extension: written.extension,
            hold: written.hold,
            evict_now: written.evict_now,
            would_go: written.would_go,
            drift: written.drift.map(|drift| Box::new(drift.bounded())),
            changed: written.changed,
            released: written.released,
            since: written.since,
        };
        // Order and number are what everything else relies on.
        record.settle();
        Ok(record)
    }
}

/// Reads a list into no more memory than it takes: most pods are touched once, and room for four would be
/// most of what their records take.
fn no_more_room<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<RecordedInteraction>, D::Error> {
    Ok(Box::<[RecordedInteraction]>::deserialize(deserializer)?.into_vec())
}
