//! How often a user comes to a workload, as this replica sees it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use curfew_core::behaviour::RATE_WINDOW;
use jiff::Timestamp;

use super::ProfileKey;

/// The parts of the window that are counted together, in seconds.
const PART: i64 = 60;
/// How many parts the window has.
const PARTS: usize = RATE_WINDOW as usize / 60;
/// The most users of workloads that are counted. Of more, each counts as the first of its kind.
const MAX_ENTRIES: usize = 8192;

/// Counts of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Rates {
    hasher: RandomState,
    entries: Mutex<HashMap<u64, Rate>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    /// The number of the latest part.
    part: i64,
    /// The counts of the parts, by their number modulo [`PARTS`].
    counts: [u16; PARTS],
}

impl Rates {
    /// Counts an interaction, and returns how many there were within the window, this one included.
    pub(super) fn count(&self, key: &ProfileKey, user: &str, now: Timestamp) -> u32 {
        let part = now.as_second().div_euclid(PART);
        let hash = self.hasher.hash_one((key, user));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(&hash) && entries.len() >= MAX_ENTRIES {
            entries.retain(|_, rate| rate.part + PARTS as i64 > part);
            if entries.len() >= MAX_ENTRIES {
                return 1;
            }
        }
        entries.entry(hash).or_default().count(part)
    }
}

impl Rate {
    fn count(&mut self, part: i64) -> u32 {
        let at = |part: i64| part.rem_euclid(PARTS as i64) as usize;
        // A clock that went back adds to what is newest.
        let passed = (part - self.part).clamp(0, PARTS as i64);
        for past in 1..=passed {
            self.counts[at(self.part + past)] = 0;
        }
        if passed == PARTS as i64 {
            self.counts = [0; PARTS];
        }
        self.part = self.part.max(part);
        let count = &mut self.counts[at(self.part)];
        *count = count.saturating_add(1);
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_ten_minutes_does_not_count() {
        let rates = Rates::default();
        let key = |name: &str| ProfileKey {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let count = |user, second: i64| {
            let now = Timestamp::from_second(1_800_000_000 + second).unwrap();
            rates.count(&key("deployment.web"), user, now)
        };
        assert_eq!([count("a", 0), count("a", 59), count("b", 60)], [1, 2, 1]);
        assert_eq!(count("a", 540), 3);
        assert_eq!(count("a", 600), 2, "the first two are too old");
        assert_eq!(count("a", 599), 3, "the clock went back");
        assert_eq!(count("a", 10_000), 1);
        let other = rates.count(&key("deployment.db"), "a", Timestamp::UNIX_EPOCH);
        assert_eq!(other, 1);
    }
}
