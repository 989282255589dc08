//! The profile of one workload, as it is kept.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::criterion::{Criterion, InvalidCriterion};

/// The most criteria that people can write into one profile.
pub const MAX_ALLOWED: usize = 64;
/// The most criteria that one profile learns.
pub const MAX_LEARNED: usize = 5_000;
/// The most bytes that learned criteria take, about. The API server takes objects of up to 1.5 MiB (the limit of etcd),
/// and what else is in the object needs room, too.
pub const MAX_LEARNED_BYTES: usize = 1_000_000;

/// What people say about a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSpec {
    /// What is usual whether it was learned or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allowed: Vec<Criterion>,
}

/// What makes a profile unfit to be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProfile {
    /// One of the criteria makes no sense.
    #[error("spec.allowed[{at}]: {problem}")]
    Criterion {
        /// Its place in the list.
        at: usize,
        /// What is wrong with it.
        problem: InvalidCriterion,
    },
    /// There are too many.
    #[error("spec.allowed: has {0} criteria; at most {MAX_ALLOWED} are possible")]
    TooMany(usize),
}

impl ProfileSpec {
    /// Checks what following this profile relies on.
    ///
    /// # Errors
    /// Names the first criterion that makes no sense.
    pub fn check(&self) -> Result<(), InvalidProfile> {
        if self.allowed.len() > MAX_ALLOWED {
            return Err(InvalidProfile::TooMany(self.allowed.len()));
        }
        for (at, criterion) in self.allowed.iter().enumerate() {
            criterion
                .check()
                .map_err(|problem| InvalidProfile::Criterion { at, problem })?;
        }
        Ok(())
    }
}

/// What was learned about a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileStatus {
    /// In which stage the workload is.
    #[serde(default)]
    pub stage: Stage,
    /// How many interactions were learned.
    #[serde(default)]
    pub samples: u64,
    /// How many of them were by people, and not by ServiceAccounts or nodes.
    #[serde(default)]
    pub people: u64,
    /// The time of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// What is usual, as it was learned, in the order of the criteria.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub learned: Vec<Learned>,
    /// How many criteria were dropped for want of room, those first that were not seen for the longest time.
    #[serde(default)]
    pub dropped: u64,
    /// How many irregular interactions there were.
    #[serde(default)]
    pub irregular: u64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_irregular: Option<LastIrregular>,
    /// What was learned in this time is not trusted, because a pod was found misused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrusted: Option<Period>,
    /// Up to where each replica of the webhook has written what it saw. Without it, a write whose answer was lost
    /// would be counted twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub writers: Vec<Writer>,
}

/// The stage of a workload.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Stage {
    /// Not enough is known to say what is irregular.
    #[default]
    Learning,
    /// No weakness is known.
    Normal,
    /// A weakness is known.
    Vulnerable,
    /// An exploit of it is known.
    Exploitable,
    /// Some of its pods were misused.
    Misused,
}

impl Stage {
    /// Every stage, in the order of severity.
    pub const ALL: [Stage; 5] = [
        Stage::Learning,
        Stage::Normal,
        Stage::Vulnerable,
        Stage::Exploitable,
        Stage::Misused,
    ];

    /// The name of the stage, as the object and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Learning => "Learning",
            Stage::Normal => "Normal",
            Stage::Vulnerable => "Vulnerable",
            Stage::Exploitable => "Exploitable",
            Stage::Misused => "Misused",
        }
    }
}

/// A criterion that was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// What is usual.
    pub criterion: Criterion,
    /// How it was learned.
    #[serde(flatten)]
    pub sighting: Sighting,
}

/// When something was seen, how often, and by how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// When it was seen first.
    #[schemars(with = "String")]
    pub first_seen: Timestamp,
    /// When it was seen last.
    #[schemars(with = "String")]
    pub last_seen: Timestamp,
    /// In how many interactions it was seen.
    pub samples: u64,
    /// Which users did it.
    pub actors: super::actor_count::ActorCount,
}

/// The last irregular interaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastIrregular {
    /// When.
    #[schemars(with = "String")]
    pub time: Timestamp,
    /// Who.
    pub user: String,
    /// Why.
    pub reason: String,
}

/// A period of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Period {
    /// Its beginning.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Its end.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

impl Period {
    /// Whether a moment is in it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.from <= time && time <= self.until
    }

    /// The shortest period with both in it.
    #[must_use]
    pub fn join(self, other: Period) -> Self {
        Self {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
        }
    }
}

/// A replica that writes to the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// A name that no other process has, nor had.
    pub name: String,
    /// The number of the last delta that it has written.
    pub sequence: u64,
    /// When.
    #[schemars(with = "String")]
    pub time: Timestamp,
}
