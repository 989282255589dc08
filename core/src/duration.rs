//! Durations as Go and so Kubernetes write them: `90s`, `1h30m`, `1h30m0s`.
//!
//! Reading takes what Go's `time.ParseDuration` takes, without a sign: every duration of Curfew's is
//! a length. Writing gives what Go's `Duration.String` gives for whole seconds.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer};

/// What a text lacks to be a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {problem}; write it as 90s, 30m or 1h30m")]
pub struct InvalidDuration {
    text: String,
    problem: &'static str,
}

/// Nanoseconds of the units, longest name first where one is the beginning of another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// The longest text that is looked at: nobody types a longer one.
const MAX_LENGTH: usize = 64;

/// Reads a duration such as `1h30m` or `1.5h`.
///
/// # Errors
/// When the text is empty or overlong, has a sign, lacks a unit (all but a plain `0`), names an
/// unknown unit, or does not fit the 64-bit nanoseconds of Go (292 years).
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = |problem| InvalidDuration {
        text: crate::text::cut(text, MAX_LENGTH).into_owned(),
        problem,
    };
    if text.len() > MAX_LENGTH {
        return Err(invalid("it is too long"));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with(['-', '+']) {
        return Err(invalid("it has a sign"));
    }
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => {
                let digits =
                    after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                after.split_at(digits)
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid("a number is missing"));
        }
        let name_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (name, after) = after.split_at(name_end);
        let unit = UNITS
            .iter()
            .find_map(|(unit, nanos)| (*unit == name).then_some(*nanos))
            .ok_or_else(|| {
                invalid(if name.is_empty() {
                    "a unit is missing"
                } else {
                    "its unit is none of h, m, s, ms, us, ns"
                })
            })?;
        let too_large = |_| invalid("it is too large");
        if !whole.is_empty() {
            nanos += whole.parse::<u64>().map_err(too_large)? as u128 * unit;
        }
        let mut place = unit;
        for digit in fraction.bytes() {
            place /= 10;
            nanos += u128::from(digit - b'0') * place;
        }
        if nanos > i64::MAX as u128 {
            return Err(invalid("it is too large"));
        }
        rest = after;
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Writes the whole seconds of a duration as Go prints them: `1h30m0s`, `10m0s`, `45s`, `0s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

/// A time as people think of it: `in 9m59s`, `3s ago` or `now`.
pub fn relative(time: Timestamp, now: Timestamp) -> String {
    let ahead = time.duration_since(now);
    let length = format(ahead.unsigned_abs());
    match ahead.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("in {length}"),
        _ => format!("{length} ago"),
    }
}

/// For `#[serde(with = "curfew_core::duration")]`: the form of [`format`].
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*duration))
}

/// The whole seconds of a duration, which are all that [`format`] writes.
pub fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// For `#[serde(with = "curfew_core::duration")]`: what [`parse`] takes, without parts of a second. What
/// has them would be another duration as soon as it was written and read again.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(whole).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, seconds) in [
            ("0", 0.0),
            ("0s", 0.0),
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("1h30m0s", 5400.0),
            ("1.5h", 5400.0),
            (".5m", 30.0),
            ("1m1m", 120.0),
            ("250ms", 0.25),
        ] {
            assert_eq!(parse(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("", "empty"),
            ("-1h", "sign"),
            ("+1h", "sign"),
            ("5", "unit is missing"),
            ("1d", "none of"),
            ("abc", "number is missing"),
            ("1h ", "none of"),
            ("99999999999999999999h", "too large"),
            ("9999999h", "too large"),
            (&"1h".repeat(60), "too long"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (600, "10m0s"),
            (5400, "1h30m0s"),
            (90_061, "25h1m1s"),
        ] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(seconds in 0u64..9_000_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
