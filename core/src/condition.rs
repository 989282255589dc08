//! The condition in which the status of each of Curfew's objects says whether the object is used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition that tells whether a policy or a profile is followed as it stands.
pub const ACCEPTED: &str = "Accepted";

/// A condition, as in all Kubernetes objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// The reason, in one word.
    pub reason: String,
    /// The reason, in a sentence.
    pub message: String,
    /// The metadata.generation of the object that the condition describes.
    pub observed_generation: i64,
    /// When the status last changed (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}
