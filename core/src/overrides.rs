//! The extension and the hold that people set on a pod, as far as an agent knows them when it evicts the pod.
//!
//! The API server may accept an extension at the moment at which the agent requests the eviction. So the request
//! contains the extension and the hold that the agent knows. The code that reads the pod again, in the agent or in
//! the webhook, can then see whether they have changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{metadata, pod_id::PodId, record::Record};

/// The annotation of an Eviction that has them.
pub const SEEN: &str = "curfew.dev/seen-wishes";

/// An extension and a hold, by what tells them from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extension: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
}

impl Overrides {
    /// Those of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            extension: record
                .extension
                .as_ref()
                .map(|extension| extension.text.clone()),
            hold: record.hold.as_ref().map(|hold| hold.reason.clone()),
        }
    }
}

/// When a pod with these annotations is to be evicted, where these have changed since they were seen. A pod that
/// does not tell its record keeps nobody from evicting it.
pub fn moved(
    seen: &Overrides,
    pod: &PodId,
    annotations: &BTreeMap<String, String>,
) -> Option<Timestamp> {
    let marks = metadata::read(pod, annotations).ok()?;
    let record = Record::from_marks(pod.clone(), marks)?;
    match Overrides::of(&record) == *seen {
        true => None,
        false => record.eviction_time(),
    }
}
