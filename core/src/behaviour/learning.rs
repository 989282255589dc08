//! Learning: what replicas saw is added to the status of a profile.
//!
//! A replica gathers what it sees and freezes it from time to time into a [`Delta`] with a number. It reads the
//! profile, merges the delta, and writes the profile with its resourceVersion. After a conflict it reads and merges
//! again. If the answer is lost, it does the same: the status says which deltas of which replica are in it, so that a
//! delta that was written after all is not merged twice.
//!
//! As long as there is room, the result does not depend on the order in which deltas of different replicas come. At
//! the limit of their number it is the same criteria with the same last sight; first sight and samples of one that was
//! dropped and came back can differ.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    actor_count::ActorCount,
    criterion::Criterion,
    facet::Facet,
    features::Features,
    profile::{
        LastIrregular, Learned, MAX_LEARNED, MAX_LEARNED_BYTES, Period, ProfileStatus, Sighting,
        Writer,
    },
};
use crate::{actor::Actor, interaction::MAX_USER, text};

/// The most replicas that are remembered. There are two; each that starts anew is another one.
pub const MAX_WRITERS: usize = 16;
/// The most periods that are not trusted: what another replica saw then comes within minutes.
const MAX_DISTRUSTED: usize = 8;
/// The most criteria that are gathered before they are written.
const MAX_GATHERED: usize = MAX_LEARNED;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A criterion that was not seen for so many days vanishes.
    pub days: u32,
    /// The most criteria; at most [`MAX_LEARNED`].
    pub criteria: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            days: 90,
            criteria: MAX_LEARNED,
        }
    }
}

impl Retention {
    /// Before this moment, what was seen last then has vanished.
    pub fn begin(&self, now: Timestamp) -> Timestamp {
        let back = SignedDuration::from_hours(24 * i64::from(self.days));
        now.checked_sub(back).unwrap_or(Timestamp::MIN)
    }
}

/// What was seen of one workload and not yet frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    samples: u64,
    people: u64,
    since: Option<Timestamp>,
    seen: BTreeMap<Criterion, Sighting>,
    dropped: u64,
    irregular: u64,
    last_irregular: Option<LastIrregular>,
    distrusted: Vec<Period>,
}

impl Gathered {
    /// Adds an interaction that may be learned: see [`Decision::is_learned`](super::Decision::is_learned). One that was
    /// denied, or that was irregular, must not come here.
    pub fn learn(&mut self, features: &Features, time: Timestamp) {
        self.samples += 1;
        self.people += u64::from(features.actor == Actor::User);
        self.since = Some(self.since.map_or(time, |since| since.min(time)));
        self.add(&features.user, features.facets(), time);
    }

    /// Adds what the session of such an interaction left behind. The interaction itself was learned when it happened, and
    /// is not counted again.
    pub fn learn_left(&mut self, features: &Features, time: Timestamp) {
        self.add(&features.user, features.left_facets(), time);
    }

    fn add<'a>(&mut self, user: &str, facets: impl Iterator<Item = Facet<'a>>, time: Timestamp) {
        let mut criteria: Vec<_> = facets
            .filter_map(|facet| Criterion::learned(&facet))
            .collect();
        criteria.sort();
        criteria.dedup();
        let sighting = Sighting {
            first_seen: time,
            last_seen: time,
            samples: 1,
            actors: ActorCount::one(user),
        };
        for criterion in criteria {
            if let Some(known) = self.seen.get_mut(&criterion) {
                known.join(&sighting);
            } else if self.seen.len() < MAX_GATHERED {
                self.seen.insert(criterion, sighting.clone());
            } else {
                self.dropped += 1;
            }
        }
    }

    /// Counts an irregular interaction; it is not learned.
    pub fn irregular(&mut self, user: &str, reason: &str, time: Timestamp) {
        self.irregular += 1;
        let last = LastIrregular {
            time,
            user: text::cut(&text::visible(user), MAX_USER).into_owned(),
            reason: text::cut(&text::visible(reason), 1024).into_owned(),
        };
        self.last_irregular = self.last_irregular.take().max(Some(last));
    }

    /// Takes back what was learned in this period: from the first interaction with a pod that was found misused until
    /// it was found. More may be taken back than was learned from that pod; it is learned again where it is usual.
    pub fn distrust(&mut self, period: Period) {
        distrust(&mut self.distrusted, period);
    }

    /// How many criteria it takes room for.
    pub fn criteria(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one replica saw of one workload, ready to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    writer: String,
    sequence: u64,
    gathered: Gathered,
}

impl Delta {
    /// Whether interactions were learned in it.
    pub fn has_samples(&self) -> bool {
        self.gathered.samples > 0
    }
}

/// Gathers for one profile and makes its deltas, one after the other.
#[derive(Debug, Clone)]
pub struct Learner {
    writer: String,
    sequence: u64,
    gathered: Gathered,
    under_way: Option<Delta>,
}

impl Learner {
    /// A learner of a process with this name. Another process, or the next start of this one, must have another name,
    /// because the numbers of the deltas begin anew.
    pub fn new(writer: &str) -> Self {
        Self {
            writer: text::cut(writer, 253).into_owned(),
            sequence: 0,
            gathered: Gathered::default(),
            under_way: None,
        }
    }

    /// How many criteria it takes room for, those under way included.
    pub fn criteria(&self) -> usize {
        let under_way = self.under_way.as_ref();
        self.gathered.criteria() + under_way.map_or(0, |delta| delta.gathered.criteria())
    }

    /// Whether there is something to write.
    pub fn has_news(&self) -> bool {
        self.under_way.is_some() || !self.gathered.is_empty()
    }

    /// Where what is seen is added.
    pub fn gathered(&mut self) -> &mut Gathered {
        &mut self.gathered
    }

    /// What is to be written next: the delta of which it is not known whether it was written, or a new one. None if
    /// nothing was seen.
    pub fn next_delta(&mut self) -> Option<&Delta> {
        if self.under_way.is_none() && !self.gathered.is_empty() {
            self.sequence += 1;
            self.under_way = Some(Delta {
                writer: self.writer.clone(),
                sequence: self.sequence,
                gathered: std::mem::take(&mut self.gathered),
            });
        }
        self.under_way.as_ref()
    }

    /// The delta is in the profile as the API server has it.
    pub fn written(&mut self) {
        self.under_way = None;
    }
}

/// What became of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It is in the status now, which has to be written.
    Added,
    /// It was in the status before. Nothing has changed.
    Before,
}

/// Adds a period to those that are not trusted.
fn distrust(periods: &mut Vec<Period>, period: Period) {
    if periods.iter().any(|known| known.covers(period)) {
        return;
    }
    periods.retain(|known| !period.covers(*known));
    periods.push(period);
    periods.sort_unstable();
    let surplus = periods.len().saturating_sub(MAX_DISTRUSTED);
    periods.drain(..surplus);
}

impl Sighting {
    /// Adds what was seen elsewhere or at another time.
    fn join(&mut self, other: &Sighting) {
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.samples = self.samples.saturating_add(other.samples);
        self.actors.join(&other.actors);
    }
}

impl ProfileStatus {
    /// Adds what a replica saw, and drops what has vanished or has no room.
    pub fn merge(&mut self, delta: &Delta, retention: &Retention, now: Timestamp) -> Merged {
        match self
            .writers
            .iter_mut()
            .find(|writer| writer.name == delta.writer)
        {
            Some(writer) if writer.sequence >= delta.sequence => return Merged::Before,
            Some(writer) => (writer.sequence, writer.time) = (delta.sequence, now),
            None => self.writers.push(Writer {
                name: delta.writer.clone(),
                sequence: delta.sequence,
                time: now,
            }),
        }
        self.forget_writers();
        let new = &delta.gathered;
        self.samples = self.samples.saturating_add(new.samples);
        self.people = self.people.saturating_add(new.people);
        self.since = [self.since, new.since].into_iter().flatten().min();
        self.dropped = self.dropped.saturating_add(new.dropped);
        self.irregular = self.irregular.saturating_add(new.irregular);
        self.last_irregular = self.last_irregular.take().max(new.last_irregular.clone());
        for period in &new.distrusted {
            distrust(&mut self.distrusted, *period);
        }
        let is_distrusted =
            |time: Timestamp| self.distrusted.iter().any(|period| period.contains(time));
        // What began in that time has taught nothing that counts, and begins anew: with the samples alone, everything
        // would be irregular from now on.
        if self.since.is_some_and(is_distrusted) {
            (self.samples, self.people, self.since) = (0, 0, None);
        }
        let learned = std::mem::take(&mut self.learned);
        let mut learned: BTreeMap<_, _> = learned
            .into_iter()
            .map(|learned| (learned.criterion, learned.sighting))
            .collect();
        for (criterion, sighting) in &new.seen {
            match learned.get_mut(criterion) {
                Some(known) => known.join(sighting),
                None => {
                    learned.insert(criterion.clone(), sighting.clone());
                }
            }
        }
        let begin = retention.begin(now);
        learned.retain(|_, sighting| {
            sighting.last_seen >= begin && !is_distrusted(sighting.first_seen)
        });
        self.learned = learned
            .into_iter()
            .map(|(criterion, sighting)| Learned {
                criterion,
                sighting,
            })
            .collect();
        self.make_room(retention);
        Merged::Added
    }

    /// Drops what was not seen for the longest time, until the rest has room.
    fn make_room(&mut self, retention: &Retention) {
        let most = retention.criteria.min(MAX_LEARNED);
        let most_bytes: usize = self
            .learned
            .iter()
            .map(|learned| learned.criterion.size() + 160)
            .sum();
        if self.learned.len() <= most && most_bytes <= MAX_LEARNED_BYTES {
            return;
        }
        let size = |learned: &Learned| {
            serde_json::to_string(learned).map_or(usize::MAX, |text| text.len() + 1)
        };
        let mut order: Vec<usize> = (0..self.learned.len()).collect();
        order.sort_by(|a, b| {
            let age = |at: usize| (&self.learned[at].sighting.last_seen, at);
            age(*b).cmp(&age(*a))
        });
        let mut left = MAX_LEARNED_BYTES;
        let mut keeps = vec![false; self.learned.len()];
        for at in order.into_iter().take(most) {
            // Nothing that is older than what has no room may stay, or the order of merging would matter.
            let Some(rest) = left.checked_sub(size(&self.learned[at])) else {
                break;
            };
            (left, keeps[at]) = (rest, true);
        }
        let before = self.learned.len();
        let mut keeps = keeps.into_iter();
        self.learned.retain(|_| keeps.next().unwrap_or_default());
        let dropped = before - self.learned.len();
        self.dropped = self
            .dropped
            .saturating_add(u64::try_from(dropped).unwrap_or(u64::MAX));
    }

    fn forget_writers(&mut self) {
        self.writers.sort_by(|a, b| a.name.cmp(&b.name));
        while self.writers.len() > MAX_WRITERS {
            let oldest = self
                .writers
                .iter()
                .enumerate()
                .min_by_key(|(_, writer)| writer.time);
            let Some((at, _)) = oldest else { return };
            self.writers.remove(at);
        }
    }
}
