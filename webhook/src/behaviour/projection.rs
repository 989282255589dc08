//! A profile as the watch reads it: of each learned criterion only the hash is kept, while it is read.
//!
//! A profile of 5,000 criteria has almost a megabyte of JSON and needs several in memory; its index has 20 KiB.

use std::{fmt, hash::RandomState, sync::LazyLock};

use curfew_core::behaviour::{
    IndexBuilder, Learned, Period, ProfileIndex, ProfileSpec, ProfileStatus, Retention, Stage,
};
use curfew_core::{condition::Condition, text::cut};
use curfew_crd::InteractionProfile;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, SeqAccess, Visitor},
};
use serde_json::Value;

/// The key of all hashes. It is new for each process: nobody can look for a program whose hash is that of a usual one.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// The longest sentence about an unfit profile, in bytes.
const MAX_PROBLEM: usize = 512;

/// A profile, as far as decisions need it.
#[derive(Debug, Clone, Resource, Deserialize)]
#[resource(inherit = "InteractionProfile")]
pub(super) struct WatchedProfile {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: WatchedStatus,
}

/// Fields that cannot be read have no effect: one object that another release wrote must not hide all others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedStatus {
    #[serde(deserialize_with = "lenient")]
    stage: Stage,
    #[serde(deserialize_with = "lenient")]
    samples: u64,
    #[serde(deserialize_with = "lenient")]
    people: u64,
    #[serde(deserialize_with = "lenient")]
    since: Option<Timestamp>,
    #[serde(deserialize_with = "lenient")]
    distrusted: Vec<Period>,
    #[serde(deserialize_with = "lenient")]
    conditions: Vec<Condition>,
    learned: Hashes,
}

#[derive(Debug, Clone)]
struct Hashes(IndexBuilder<RandomState>);

/// What a profile comes to.
#[derive(Debug)]
pub(super) struct KnownProfile {
    /// What decisions need; none if the profile is unfit.
    pub(super) index: Option<ProfileIndex<RandomState>>,
    /// The stage that the status shows.
    pub(super) stage: Stage,
    /// What is not trusted.
    pub(super) distrusted: Vec<Period>,
    /// Why it is unfit.
    pub(super) problem: Option<String>,
    /// Whether the status shows all of that.
    pub(super) is_reported: bool,
}

/// What a spec says, or why it cannot be followed.
pub(super) fn read_spec(spec: &Value) -> Result<ProfileSpec, String> {
    let spec = match spec {
        Value::Null => ProfileSpec::default(),
        spec => ProfileSpec::deserialize(spec).map_err(|error| format!("spec: {error}"))?,
    };
    spec.check().map_err(|invalid| invalid.to_string())?;
    Ok(spec)
}

/// As much of a problem as a condition has room for.
pub(super) fn shown(problem: &str) -> String {
    cut(problem, MAX_PROBLEM).into_owned()
}

impl From<WatchedProfile> for KnownProfile {
    fn from(watched: WatchedProfile) -> Self {
        let spec = read_spec(&watched.spec).map_err(|problem| shown(&problem));
        let WatchedStatus {
            stage,
            samples,
            people,
            since,
            distrusted,
            conditions,
            learned: Hashes(builder),
        } = watched.status;
        let status = ProfileStatus {
            samples,
            people,
            since,
            conditions,
            ..ProfileStatus::default()
        };
        let told = status.accepted();
        let generation = watched.metadata.generation.unwrap_or_default();
        let is_told = told.is_some_and(|told| {
            told.observed_generation == generation
                && (told.status == "True") == spec.is_ok()
                && spec
                    .as_ref()
                    .err()
                    .is_none_or(|problem| told.message == *problem)
        });
        let said = spec.as_ref().ok().and_then(|spec| spec.stage);
        Self {
            is_reported: is_told && said.is_none_or(|said| said == stage),
            index: spec.as_ref().ok().map(|spec| builder.build(spec, &status)),
            problem: spec.err(),
            stage,
            distrusted,
        }
    }
}

impl Default for Hashes {
    fn default() -> Self {
        Self(IndexBuilder::new(KEY.clone()))
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneByOne;
        impl<'de> Visitor<'de> for OneByOne {
            type Value = Hashes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of learned criteria")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Hashes, A::Error> {
                let begin = Retention::default().begin(Timestamp::now());
                let mut hashes = Hashes::default();
                while let Some(one) = all.next_element::<Value>()? {
                    if let Ok(learned) = Learned::deserialize(one)
                        && learned.sighting.last_seen >= begin
                    {
                        hashes.0.add(&learned.criterion);
                    }
                }
                Ok(hashes)
            }
        }
        from.deserialize_seq(OneByOne)
    }
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    from: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}
