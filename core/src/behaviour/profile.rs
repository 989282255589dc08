//! The profile of one workload, as it is kept.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    criterion::{Criterion, InvalidCriterion},
    decision::Thresholds,
};
use crate::condition::{ACCEPTED, Condition};

/// The most criteria that people can write into one profile.
pub const MAX_ALLOWED: usize = 64;
/// The most values that these have together. Each is compared with each fact of an interaction that was not learned,
/// and a person waits for it.
pub const MAX_VALUES: usize = 256;
/// The most criteria that one profile learns.
pub const MAX_LEARNED: usize = 5_000;
/// The most bytes that learned criteria take, about. The API server takes objects of up to 1.5 MiB (the limit of etcd),
/// and what else is in the object needs room, too.
pub const MAX_LEARNED_BYTES: usize = 1_000_000;

/// How long a workload is shown as misused after one of its pods was found so.
pub const MISUSED: SignedDuration = SignedDuration::from_hours(24);

/// The lists of a criterion.
const LISTS: [&str; 11] = [
    "users",
    "groups",
    "actors",
    "kinds",
    "containers",
    "programs",
    "arguments",
    "pipes",
    "hours",
    "leftRunning",
    "dropped",
];

/// What people say about a workload, and what is usual there whether it was learned or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": format!(
        "!has(self.allowed) || self.allowed.map(c, {}).sum() <= {MAX_VALUES}",
        LISTS.map(|list| format!("(has(c.{list}) ? size(c.{list}) : 0)")).join(" + "),
    ),
    "message": format!("the lists of all criteria together must have at most {MAX_VALUES} values"),
}]))]
pub struct ProfileSpec {
    /// The stage of the workload, if a person knows it better. It is shown, and decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
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
    /// They have too many values.
    #[error("spec.allowed: has {0} values in its lists; at most {MAX_VALUES} are possible")]
    Values(usize),
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
        match self.allowed.iter().map(Criterion::values).sum() {
            values if values > MAX_VALUES => Err(InvalidProfile::Values(values)),
            _ => Ok(()),
        }
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
    /// What was learned in these times is not trusted, because a pod was found misused at their end; the latest 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub distrusted: Vec<Period>,
    /// Up to where each replica of the webhook has written what it saw. Without it, a write whose answer was lost
    /// would be counted twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub writers: Vec<Writer>,
    /// Accepted says whether the profile can be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
    ))]
    pub conditions: Vec<Condition>,
}

impl ProfileStatus {
    /// Writes what is derived: the stage, and whether the spec of this generation can be used, with `problem` as the
    /// reason why it cannot.
    pub fn report(
        &mut self,
        said: Option<Stage>,
        problem: Option<&str>,
        generation: i64,
        thresholds: &Thresholds,
        now: Timestamp,
    ) {
        self.stage = self.derived_stage(said, thresholds, now);
        let (status, reason, message) = match problem {
            None => ("True", "Used", "this profile is used as written"),
            Some(problem) => ("False", "Unfit", problem),
        };
        let before = self.accepted().filter(|before| before.status == status);
        let since = before.map(|before| before.last_transition_time.clone());
        self.conditions = vec![Condition {
            type_: ACCEPTED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: since.unwrap_or_else(|| now.to_string()),
        }];
    }

    /// What it says of whether the profile can be used.
    pub fn accepted(&self) -> Option<&Condition> {
        let mut conditions = self.conditions.iter();
        conditions.find(|condition| condition.type_ == ACCEPTED)
    }

    /// The stage that is to be shown. What a person says of it holds; otherwise a pod that was found misused makes it
    /// Misused for [`MISUSED`], and until enough is known it is Learning.
    pub fn derived_stage(
        &self,
        said: Option<Stage>,
        thresholds: &Thresholds,
        now: Timestamp,
    ) -> Stage {
        let is_recent = |period: &Period| now < period.until.saturating_add(MISUSED).unwrap_or(now);
        let days = self
            .since
            .map_or(0, |since| (now.as_second() - since.as_second()) / 86_400);
        match said {
            Some(said) => said,
            None if self.distrusted.iter().any(is_recent) => Stage::Misused,
            None if self.since.is_none()
                || self.samples < thresholds.samples
                || days < i64::from(thresholds.days) =>
            {
                Stage::Learning
            }
            None => Stage::Normal,
        }
    }
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Period {
    /// Its end. It stands first, so that periods are in the order of their ends.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// Its beginning.
    #[schemars(with = "String")]
    pub from: Timestamp,
}

impl Period {
    /// Whether a moment is in it.
    pub fn contains(self, time: Timestamp) -> bool {
        self.from <= time && time <= self.until
    }

    /// Whether the other is a part of it.
    pub fn covers(self, other: Period) -> bool {
        self.contains(other.from) && self.contains(other.until)
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
