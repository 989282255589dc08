//! What is known of one pod: the one state that store, schedule and metadata share.
//!
//! A record is a join of facts. Facts reach it from notices, from the store and from the pod's own
//! metadata, in any order and more than once; learning is idempotent and commutative, so none of
//! them has to know what the others already said. Everything that people see (deadline, first, last
//! and number of interactions) is derived from the facts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    interaction::Interaction,
    metadata::{Extension, Hold, Marks},
    terms::{Action, Exemption, Terms},
};

/// How many interactions a record keeps: the one that set the deadline and the latest others.
pub const MAX_KNOWN: usize = 16;

/// Within this time the same deed of the same person is one interaction: kubectl tries again over
/// SPDY when a proxy refuses its WebSocket.
pub const SAME_DEED_WITHIN: SignedDuration = SignedDuration::from_secs(2);

/// A pod, told apart from all others that ever had its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodId {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID that the API server gave it.
    pub uid: String,
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An interaction with the terms on which it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Known {
    /// What happened.
    pub interaction: Interaction,
    /// What follows from it.
    pub terms: Terms,
}

impl Known {
    /// When the pod's time ends by this interaction alone, without an extension.
    fn expiry(&self) -> Option<Timestamp> {
        match self.terms.action {
            Action::Evict => Some(later(self.interaction.time, self.terms.ttl)),
            Action::Record => None,
        }
    }

    /// Whether `other`, without its request, may be the same interaction.
    fn is_told_by(&self, other: &Known) -> bool {
        self.interaction.time == other.interaction.time
            && self.interaction.same_deed(&other.interaction)
            && self.expiry() == other.expiry()
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

/// Everything known of one pod. It has at least one interaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Record {
    /// The pod.
    pub pod: PodId,
    /// By time; each deed of each request once.
    known: Vec<Known>,
    /// Those that are not kept any more, and those before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
    /// What the pod's metadata counted. It is a count of its own: webhooks go on with it while the agent is
    /// away, whether it had all that the agent knew or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Counted>,
    /// The extension that stands on the pod, as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The hold that stands on the pod, as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// A record as it was written, by whatever release or by whatever else.
#[derive(Deserialize)]
struct Written {
    pod: PodId,
    #[serde(deserialize_with = "no_more_room")]
    known: Vec<Known>,
    #[serde(default)]
    counted: Option<Counted>,
    #[serde(default)]
    told: Option<Counted>,
    #[serde(default)]
    extension: Option<Extension>,
    #[serde(default)]
    hold: Option<Hold>,
}

/// What was read has no interaction, and so is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known: is empty, where at least one interaction would be right")]
struct NoInteraction;

impl TryFrom<Written> for Record {
    type Error = NoInteraction;

    fn try_from(written: Written) -> Result<Self, NoInteraction> {
        if written.known.is_empty() {
            return Err(NoInteraction);
        }
        let mut record = Self {
            pod: written.pod,
            known: written.known,
            counted: written.counted,
            told: written.told,
            extension: written.extension,
            hold: written.hold,
        };
        // Order and number are what everything else relies on.
        record.settle();
        Ok(record)
    }
}

impl Record {
    /// The record of a pod after its first interaction.
    pub fn new(pod: PodId, known: Known) -> Self {
        Self {
            pod,
            known: vec![known],
            counted: None,
            told: None,
            extension: None,
            hold: None,
        }
    }

    /// The record that a pod's own metadata tells, where it tells of an interaction.
    pub fn from_marks(pod: PodId, marks: Marks) -> Option<Self> {
        let first = marks.known.first()?.clone();
        let mut record = Self::new(pod, first);
        record.absorb(marks);
        Some(record)
    }

    /// Adds an interaction. Returns whether it was news.
    pub fn learn(&mut self, known: Known) -> bool {
        let before = self.clone();
        self.known.push(known.clone());
        self.settle();
        // Times are whole seconds: one of the very second up to which others were counted is not
        // told from those by its time.
        let uncounted = self.interactions() == before.interactions()
            && self.deeds().any(|deed| *deed == known)
            && !before.known.contains(&known);
        for counted in [&mut self.counted, &mut self.told].into_iter().flatten() {
            if uncounted && counted.until == known.interaction.time {
                counted.interactions = counted.interactions.saturating_add(1);
            }
        }
        *self != before
    }

    /// Adds what the pod's own metadata tells. Where it tells anything, it also says whether there is
    /// an extension or a hold; where it was lost, those remembered stand.
    pub fn absorb(&mut self, marks: Marks) {
        if !marks.known.is_empty() {
            self.extension = marks.extension;
            self.hold = marks.hold;
        }
        self.told = self.told.max(marks.counted);
        let known = || marks.known.iter().chain(&marks.alone);
        if !known().all(|known| self.has(known)) {
            self.known.extend(known().cloned());
            self.settle();
        }
        self.drop_idle_count();
    }

    /// Whether the interaction is known already, by which a pod is told that says nothing new.
    pub fn has(&self, known: &Known) -> bool {
        let nameless = known.interaction.request.is_empty();
        self.known.iter().any(|own| {
            own == known
                || (nameless && !own.interaction.request.is_empty() && own.is_told_by(known))
        })
    }

    /// Adds all that another record of the same pod knows. Whether an extension or a hold still stands
    /// is for the pod to say: until it does, the one that keeps the pod longer is believed.
    pub fn join(&mut self, other: Record) {
        self.known.extend(other.known);
        self.counted = self.counted.max(other.counted);
        self.told = self.told.max(other.told);
        self.extension = self.extension.take().max(other.extension);
        self.hold = self.hold.take().max(other.hold);
        self.settle();
        self.drop_idle_count();
    }

    /// The interaction that sets the deadline: of those that start a timer the one that ends first;
    /// where none does, the first of all.
    pub fn decisive(&self) -> &Known {
        let timed = self
            .known
            .iter()
            .filter_map(|known| Some((known.expiry()?, known)))
            .min();
        match timed {
            Some((_, known)) => known,
            None => &self.known[0],
        }
    }

    /// The latest interaction.
    pub fn last(&self) -> &Known {
        &self.known[self.known.len() - 1]
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

    /// The interactions that are still known, by time; repetitions of one deed are left out. What is
    /// repeated is told from the first of its kind, not from the last: a loop that runs a command every
    /// second does so many times, not once.
    pub fn deeds(&self) -> impl Iterator<Item = &Known> {
        let mut firsts: Vec<&Known> = Vec::with_capacity(self.known.len());
        for known in &self.known {
            let again = firsts.iter().rev().any(|first| {
                known.interaction.same_deed(&first.interaction)
                    && known
                        .interaction
                        .time
                        .duration_since(first.interaction.time)
                        <= SAME_DEED_WITHIN
            });
            if !again {
                firsts.push(known);
            }
        }
        firsts.into_iter()
    }

    /// How many interactions there were.
    pub fn interactions(&self) -> u32 {
        let told = self.told.map_or(0, |told| self.count(told));
        self.own_count().max(told)
    }

    /// How many there were without what the pod's metadata counted.
    fn own_count(&self) -> u32 {
        let kept = self.deeds().count() as u32;
        let counted = self.counted.map_or(0, |counted| self.count(counted));
        kept.max(counted)
    }

    /// Forgets what the pod's metadata counted where it says nothing more: nothing that is learned later adds
    /// to it and not to our own count, too. Most pods say only what they were told, and need no room for it.
    fn drop_idle_count(&mut self) {
        let own = self.own_count();
        self.told = self.told.filter(|told| self.count(*told) > own);
    }

    /// How many there were by this count: those of it, and those that are known to have come after.
    fn count(&self, counted: Counted) -> u32 {
        counted
            .interactions
            .saturating_add(self.since(counted.until))
    }

    /// How many interactions are known that were after this.
    fn since(&self, until: Timestamp) -> u32 {
        let later = self.deeds().filter(|known| known.interaction.time > until);
        later.count() as u32
    }

    /// By how much the deadline is extended: not at all beyond what the terms allow.
    pub fn extension(&self) -> Duration {
        match &self.extension {
            Some(extension) if extension.by <= self.decisive().terms.max_extension => extension.by,
            _ => Duration::ZERO,
        }
    }

    /// When the pod's time ends: the time of the decisive interaction, its time to live and the
    /// extension. None when nothing started a timer.
    pub fn deadline(&self) -> Option<Timestamp> {
        Some(later(self.decisive().expiry()?, self.extension()))
    }

    /// When the pod is to be evicted: at its deadline, or when its hold ends. A hold ends at a time
    /// that is fixed by the deadline, not by when somebody set it: setting it again gains nothing.
    pub fn eviction_time(&self) -> Option<Timestamp> {
        let deadline = self.deadline()?;
        Some(match self.hold {
            Some(_) => later(deadline, self.decisive().terms.max_hold),
            None => deadline,
        })
    }

    /// Why nothing that was done to the pod starts a timer, where the latest that would have says so.
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
        // Sorted by time first: of the same request the earliest stays.
        self.known.sort();
        let mut kept: Vec<Known> = Vec::with_capacity(self.known.len());
        for known in self.known.drain(..) {
            let request = &known.interaction.request;
            if request.is_empty() || kept.iter().all(|k| k.interaction.request != *request) {
                kept.push(known);
            }
        }
        // What the metadata tells without its request is the one of the same second with a request.
        let nameless_twin = |at: usize, known: &Known| {
            known.interaction.request.is_empty()
                && kept.iter().enumerate().any(|(other, twin)| {
                    other != at
                        && twin.is_told_by(known)
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
            let decisive = self.decisive().clone();
            let oldest = usize::from(self.known[0] == decisive);
            let kept = self.deeds().count() as u32;
            let counted = self.counted.map(|counted| self.count(counted));
            let told = self.told.map(|told| self.count(told));
            let removed = self.known.remove(oldest).interaction.time;
            // Counted without the one that goes: what was told from it is told from another now.
            let recount = |known: Option<Counted>, all: u32| {
                let until = known.map_or(removed, |known| known.until.max(removed));
                let interactions = all.saturating_sub(self.since(until));
                Counted {
                    until,
                    interactions,
                }
            };
            let all = counted.map_or(kept, |counted| counted.max(kept));
            let counted = recount(self.counted, all);
            self.told = told.map(|all| recount(self.told, all));
            self.counted = Some(counted);
        }
        // For the reason of `no_more_room`.
        self.known.shrink_to_fit();
    }

    /// What the pod's metadata has to count: all there were, up to the last.
    pub fn counted(&self) -> Counted {
        Counted {
            until: self.last().interaction.time,
            interactions: self.interactions(),
        }
    }
}

/// Reads a list into no more memory than it takes: most pods are touched once, and room for four would be
/// most of what their records take.
fn no_more_room<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Known>, D::Error> {
    Ok(Box::<[Known]>::deserialize(deserializer)?.into_vec())
}

/// A time that much later, or the last there is.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        interaction::{Command, Kind},
        metadata,
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn pod() -> PodId {
        PodId {
            namespace: "shop".into(),
            name: "cart-1".into(),
            uid: "u-1".into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn known(second: i64, user: &str, action: Action, ttl: u64, request: &str) -> Known {
        Known {
            interaction: Interaction {
                time: at(second),
                kind: Kind::Exec,
                user: user.into(),
                container: Some("app".into()),
                command: Command::new(["sh"]),
                request: request.into(),
            },
            terms: Terms {
                action,
                ttl: Duration::from_secs(ttl),
                max_extension: Duration::from_secs(3600),
                max_hold: Duration::from_secs(7200),
                exemption: None,
            },
        }
    }

    fn shell(second: i64, user: &str, request: &str) -> Known {
        known(second, user, Action::Evict, 600, request)
    }

    fn record(all: &[Known]) -> Record {
        let mut record = Record::new(pod(), all[0].clone());
        for known in &all[1..] {
            record.learn(known.clone());
        }
        record
    }

    fn extended(by: u64) -> Option<Extension> {
        Some(Extension {
            by: Duration::from_secs(by),
            text: format!("{by}s"),
            requester: "alice".into(),
        })
    }

    fn held(reason: &str) -> Option<Hold> {
        Some(Hold {
            reason: reason.into(),
            requester: "alice".into(),
        })
    }

    #[test]
    fn the_first_that_starts_a_timer_sets_the_deadline() {
        let record = record(&[shell(10, "alice", "a"), shell(50, "bob", "b")]);
        assert_eq!(record.deadline(), Some(at(610)));
        assert_eq!(record.decisive().interaction.user, "alice");
        assert_eq!(record.last().interaction.user, "bob");
        assert_eq!(record.interactions(), 2);
    }

    #[test]
    fn a_shorter_time_to_live_brings_the_deadline_forward() {
        let record = record(&[
            shell(0, "alice", "a"),
            known(100, "bob", Action::Evict, 60, "b"),
        ]);
        assert_eq!(record.deadline(), Some(at(160)));
    }

    #[test]
    fn what_only_is_recorded_never_shields_a_shell_afterwards() {
        let mut record = record(&[known(0, "alice", Action::Record, 600, "a")]);
        assert_eq!(record.deadline(), None);
        record.learn(shell(5, "alice", "b"));
        assert_eq!(record.deadline(), Some(at(605)));
    }

    #[test]
    fn a_retried_request_and_a_fallback_are_one_interaction() {
        let record = record(&[
            shell(0, "alice", "a"),
            shell(1, "alice", "a"),  // the API server asked again
            shell(2, "alice", "a2"), // kubectl fell back to SPDY
            shell(9, "alice", "b"),
        ]);
        assert_eq!(record.interactions(), 2);
        assert_eq!(record.deadline(), Some(at(600)));
    }

    #[test]
    fn a_loop_of_one_command_is_many_interactions() {
        let all: Vec<_> = (0..10)
            .map(|second| shell(second, "alice", &format!("r{second}")))
            .collect();
        assert_eq!(record(&all).interactions(), 4, "seconds 0, 3, 6 and 9");
    }

    #[test]
    fn an_extension_counts_within_its_maximum_only() {
        let mut record = record(&[shell(0, "alice", "a")]);
        record.extension = extended(1800);
        assert_eq!(record.deadline(), Some(at(2400)));
        record.extension = extended(3601);
        assert_eq!(record.deadline(), Some(at(600)));
    }

    #[test]
    fn a_hold_ends_at_a_time_that_holding_again_does_not_move() {
        let mut record = record(&[shell(0, "alice", "a")]);
        record.extension = extended(1800);
        assert_eq!(record.eviction_time(), Some(at(2400)));
        record.hold = held("evidence");
        assert_eq!(record.deadline(), Some(at(2400)));
        assert_eq!(record.eviction_time(), Some(at(2400 + 7200)));
        record.hold = held("again");
        assert_eq!(record.eviction_time(), Some(at(2400 + 7200)));
        record.hold = None;
        assert_eq!(record.eviction_time(), Some(at(2400)));
    }

    #[test]
    fn a_hold_keeps_nothing_that_has_no_deadline() {
        let mut record = record(&[known(0, "alice", Action::Record, 600, "a")]);
        record.hold = held("evidence");
        assert_eq!(record.eviction_time(), None);
    }

    #[test]
    fn an_exemption_is_told_as_long_as_nothing_starts_a_timer() {
        let mut harmless = known(0, "alice", Action::Record, 600, "a");
        harmless.terms.exemption = Some(Exemption::Harmless);
        let mut record = record(&[harmless]);
        assert_eq!(record.exemption(), Some(Exemption::Harmless));
        record.learn(shell(5, "alice", "b"));
        assert_eq!(record.exemption(), None);
    }

    #[test]
    fn what_stands_on_the_pod_wins_over_what_was_remembered() {
        let mut kept = record(&[shell(0, "alice", "a")]);
        kept.extension = extended(1800);
        kept.hold = held("evidence");
        let bare = Record {
            extension: None,
            hold: None,
            ..kept.clone()
        };
        // Released while nobody looked.
        kept.absorb(metadata::read(&pod(), &marks_of(&bare)).unwrap());
        assert_eq!((&kept.extension, &kept.hold), (&None, &None));
        // All metadata lost: nobody released anything.
        let mut remembered = bare.clone();
        remembered.hold = held("evidence");
        remembered.absorb(metadata::Marks::default());
        assert_eq!(remembered.hold, held("evidence"));
    }

    #[test]
    fn many_interactions_are_counted_and_few_are_kept() {
        let all: Vec<_> = (0..100)
            .map(|n| shell(n * 10, "alice", &format!("r{n}")))
            .collect();
        let record = record(&all);
        assert_eq!(record.interactions(), 100);
        assert_eq!(record.deadline(), Some(at(600)));
        assert_eq!(record.deeds().count(), MAX_KNOWN);
        assert_eq!(record.last().interaction.time, at(990));
    }

    #[test]
    fn those_of_one_second_are_all_counted_after_a_rebuild() {
        let told = record(&[
            shell(0, "alice", "a"),
            shell(9, "bob", "b"),
            shell(10, "carl", "c"),
        ]);
        let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
        let mut rebuilt = Record::from_marks(pod(), marks).unwrap();
        for user in ["dora", "eve", "frida"] {
            rebuilt.learn(shell(10, user, user));
            rebuilt.learn(shell(10, user, user));
        }
        assert_eq!(rebuilt.interactions(), 6);
    }

    #[test]
    fn marks_of_another_pod_tell_nothing() {
        let record = record(&[shell(0, "alice", "a")]);
        let marks = marks_of(&record);
        let copy = PodId {
            uid: "u-2".into(),
            ..pod()
        };
        assert_eq!(
            metadata::read(&copy, &marks),
            Ok(metadata::Marks::default())
        );
    }

    #[test]
    fn the_patch_is_bound_to_the_pod_that_was_read() {
        let record = record(&[known(0, "alice", Action::Record, 600, "a")]);
        let patch = metadata::patch(&record, &[], Some("7"));
        let metadata = &patch["metadata"];
        assert_eq!(metadata["uid"], "u-1");
        assert_eq!(metadata["resourceVersion"], "7");
        assert_eq!(metadata["labels"]["curfew.dev/interacted"], "true");
        assert_eq!(metadata["annotations"]["curfew.dev/interactor"], "alice");
        assert_eq!(metadata["annotations"]["curfew.dev/container"], "app");
        // What the record has no value for is taken away.
        let annotations = metadata["annotations"].as_object().unwrap();
        assert_eq!(
            annotations.get("curfew.dev/ttl"),
            Some(&serde_json::Value::Null)
        );
        assert_eq!(annotations.len(), crate::metadata::WRITTEN.len());
    }

    #[test]
    fn a_broken_mark_is_named() {
        let record = record(&[shell(0, "alice", "a")]);
        for (key, value) in [
            (metadata::INTERACTION_TIME, "yesterday"),
            (metadata::INTERACTION, "ssh"),
            (metadata::INTERACTIONS, "-1"),
            (metadata::TTL, "1d"),
            (metadata::LAST_INTERACTION, "{}"),
        ] {
            let mut marks = marks_of(&record);
            marks.insert(key.into(), value.into());
            let error = metadata::read(&pod(), &marks).unwrap_err();
            assert_eq!((error.key, error.value.as_str()), (key, value));
        }
    }

    fn marks_of(record: &Record) -> BTreeMap<String, String> {
        metadata::annotations(record, &[])
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    prop_compose! {
        fn any_known()(
            second in 0i64..30,
            user in 0usize..3,
            evict: bool,
            ttl in 0u64..40,
            request in 0usize..12,
        ) -> Known {
            let action = if evict { Action::Evict } else { Action::Record };
            // One request is one deed of one user: the API server does not reuse its UIDs.
            known(second, ["a", "b", "c"][(user + request) % 3], action, ttl, &format!("r{request}-{user}-{evict}-{ttl}"))
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            all in prop::collection::vec(any_known(), 1..MAX_KNOWN),
            seed: u64,
        ) {
            let mut shuffled = all.clone();
            let len = shuffled.len();
            for n in 0..len {
                shuffled.swap(n, (seed as usize).wrapping_mul(n + 7) % len);
            }
            prop_assert_eq!(record(&all), record(&shuffled));
        }

        /// Store, metadata and notices may be put together in any order, and more than once.
        #[test]
        fn joining_is_commutative_and_idempotent(
            ours in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
            theirs in prop::collection::vec(any_known(), 1..MAX_KNOWN / 2),
            extensions in (prop::option::of(0u64..90), prop::option::of(0u64..90)),
            holds in (prop::option::of("[a-c]"), prop::option::of("[a-c]")),
        ) {
            let mut one = record(&ours);
            one.extension = extensions.0.and_then(extended);
            one.hold = holds.0.as_deref().and_then(held);
            let mut other = record(&theirs);
            other.extension = extensions.1.and_then(extended);
            other.hold = holds.1.as_deref().and_then(held);
            let mut left = one.clone();
            left.join(other.clone());
            let mut right = other.clone();
            right.join(one.clone());
            prop_assert_eq!(&left, &right);
            let mut again = left.clone();
            again.join(one);
            again.join(other);
            prop_assert_eq!(again, left);
        }

        /// Whatever comes later, an interaction that was learned stays: kept, or counted when there are
        /// too many to keep, and the deadline stays within what it promised.
        #[test]
        fn nothing_learned_is_forgotten(mut all in prop::collection::vec(any_known(), 1..60)) {
            // In the order in which things happen; a request that is asked again is the same interaction.
            all.sort_by_key(|known| known.interaction.time);
            for (at, known) in all.iter_mut().enumerate() {
                known.interaction.request = at.to_string();
            }
            let mut record = Record::new(pod(), all[0].clone());
            for (at, known) in all.iter().enumerate() {
                let before = record.interactions();
                record.learn(known.clone());
                prop_assert!(record.interactions() >= before);
                let promised = all[..=at].iter().filter_map(Known::expiry).min();
                prop_assert_eq!(record.decisive().expiry(), promised);
            }
        }

        #[test]
        fn learning_again_changes_nothing(all in prop::collection::vec(any_known(), 1..40)) {
            let mut once = record(&all);
            let before = once.clone();
            for known in before.known.clone() {
                prop_assert!(!once.learn(known));
            }
            prop_assert_eq!(once, before);
        }

        #[test]
        fn a_deadline_only_comes_nearer(all in prop::collection::vec(any_known(), 2..40)) {
            let mut record = Record::new(pod(), all[0].clone());
            for known in &all[1..] {
                let before = record.deadline();
                record.learn(known.clone());
                prop_assert!(record.deadline() <= before || before.is_none());
            }
        }

        /// What says nothing new is passed over, and only that.
        #[test]
        fn a_pod_is_believed_whatever_is_known_already(
            ours in prop::collection::vec((any_known(), any::<bool>()), 1..4),
            others in prop::collection::vec(any_known(), 0..2),
            nameless in prop::collection::vec(any::<bool>(), 4),
            stricter in prop::collection::vec(any::<bool>(), 4),
        ) {
            let own = |(mut known, nameless): (Known, bool)| {
                if nameless {
                    known.interaction.request.clear();
                }
                known
            };
            let ours: Vec<_> = ours.into_iter().map(own).collect();
            let mut told: Vec<_> = ours.iter().cloned().chain(others).collect();
            for (known, (nameless, stricter)) in told.iter_mut().zip(nameless.into_iter().zip(stricter)) {
                if nameless {
                    known.interaction.request.clear();
                }
                if stricter {
                    known.terms.max_extension /= 2;
                }
            }
            let mut joined = record(&ours);
            let mut absorbed = joined.clone();
            joined.known.extend(told.iter().cloned());
            joined.settle();
            absorbed.absorb(Marks { known: told, ..Marks::default() });
            prop_assert_eq!(absorbed, joined);
        }

        #[test]
        fn the_metadata_alone_rebuilds_what_people_were_told(
            all in prop::collection::vec(any_known(), 1..40),
        ) {
            let told = record(&all);
            let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
            let mut same = told.clone();
            same.absorb(marks.clone());
            prop_assert_eq!(same.deadline(), told.deadline());
            prop_assert_eq!(same.interactions(), told.interactions());
            let rebuilt = Record::from_marks(pod(), marks).unwrap();
            prop_assert_eq!(rebuilt.deadline(), told.deadline());
            prop_assert_eq!(rebuilt.interactions(), told.interactions());
            prop_assert_eq!(marks_of(&rebuilt), marks_of(&told));
        }
    }
}
