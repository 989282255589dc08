//! Hours of the week, UTC.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Hours in a week.
const WEEK: u8 = 168;

/// One hour of the week, UTC: 0 is Monday from 00:00 to 00:59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HourOfWeek(u8);

impl HourOfWeek {
    /// The hour of this moment.
    pub fn of(time: Timestamp) -> Self {
        let hours = time.as_second().div_euclid(3600);
        // 1970-01-01 was a Thursday.
        let hour = (hours + 3 * 24).rem_euclid(i64::from(WEEK));
        Self(u8::try_from(hour).unwrap_or_default())
    }

    /// The same hour and the two beside it, on each day of the same part of the week: Monday to Friday, or Saturday
    /// and Sunday. People who are there on Tuesday at 10:00 are there on Wednesday at 11:00.
    pub fn neighbours(self) -> impl Iterator<Item = HourOfWeek> {
        let (day, hour) = (self.0 / 24, self.0 % 24);
        let days = if day < 5 { 0..5 } else { 5..7 };
        days.flat_map(move |day| [23, 0, 1].map(|by| HourOfWeek(day * 24 + (hour + by) % 24)))
    }
}

impl fmt::Display for HourOfWeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:02}",
            DAYS[usize::from(self.0 / 24) % 7],
            self.0 % 24
        )
    }
}

/// A range of hours of the week, UTC: `Mon 09`, `Mon 09-17`, `Mon-Fri 08-18`, `Sat-Sun`. The last hour is included, so
/// that `08-18` ends at 18:59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hours {
    days: (u8, u8),
    hours: (u8, u8),
}

impl Hours {
    /// Whether this hour is in the range. A range can pass midnight or Sunday.
    pub fn contains(self, hour: HourOfWeek) -> bool {
        let between = |(first, last): (u8, u8), at: u8| match first <= last {
            true => (first..=last).contains(&at),
            false => at >= first || at <= last,
        };
        between(self.days, hour.0 / 24) && between(self.hours, hour.0 % 24)
    }

    /// The hour, if this is exactly one.
    pub fn single(self) -> Option<HourOfWeek> {
        let is_single = self.days.0 == self.days.1 && self.hours.0 == self.hours.1;
        is_single.then_some(HourOfWeek(self.days.0 * 24 + self.hours.0))
    }
}

impl From<HourOfWeek> for Hours {
    fn from(HourOfWeek(hour): HourOfWeek) -> Self {
        Self {
            days: (hour / 24, hour / 24),
            hours: (hour % 24, hour % 24),
        }
    }
}

/// A text that names no hours of the week.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be days, or days and hours of the week in UTC, such as Mon 09, Mon-Fri 08-18 or Sat-Sun"
)]
pub struct UnknownHours;

impl std::str::FromStr for Hours {
    type Err = UnknownHours;

    fn from_str(text: &str) -> Result<Self, UnknownHours> {
        let range = |text: &str, read: &dyn Fn(&str) -> Option<u8>| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((read(first)?, read(last)?))
        };
        let day = |text: &str| {
            let at = DAYS.iter().position(|day| *day == text)?;
            u8::try_from(at).ok()
        };
        let hour = |text: &str| {
            let hour: u8 = text.parse().ok().filter(|_| text.len() == 2)?;
            (hour < 24).then_some(hour)
        };
        let (days, hours) = text.split_once(' ').unwrap_or((text, "00-23"));
        let days = range(days, &day).ok_or(UnknownHours)?;
        let hours = range(hours, &hour).ok_or(UnknownHours)?;
        Ok(Self { days, hours })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |at: u8| DAYS[usize::from(at) % 7];
        f.write_str(day(self.days.0))?;
        if self.days.0 != self.days.1 {
            write!(f, "-{}", day(self.days.1))?;
        }
        match self.hours {
            (0, 23) => Ok(()),
            (first, last) if first == last => write!(f, " {first:02}"),
            (first, last) => write!(f, " {first:02}-{last:02}"),
        }
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Hours {
    fn schema_name() -> Cow<'static, str> {
        "Hours".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let day = format!("({})", DAYS.join("|"));
        let hour = "([01][0-9]|2[0-3])";
        json_schema!({
            "type": "string",
            "maxLength": 13,
            "pattern": format!("^{day}(-{day})?( {hour}(-{hour})?)?$"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_moment_has_its_hour() {
        for (time, hour) in [
            ("1970-01-01T00:00:00Z", "Thu 00"),
            ("2026-11-23T00:00:00Z", "Mon 00"),
            ("2026-11-26T15:59:59Z", "Thu 15"),
            ("2026-11-29T23:00:00Z", "Sun 23"),
            ("1969-12-31T23:59:59Z", "Wed 23"),
        ] {
            assert_eq!(HourOfWeek::of(time.parse().unwrap()).to_string(), hour);
        }
    }

    #[test]
    fn a_range_can_pass_midnight_and_sunday() {
        let within = |range: &str, hour: &str| {
            let hour: Hours = hour.parse().unwrap();
            range
                .parse::<Hours>()
                .unwrap()
                .contains(hour.single().unwrap())
        };
        assert!(within("Mon-Fri 08-18", "Wed 18") && !within("Mon-Fri 08-18", "Wed 19"));
        assert!(within("Fri-Mon", "Sun 00") && !within("Fri-Mon", "Tue 00"));
        assert!(within("Sat 22-05", "Sat 02") && !within("Sat 22-05", "Sat 06"));
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        for text in [
            "",
            "Mon 9",
            "Mon 24",
            "mon 09",
            "Mon-",
            "09-17",
            "Mon 09:00",
            "Mon  09",
        ] {
            assert_eq!(text.parse::<Hours>(), Err(UnknownHours), "{text:?}");
        }
    }

    #[test]
    fn neighbours_stay_in_their_part_of_the_week() {
        let monday: Hours = "Mon 00".parse().unwrap();
        let near: Vec<_> = monday
            .single()
            .unwrap()
            .neighbours()
            .map(|h| h.to_string())
            .collect();
        assert_eq!(near.len(), 15);
        assert!(near.contains(&"Fri 23".to_owned()) && near.contains(&"Mon 01".to_owned()));
        assert!(!near.iter().any(|hour| hour.starts_with('S')));
    }

    proptest! {
        #[test]
        fn hours_read_as_they_are_written(days in (0u8..7, 0u8..7), hours in (0u8..24, 0u8..24)) {
            let range = Hours { days, hours };
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }
}
