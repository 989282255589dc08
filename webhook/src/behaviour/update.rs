//! What is written to a profile. Nothing here does any I/O: it is run on a thread of its own, because a large profile
//! takes tens of milliseconds.

use curfew_core::behaviour::{Delta, Merged, ProfileStatus, Retention, Thresholds};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::projection::{read_spec, shown};

/// What is to be done with a profile.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// It says all that there is to say.
    None,
    /// Its status is to be replaced by that of this object, which names the version that was read.
    Replace(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredProfile {
    api_version: String,
    kind: String,
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: ProfileStatus,
}

/// As much of the metadata as a replacement of the status needs: the API server keeps the rest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    #[serde(default)]
    generation: i64,
}

/// Adds what was seen to a profile as the API server returned it, and what is derived.
///
/// # Errors
/// If the profile cannot be read, because another release wrote it: then it is left alone.
pub(super) fn update(
    text: &str,
    delta: Option<&Delta>,
    thresholds: &Thresholds,
    now: Timestamp,
) -> serde_json::Result<Update> {
    let mut profile: StoredProfile = serde_json::from_str(text)?;
    let (said, problem) = match read_spec(&profile.spec) {
        Ok(spec) => (spec.stage, None),
        Err(problem) => (None, Some(shown(&problem))),
    };
    let status = &mut profile.status;
    let derived = |status: &ProfileStatus| (status.stage, status.conditions.clone());
    let before = derived(status);
    let merged = delta.map(|delta| status.merge(delta, &Retention::default(), now));
    status.report(
        said,
        problem.as_deref(),
        profile.metadata.generation,
        thresholds,
        now,
    );
    if merged != Some(Merged::Added) && derived(status) == before {
        return Ok(Update::None);
    }
    // The API server takes it from what is stored.
    profile.spec = Value::Object(serde_json::Map::new());
    serde_json::to_vec(&profile).map(Update::Replace)
}
