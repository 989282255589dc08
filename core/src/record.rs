//! The record of one pod: everything that is known about it. Store, schedule and metadata share this type.
//!
//! A record is a set of facts. The facts come from notices, from the store and from the pod's own metadata, in any
//! order and possibly more than once. Adding a fact is idempotent and commutative, so no source needs to know what
//! the others have added. Everything that people see (the deadline, the first and the last interaction and their
//! number) is derived from the facts.

mod again;
mod deadline;
mod evidence;
mod marks;
mod written;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    drift::Drift,
    interaction::Interaction,
    pod_id::PodId,
    terms::{Exemption, Terms},
};

pub use deadline::MAX_BOUNDS;
pub use evidence::EvidenceMarks;
pub use marks::{EvictNow, Extension, Hold, MAX_REASON, Marks, Short};

/// How many interactions a record keeps: those that decide when the pod goes and the latest others.
pub const MAX_KNOWN: usize = 16;

/// How much is kept of why an interaction was irregular, in bytes. Pods show it in an annotation.
pub const MAX_IRREGULAR: usize = 384;

/// Within this time what the same person repeats on the same terms is one interaction: kubectl tries again over
/// SPDY when a proxy refuses its WebSocket.
pub const REPEATED_WITHIN: SignedDuration = SignedDuration::from_secs(2);

/// An interaction with the terms on which it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordedInteraction {
    /// What happened.
    pub interaction: Interaction,
    /// What follows from it.
    pub terms: Terms,
    /// The policy that set the terms; none where the webhook's flags did, or where nothing says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<str>>,
    /// Why it was irregular for the workload, at most [`MAX_IRREGULAR`] bytes; none where it was not, or where nothing
    /// says. Older releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irregular: Option<Box<str>>,
}

impl RecordedInteraction {
    /// Whether one repeats the other: the same person did the same, on the same terms: a command that is harmless
    /// by itself is not the same with a terminal.
    pub fn is_repeat_of(&self, other: &RecordedInteraction) -> bool {
        self.interaction.is_repeat_of(&other.interaction) && self.terms == other.terms
    }

    /// Whether both are of the same second, and alike in all that annotations tell but the terms.
    pub(crate) fn did_the_same(&self, other: &RecordedInteraction) -> bool {
        self.interaction.time == other.interaction.time
            && self.interaction.looks_like(&other.interaction)
    }

    /// Whether `other`, without its request, may be the same interaction. Annotations tell neither streams
    /// nor all terms.
    pub fn is_shown_by(&self, other: &RecordedInteraction) -> bool {
        self.did_the_same(other)
            && (self.timer() == other.timer()
                // Told before the pod had a controller.
                || (self.has_lost_its_exemption() && other.timer().is_none())
                || self.was_told_as(other))
    }
}

/// So many interactions there were up to a time, whether they are still kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Counted {
    /// The time of the last one counted.
    pub until: Timestamp,
    /// Their number.
    pub interactions: u32,
}

/// Everything known of one pod. It has at least one interaction, or an order to evict the pod now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "written::Written")]
pub struct Record {
    /// The pod.
    pub pod: PodId,
    /// By time; each interaction of each request once.
    known: Vec<RecordedInteraction>,
    /// Those that are not kept any more, and those before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
    /// What the pod's metadata counted. It is a count of its own: webhooks go on with it while the agent is
    /// away, whether it had all that the agent knew or not.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "told")]
    count_in_metadata: Option<Counted>,
    /// The extension that stands on the pod, as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The hold that stands on the pod, as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The order to evict the pod now. It stays, whatever the pod says later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evict_now: Option<EvictNow>,
    /// When the API server answered a dry run that it would evict the pod. That is the end of the dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_go: Option<Timestamp>,
    /// What the latest look found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Box<Drift>>,
    /// The time of the first look that said that something has changed. It stays, whatever later looks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// The pod was released: an interaction at this time or before starts no timer any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Timestamp>,
    /// The time since which changes count, where it is earlier than all interactions that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl Record {
    /// The record of a pod after its first interaction.
    pub fn new(pod: PodId, known: RecordedInteraction) -> Self {
        Self {
            known: vec![known],
            ..Self::untouched(pod)
        }
    }

    /// What is known of a pod with which nobody interacted.
    fn untouched(pod: PodId) -> Self {
        Self {
            pod,
            known: Vec::new(),
            counted: None,
            count_in_metadata: None,
            extension: None,
            hold: None,
            evict_now: None,
            would_go: None,
            drift: None,
            changed: None,
            released: None,
            since: None,
        }
    }

    /// The record that a pod's own metadata tells, where it tells of an interaction or of an order to evict the pod
    /// now.
    pub fn from_marks(pod: PodId, marks: Marks) -> Option<Self> {
        let first = marks.known.first();
        let first = first.or(marks.short.as_ref().map(|short| &short.known));
        let mut record = match first {
            Some(first) => Self::new(pod, first.clone()),
            None => {
                marks.evict_now.as_ref()?;
                Self::untouched(pod)
            }
        };
        record.absorb(marks);
        Some(record)
    }

    /// Adds an interaction. Returns whether it was news.
    pub fn learn(&mut self, known: RecordedInteraction) -> bool {
        let before = self.clone();
        let repeated = self.repeats(&known);
        self.known.push(known);
        self.settle();
        // A new interaction must increase each count by one. Its time does not show whether it is counted already,
        // because times are whole seconds, and because an interaction that there is no room for is not kept.
        if !repeated {
            let own = before.own_count().saturating_add(1);
            let missing = own.saturating_sub(self.own_count());
            if let Some(counted) = &mut self.counted {
                counted.interactions = counted.interactions.saturating_add(missing);
            }
            let was = before
                .count_in_metadata
                .map(|counted| before.count(counted));
            let is = self.count_in_metadata.map(|counted| self.count(counted));
            if let (Some(counted), Some(was), Some(is)) = (&mut self.count_in_metadata, was, is) {
                let missing = was.saturating_add(1).saturating_sub(is);
                counted.interactions = counted.interactions.saturating_add(missing);
            }
        }
        *self != before
    }

    /// Whether the interaction is one of those that are kept, or repeats one of them.
    fn repeats(&self, known: &RecordedInteraction) -> bool {
        let is_repeat_of = |first: &RecordedInteraction| {
            let apart = known
                .interaction
                .time
                .duration_since(first.interaction.time);
            known.is_repeat_of(first) && apart.abs() <= REPEATED_WITHIN
        };
        // A record that was rebuilt from the pod has it without its request.
        let shown = |kept: &RecordedInteraction| {
            kept.interaction.request.is_empty() && known.is_shown_by(kept)
        };
        self.known
            .iter()
            .any(|kept| kept.is_of_same_request(known) || shown(kept))
            || self.distinct().any(is_repeat_of)
    }

    /// Whether the record keeps an interaction of that time that is the same, whatever its terms were at first.
    pub fn tells_of(&self, known: &RecordedInteraction) -> bool {
        self.known.iter().any(|kept| {
            // A record that was rebuilt from the pod has it without its request.
            let nameless = kept.interaction.request.is_empty();
            kept.is_of_same_request(known)
                || (nameless && known.is_shown_by(kept))
                || (kept.interaction.time == known.interaction.time && kept.is_repeat_of(known))
        })
    }

    /// Adds the facts from the pod's own metadata. If the metadata contains any, it also says whether there is an
    /// extension or a hold. If the metadata was lost, the remembered extension and hold stay.
    pub fn absorb(&mut self, marks: Marks) {
        if !marks.known.is_empty() || marks.short.is_some() {
            self.extension = marks.extension;
            self.hold = marks.hold;
        }
        self.evict_now = EvictNow::join(self.evict_now.take(), marks.evict_now);
        if let Some(short) = marks.short {
            self.absorb_short(short);
        }
        self.count_in_metadata = self.count_in_metadata.max(marks.count_in_metadata);
        self.would_go = self.would_go.max(marks.would_go);
        self.absorb_evidence(marks.evidence);
        let known = || marks.known.iter().chain(&marks.unsynced);
        if !known().all(|known| self.has(known)) {
            self.known.extend(known().cloned());
            self.settle();
        }
        self.drop_idle_count();
    }

    /// Adds the facts from a pod that has no room for a whole record. Usually they are a part of this record. If the
    /// eviction time on the pod is earlier than that of the record, a webhook added an interaction while it could
    /// not reach the agent.
    fn absorb_short(&mut self, short: Short) {
        let own = self.timer();
        let is_news = |timer| {
            own.is_none_or(|own| timer < own) && !self.evidence().has_released(&short.known)
        };
        if short.known.timer().is_some_and(is_news) {
            self.known.push(short.known);
            self.settle();
        }
        if short.interactions > self.interactions()
            && let Some(last) = self.last()
        {
            self.count_in_metadata = Some(Counted {
                until: last.interaction.time,
                interactions: short.interactions,
            });
        }
    }

    /// Whether the interaction is already known. Used to find out whether the metadata of a pod contains anything
    /// new.
    pub fn has(&self, known: &RecordedInteraction) -> bool {
        let nameless = known.interaction.request.is_empty();
        self.known.iter().any(|own| {
            own == known
                || (nameless && !own.interaction.request.is_empty() && own.is_shown_by(known))
        })
    }

    /// Adds all facts of another record of the same pod. Only the pod shows whether an extension or a hold is still
    /// set. Until it was seen, the one that keeps the pod for longer is used.
    pub fn join(&mut self, other: Record) {
        self.known.extend(other.known);
        self.counted = self.counted.max(other.counted);
        self.count_in_metadata = self.count_in_metadata.max(other.count_in_metadata);
        self.extension = self.extension.take().max(other.extension);
        self.hold = self.hold.take().max(other.hold);
        self.evict_now = EvictNow::join(self.evict_now.take(), other.evict_now);
        self.would_go = self.would_go.max(other.would_go);
        self.drift = Drift::latest(self.drift.take(), other.drift);
        self.changed = earliest(self.changed, other.changed);
        self.released = self.released.max(other.released);
        self.since = earliest(self.since, other.since);
        self.settle();
        self.drop_idle_count();
    }

    /// The latest interaction; none where there is only an order to evict the pod now.
    pub fn last(&self) -> Option<&RecordedInteraction> {
        self.known.last()
    }

    /// The admission requests of all interactions that are still known, by time, with spaces between them:
    /// what a line of the log carries that is about all of them. There are at most [`MAX_KNOWN`].
    pub fn requests(&self) -> String {
        let requests = self
            .known
            .iter()
            .map(|known| known.interaction.request.as_str());
        let named: Vec<_> = requests.filter(|request| !request.is_empty()).collect();
        named.join(" ")
    }

    /// The interactions that are still known, by time, without repetitions. A repetition must come soon after the
    /// first interaction of its kind, not after the last. So a loop that runs a command every second counts as many
    /// interactions, and not as one.
    pub fn distinct(&self) -> impl Iterator<Item = &RecordedInteraction> {
        let mut firsts: Vec<&RecordedInteraction> = Vec::with_capacity(self.known.len());
        for known in &self.known {
            let again = firsts.iter().rev().any(|first| {
                known.is_repeat_of(first)
                    && known
                        .interaction
                        .time
                        .duration_since(first.interaction.time)
                        <= REPEATED_WITHIN
            });
            if !again {
                firsts.push(known);
            }
        }
        firsts.into_iter()
    }

    /// How many interactions there were.
    pub fn interactions(&self) -> u32 {
        let in_metadata = self
            .count_in_metadata
            .map_or(0, |counted| self.count(counted));
        self.own_count().max(in_metadata)
    }

    /// How many there were without what the pod's metadata counted.
    fn own_count(&self) -> u32 {
        let kept = self.distinct().count() as u32;
        let counted = self.counted.map_or(0, |counted| self.count(counted));
        kept.max(counted)
    }

    /// Drops the count from the pod's metadata if it is not higher than our own count. Later interactions increase
    /// both counts, so this loses nothing. For most pods the two counts are equal, and this saves memory.
    fn drop_idle_count(&mut self) {
        let own = self.own_count();
        self.count_in_metadata = self
            .count_in_metadata
            .filter(|counted| self.count(*counted) > own);
    }

    /// How many there were by this count: those of it, and those that are known to have come after.
    fn count(&self, counted: Counted) -> u32 {
        counted
            .interactions
            .saturating_add(self.later_than(counted.until))
    }

    /// How many interactions are known that were after this.
    fn later_than(&self, until: Timestamp) -> u32 {
        let later = self
            .distinct()
            .filter(|known| known.interaction.time > until);
        later.count() as u32
    }

    /// Why no interaction with the pod starts a timer: the reason of the latest interaction that has one.
    pub fn exemption(&self) -> Option<Exemption> {
        match self.deadline() {
            Some(_) => None,
            None => self
                .known
                .iter()
                .rev()
                .find_map(|known| known.terms.exemption),
        }
    }

    /// Brings the facts into their one form: sorted, each once, no more than are to be kept.
    fn settle(&mut self) {
        // Sorted by time first: of the same request the earliest stays, with the strictest terms of all.
        self.known.sort();
        let mut kept: Vec<RecordedInteraction> = Vec::with_capacity(self.known.len());
        for known in self.known.drain(..) {
            match kept.iter_mut().find(|kept| kept.is_of_same_request(&known)) {
                Some(kept) => kept.add(known),
                None => kept.push(known),
            }
        }
        // What the metadata tells without its request is the one of the same second with a request.
        let nameless_twin = |at: usize, known: &RecordedInteraction| {
            known.interaction.request.is_empty()
                && kept.iter().enumerate().any(|(other, twin)| {
                    other != at
                        && twin.is_shown_by(known)
                        && (!twin.interaction.request.is_empty() || other < at)
                })
        };
        let twins: Vec<bool> = kept
            .iter()
            .enumerate()
            .map(|(at, known)| nameless_twin(at, known))
            .collect();
        let alone = kept.into_iter().zip(twins).filter(|(_, twin)| !twin);
        self.known.extend(alone.map(|(known, _)| known));
        while self.known.len() > MAX_KNOWN {
            // What decides stays, and so does the latest: there are far fewer of them than are kept.
            let mut bounds = self.bounds();
            bounds.extend(self.exempt_bounds());
            // All of them are never needed at once, and the latest has to stay.
            bounds.truncate(MAX_KNOWN - 1);
            let goes = |known: &RecordedInteraction| !bounds.contains(&known);
            let oldest = self.known.iter().position(goes).unwrap_or_default();
            let kept = self.distinct().count() as u32;
            let counted = self.counted.map(|counted| self.count(counted));
            let in_metadata = self.count_in_metadata.map(|counted| self.count(counted));
            let removed = self.known.remove(oldest).interaction.time;
            self.begin_at(removed);
            // Count again without the removed interaction, because it may have been the first of several
            // repetitions.
            let recount = |known: Option<Counted>, all: u32| {
                let until = known.map_or(removed, |known| known.until.max(removed));
                let interactions = all.saturating_sub(self.later_than(until));
                Counted {
                    until,
                    interactions,
                }
            };
            let all = counted.map_or(kept, |counted| counted.max(kept));
            let counted = recount(self.counted, all);
            self.count_in_metadata = in_metadata.map(|all| recount(self.count_in_metadata, all));
            self.counted = Some(counted);
        }
        // For the reason of `written::no_more_room`.
        self.known.shrink_to_fit();
    }
}

/// A time that much later, or the last there is.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The earlier of two times, of which each may be missing.
fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests;
