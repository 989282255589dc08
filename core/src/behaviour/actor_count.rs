//! How many different users did something, counted in bounded space.

use std::{borrow::Cow, collections::BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most users that are told apart.
pub const MAX_COUNTED: usize = 8;
/// Digits of the mark of one user.
const DIGITS: usize = 6;

/// How many users did something: exact up to [`MAX_COUNTED`], and at least that many beyond.
///
/// Two replicas may have seen the same user, so counts cannot be added. The smallest marks of users are kept instead,
/// and their union is what both have seen (a bottom-k sketch). It is written as `2:1f00aa73c9d1`: the number, for
/// people, and the marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActorCount(BTreeSet<u32>);

impl ActorCount {
    /// One user.
    pub fn one(user: &str) -> Self {
        Self(BTreeSet::from([mark(user)]))
    }

    /// How many there are; [`MAX_COUNTED`] stands for at least as many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds what another replica has seen.
    pub fn join(&mut self, other: &ActorCount) {
        self.0.extend(&other.0);
        while self.0.len() > MAX_COUNTED {
            self.0.pop_last();
        }
    }
}

/// The mark of a user: FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), folded. All replicas and releases must
/// find the same, and somebody who finds two names with the same mark is counted as one, which harms nobody.
fn mark(user: &str) -> u32 {
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u32::try_from((hash ^ hash >> 24 ^ hash >> 48) & 0xff_ffff).unwrap_or_default()
}

impl Serialize for ActorCount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let marks: String = self.0.iter().map(|mark| format!("{mark:06x}")).collect();
        to.collect_str(&format_args!("{}:{marks}", self.count()))
    }
}

impl<'de> Deserialize<'de> for ActorCount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let marks = text.split_once(':').map_or("", |(_, marks)| marks);
        let wrong =
            || serde::de::Error::custom("must be a number and marks of six hexadecimal digits");
        if !marks.bytes().all(|byte| byte.is_ascii_hexdigit()) || marks.len() % DIGITS != 0 {
            return Err(wrong());
        }
        let mut read = Self::default();
        for at in (0..marks.len()).step_by(DIGITS).take(MAX_COUNTED) {
            let mark = u32::from_str_radix(&marks[at..at + DIGITS], 16).map_err(|_| wrong())?;
            read.0.insert(mark);
        }
        Ok(read)
    }
}

impl JsonSchema for ActorCount {
    fn schema_name() -> Cow<'static, str> {
        "ActorCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 2 + DIGITS * MAX_COUNTED,
            "pattern": "^[0-8]:([0-9a-f]{6}){0,8}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_user_counts_once() {
        let mut count = ActorCount::one("alice");
        count.join(&ActorCount::one("alice"));
        assert_eq!(count.count(), 1);
        count.join(&ActorCount::one("bob"));
        assert_eq!(count.count(), 2);
    }

    #[test]
    fn what_is_no_count_is_refused() {
        for text in ["1:12345", "1:zzzzzz", "1:ü1234"] {
            assert!(
                serde_json::from_value::<ActorCount>(text.into()).is_err(),
                "{text}"
            );
        }
        let empty: ActorCount = serde_json::from_value("0:".into()).unwrap();
        assert_eq!(empty, ActorCount::default());
    }

    proptest! {
        #[test]
        fn the_order_of_joining_makes_no_difference(
            (users, shuffled) in prop::collection::vec("[a-z]{1,3}", 1..20).prop_flat_map(|users| (Just(users.clone()), Just(users).prop_shuffle())),
        ) {
            let join = |users: &[String]| {
                let mut all = ActorCount::default();
                users.iter().for_each(|user| all.join(&ActorCount::one(user)));
                all
            };
            let count = join(&users);
            prop_assert_eq!(&count, &join(&shuffled));
            let distinct = users.iter().collect::<BTreeSet<_>>().len();
            prop_assert_eq!(count.count(), distinct.min(MAX_COUNTED));
            let text = serde_json::to_string(&count).unwrap();
            prop_assert_eq!(serde_json::from_str::<ActorCount>(&text).unwrap(), count);
        }
    }
}
