//! How policies write durations.

use std::{fmt, time::Duration};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration;

/// The longest time that a policy can name: a year.
pub(super) const MAX_LENGTH: Duration = Duration::from_secs(8760 * 3600);

/// A duration in whole seconds, written as Go writes durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        duration::serialize(&self.0, to)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let length = duration::parse(&text).map_err(serde::de::Error::custom)?;
        // What stands on pods has whole seconds; a part of one would be lost in silence.
        if length.subsec_nanos() != 0 {
            return Err(serde::de::Error::custom(format!(
                "{length:?} contains a fraction of a second; use whole seconds"
            )));
        }
        Ok(Self(length))
    }
}

/// Its schema, with what is said of another text.
pub(super) fn length(_: &mut SchemaGenerator) -> Schema {
    // The number of digits is limited before anything is parsed: an overflow would not show our message.
    let form = "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && size(self) > 0";
    let most = format!("{}h", MAX_LENGTH.as_secs() / 3600);
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [
            {
                "rule": form,
                "message": "must be a duration in whole hours, minutes and seconds without a sign, such as 90s, \
                            30m or 1h30m",
            },
            {
                "rule": format!("!({form}) || duration(self) <= duration('{most}')"),
                "message": format!("must be from 0s to {most}"),
            },
        ],
    })
}
