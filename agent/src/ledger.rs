//! What is to be done for the pods of this node, and when: the schedule without its I/O.
//!
//! The ledger takes what happened (an interaction became durable, the watch saw a pod, a request
//! was answered) with the time it is, and says what to do as [`Effect`]s. It is level-triggered: each
//! event makes it look at the pod as a whole, so an effect that failed is found again, whatever it was
//! that failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use curfew_core::{Known, PodId, Record, metadata, record::later};
use jiff::{SignedDuration, Timestamp};

use crate::{
    evict::{self, Outcome},
    mark::{self, Change},
    pods::PodView,
    store::Batch,
};

/// How long the watch may lag behind a notice before the pod is looked up by name.
const UNSEEN_PATIENCE: SignedDuration = SignedDuration::from_secs(15);

/// How long to wait after a failed patch of the pod's metadata.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// Something to do outside. Each is answered by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Change the pod's metadata; answered by [`Ledger::marked`].
    Mark(Change),
    /// Ask the API server to evict the pod; answered by [`Ledger::evicted`].
    Evict(PodId),
    /// Look whether the pod still exists, which the watch did not show; answered by
    /// [`Ledger::looked_up`] or by the pod as it was found.
    LookUp(PodId),
    /// Tell people.
    Announce(Announcement),
}

/// What people are told of, by an Event on the pod, a line in the log and a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// Somebody reached into the pod.
    Interaction {
        /// The pod.
        pod: PodId,
        /// Who, how, and what follows.
        known: Known,
        /// When the pod goes.
        deadline: Option<Timestamp>,
    },
    /// The API server accepted the eviction.
    Evicted {
        /// The pod.
        pod: PodId,
        /// Whose interaction set the deadline.
        decisive: Known,
        /// The deadline.
        deadline: Timestamp,
    },
    /// The store was damaged, and a new one was begun.
    StoreRebuilt {
        /// The node whose store it is.
        node: String,
        /// Where the damaged one is.
        moved_to: String,
    },
    /// The eviction was refused for a reason that people can do something about.
    Blocked {
        /// The pod.
        pod: PodId,
        /// Why.
        why: Outcome,
    },
}

/// Where a pod stands on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Eviction {
    /// It may be asked for from this time on, its deadline included.
    From(Timestamp),
    /// The request is open.
    Asked,
    /// The API server accepted; the pod has its grace period, and its finalizers.
    Accepted,
}

/// How often an eviction was refused in a row, and why the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    outcome: Outcome,
    tries: u32,
}

/// Where the pod's metadata stand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Marking {
    /// Nothing is under way.
    Idle,
    /// The patch is open.
    Asked,
    /// It failed and is tried again then.
    Failed { again: Timestamp },
    /// The API server takes no such patch for the pod as it is: only a changed pod is tried again.
    Refused { version: String },
}

#[derive(Debug)]
struct Entry {
    record: Option<Record>,
    pod: Option<PodView>,
    /// Whether the record is from the store and the pod has yet to show how much of it was told: the
    /// agent may have been killed between the two.
    restored: bool,
    /// Since when the watch owes us the pod.
    unseen_since: Timestamp,
    eviction: Eviction,
    refusal: Option<Refusal>,
    marking: Marking,
    wake: Option<Timestamp>,
    /// The place among those that wait for an eviction request, while it is there.
    turn: Option<Turn>,
}

/// The order of evictions: lowest priority first, then the earliest deadline.
type Turn = (i32, Timestamp, String);

/// The pods of one node.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// When to look at which pod again, by time.
    agenda: BTreeSet<(Timestamp, String)>,
    due: BTreeSet<Turn>,
    /// Pods that went before the request to evict them was answered.
    outrun: BTreeMap<String, Record>,
    open_evictions: usize,
    max_evictions: usize,
    /// UIDs whose record may differ from what the store holds.
    dirty: BTreeSet<String>,
    synced: bool,
}

/// A pod as the ledger has it, for those who look into the agent.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// What is known.
    pub record: &'a Record,
    /// Where it stands.
    pub state: State<'a>,
}

/// Where a pod stands, in the words of `/v1/schedule` and of the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State<'a> {
    /// No timer runs.
    Recorded,
    /// Its deadline lies ahead.
    Scheduled,
    /// Its deadline has passed; the request waits for its turn or its answer.
    Due,
    /// It was refused and will be asked again.
    Refused(&'a Outcome),
    /// It is on its way out.
    Terminating,
    /// All its containers ended by themselves.
    Finished,
    /// It stands for a static pod, which Curfew leaves alone.
    Static,
    /// The watch has not shown it yet.
    Unseen,
}

impl State<'_> {
    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Recorded => "recorded",
            State::Scheduled => "scheduled",
            State::Due => "due",
            State::Refused(outcome) if outcome.is_blocked() => "blocked",
            State::Refused(_) => "retrying",
            State::Terminating => "terminating",
            State::Finished => "finished",
            State::Static => "static",
            State::Unseen => "unseen",
        }
    }

    /// Whether the pod is still to be evicted.
    pub fn is_pending(&self) -> bool {
        matches!(self, State::Scheduled | State::Due | State::Refused(_))
    }
}

impl Ledger {
    /// A ledger that knows nothing yet.
    pub fn new(max_evictions: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            agenda: BTreeSet::new(),
            due: BTreeSet::new(),
            outrun: BTreeMap::new(),
            open_evictions: 0,
            max_evictions,
            dirty: BTreeSet::new(),
            synced: false,
        }
    }

    /// The store was opened and holds these records. What is known beyond them is to be written to it.
    pub fn restore(&mut self, records: Vec<Record>, now: Timestamp, out: &mut Vec<Effect>) {
        let known = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.record.is_some());
        self.dirty.extend(known.map(|(uid, _)| uid.clone()));
        for stored in records {
            let uid = stored.pod.uid.clone();
            let entry = self
                .entries
                .entry(uid.clone())
                .or_insert_with(|| Entry::new(None, now));
            match &mut entry.record {
                Some(record) => record.join(stored),
                empty => {
                    *empty = Some(stored);
                    entry.restored = true;
                }
            }
            self.attend(&uid, now, out);
        }
    }

    /// Whether the first list of the node's pods is complete.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// The record that the pod would have with this interaction.
    pub fn with(&self, pod: &PodId, known: &Known) -> Record {
        match self
            .entries
            .get(&pod.uid)
            .and_then(|entry| entry.record.as_ref())
        {
            Some(record) => {
                let mut record = record.clone();
                record.learn(known.clone());
                record
            }
            None => Record::new(pod.clone(), known.clone()),
        }
    }

    /// An interaction is durable. Returns the record that has it.
    pub fn learned(
        &mut self,
        pod: PodId,
        known: Known,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Record {
        let record = self.with(&pod, &known);
        let uid = pod.uid;
        let entry = self
            .entries
            .entry(uid.clone())
            .or_insert_with(|| Entry::new(None, now));
        announce_news(entry.record.as_ref(), &record, out);
        entry.record = Some(record.clone());
        self.attend(&uid, now, out);
        record
    }

    /// The API server answered a request of ours with the pod. The watch may have shown a later version
    /// meanwhile, or that the pod is gone: then it knows better.
    pub fn answered(&mut self, pod: PodView, now: Timestamp, out: &mut Vec<Effect>) {
        let news = match self.entries.get(&pod.id.uid) {
            None => false,
            Some(Entry { pod: None, .. }) => true,
            Some(Entry {
                pod: Some(known), ..
            }) => pod.is_later_than(known),
        };
        if news {
            self.seen(pod, now, out);
        }
    }

    /// The watch saw the pod.
    pub fn seen(&mut self, pod: PodView, now: Timestamp, out: &mut Vec<Effect>) {
        let uid = pod.id.uid.clone();
        let marks = metadata::read(&pod.id, &pod.annotations).unwrap_or_else(|error| {
            tracing::warn!(pod = %pod.id, uid, %error, "the pod's metadata cannot be read");
            metadata::Marks::default()
        });
        let entry = self
            .entries
            .entry(uid.clone())
            .or_insert_with(|| Entry::new(None, now));
        let before = entry.record.clone();
        let restored = std::mem::take(&mut entry.restored);
        match &mut entry.record {
            Some(record) => {
                if restored {
                    let told = marks.counted.map_or(0, |counted| counted.interactions);
                    announce_latest(record, record.interactions().saturating_sub(told), out);
                }
                record.absorb(marks);
            }
            empty => *empty = Record::from_marks(pod.id.clone(), marks),
        }
        if entry.record != before
            && let Some(record) = &entry.record
        {
            self.dirty.insert(uid.clone());
            announce_news(before.as_ref(), record, out);
        }
        entry.pod = Some(pod);
        self.attend(&uid, now, out);
    }

    /// The pod of that UID is gone, and its record with it.
    pub fn gone(&mut self, uid: &str) {
        let Some(mut entry) = self.entries.remove(uid) else {
            return;
        };
        self.unschedule(&mut entry, uid);
        if let Some(record) = entry.record {
            tracing::info!(pod = %record.pod, uid, "the pod is gone and its record ends");
            self.dirty.insert(uid.to_owned());
            if entry.eviction == Eviction::Asked {
                self.outrun.insert(uid.to_owned(), record);
            }
        }
    }

    /// The list of the node's pods is complete: these there are.
    pub fn listed(&mut self, uids: &BTreeSet<String>, now: Timestamp, out: &mut Vec<Effect>) {
        self.synced = true;
        let missing: Vec<String> = self
            .entries
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        for uid in missing {
            match self.entries.get_mut(&uid) {
                // It was in the watch's earlier events and is not in its list.
                Some(Entry { pod: Some(_), .. }) => self.gone(&uid),
                // The store knows it, or a notice outran the watch: the API server knows.
                Some(entry) => {
                    entry.unseen_since = now - UNSEEN_PATIENCE;
                    self.attend(&uid, now, out);
                }
                None => {}
            }
        }
    }

    /// The patch of the pod's metadata was answered.
    pub fn marked(
        &mut self,
        uid: &str,
        result: mark::Outcome,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        entry.marking = match result {
            mark::Outcome::Done => Marking::Idle,
            mark::Outcome::Failed => Marking::Failed {
                again: later(now, MARK_RETRY),
            },
            mark::Outcome::Refused => Marking::Refused {
                version: entry
                    .pod
                    .as_ref()
                    .map_or_else(String::new, |pod| pod.version.clone()),
            },
        };
        self.attend(uid, now, out);
    }

    /// The request to evict the pod was answered.
    pub fn evicted(&mut self, uid: &str, outcome: Outcome, now: Timestamp, out: &mut Vec<Effect>) {
        self.open_evictions = self.open_evictions.saturating_sub(1);
        // Where a pod ends at once, the watch says so before the request is answered.
        if let Some(record) = self.outrun.remove(uid) {
            if outcome == Outcome::Accepted {
                out.extend(announce_eviction(&record));
            }
            self.next_turns(out);
            return;
        }
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        match outcome {
            Outcome::Accepted => {
                entry.eviction = Eviction::Accepted;
                out.extend(entry.record.as_ref().and_then(announce_eviction));
            }
            Outcome::Gone => {
                // The watch will say so; should it not, the look-up does. Should the pod be there all
                // the same, it is asked for again.
                entry.eviction = Eviction::From(later(now, evict::backoff(&outcome, 1, uid)));
                entry.pod = None;
                entry.unseen_since = now - UNSEEN_PATIENCE;
            }
            outcome => {
                let last = entry.refusal.take();
                let told = last
                    .as_ref()
                    .is_some_and(|last| last.outcome.same_cause(&outcome));
                if outcome.concerns_people() && !told {
                    out.extend(entry.id().map(|pod| {
                        Effect::Announce(Announcement::Blocked {
                            pod,
                            why: outcome.clone(),
                        })
                    }));
                }
                let tries = last.map_or(0, |last| last.tries) + 1;
                entry.eviction = Eviction::From(later(now, evict::backoff(&outcome, tries, uid)));
                entry.refusal = Some(Refusal { outcome, tries });
            }
        }
        self.attend(uid, now, out);
        self.next_turns(out);
    }

    /// Looks at every pod whose time has come.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some((at, uid)) = self.agenda.first()
            && *at <= now
        {
            let uid = uid.clone();
            self.attend(&uid, now, out);
        }
    }

    /// When to look again: never before, and not at all when nothing is to come.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Whether something is to be written to the store.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What is to be written to the store since the last call.
    pub fn take_dirty(&mut self) -> Batch {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|uid| {
                let record = self
                    .entries
                    .get(&uid)
                    .and_then(|entry| entry.record.clone());
                (uid, record)
            })
            .collect()
    }

    /// A batch could not be written. What the ledger has of it stays to be written; an interaction
    /// that was only proposed is left out, for its sender was told that it failed.
    pub fn not_written(&mut self, batch: Batch) {
        self.dirty.extend(batch.into_keys());
    }

    /// Every pod with a record.
    pub fn lines(&self, now: Timestamp) -> impl Iterator<Item = Line<'_>> {
        self.entries.values().filter_map(move |entry| {
            let record = entry.record.as_ref()?;
            let state = entry.state(record, now);
            Some(Line { record, state })
        })
    }

    /// Decides all there is to decide for one pod: the one place where effects begin.
    fn attend(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(mut entry) = self.entries.remove(uid) else {
            return;
        };
        self.unschedule(&mut entry, uid);
        let Some(record) = &entry.record else {
            // A pod that nobody touched: it is remembered while it lives.
            self.entries.insert(uid.to_owned(), entry);
            return;
        };
        let mut wake = None;
        let mut look_at =
            |at: Timestamp| wake = Some(wake.map_or(at, |wake: Timestamp| wake.min(at)));
        match &entry.pod {
            None => {
                let again = entry.unseen_since + UNSEEN_PATIENCE;
                if now >= again {
                    entry.unseen_since = now;
                    out.push(Effect::LookUp(record.pod.clone()));
                }
                look_at(entry.unseen_since + UNSEEN_PATIENCE);
            }
            Some(pod) if pod.terminating => {}
            Some(pod) => {
                if let Some(change) = mark::wanted(record, pod) {
                    let free = match &entry.marking {
                        Marking::Idle => true,
                        Marking::Asked => false,
                        Marking::Refused { version } => *version != pod.version,
                        Marking::Failed { again } => {
                            if now < *again {
                                look_at(*again);
                            }
                            now >= *again
                        }
                    };
                    if free {
                        entry.marking = Marking::Asked;
                        out.push(Effect::Mark(change));
                    }
                }
                if let Some(deadline) = record.deadline()
                    && let Eviction::From(from) = entry.eviction
                    && !pod.finished
                    && !pod.mirror
                {
                    let from = deadline.max(from);
                    if now >= from {
                        let turn = (pod.priority, deadline, uid.to_owned());
                        self.due.insert(turn.clone());
                        entry.turn = Some(turn);
                    } else {
                        look_at(from);
                    }
                }
            }
        }
        if let Some(wake) = wake {
            self.agenda.insert((wake, uid.to_owned()));
        }
        entry.wake = wake;
        self.entries.insert(uid.to_owned(), entry);
        self.next_turns(out);
    }

    /// Lets those whose turn it is ask for their eviction, as many as may be open at a time.
    fn next_turns(&mut self, out: &mut Vec<Effect>) {
        while self.open_evictions < self.max_evictions
            && let Some((_, _, uid)) = self.due.pop_first()
        {
            if let Some(entry) = self.entries.get_mut(&uid)
                && let Some(pod) = entry.id()
            {
                entry.turn = None;
                entry.eviction = Eviction::Asked;
                self.open_evictions += 1;
                out.push(Effect::Evict(pod));
            }
        }
    }

    fn unschedule(&mut self, entry: &mut Entry, uid: &str) {
        if let Some(wake) = entry.wake.take() {
            self.agenda.remove(&(wake, uid.to_owned()));
        }
        if let Some(turn) = entry.turn.take() {
            self.due.remove(&turn);
        }
    }
}

impl Entry {
    fn new(record: Option<Record>, now: Timestamp) -> Self {
        Self {
            record,
            restored: false,
            pod: None,
            unseen_since: now,
            eviction: Eviction::From(Timestamp::MIN),
            refusal: None,
            marking: Marking::Idle,
            wake: None,
            turn: None,
        }
    }

    fn id(&self) -> Option<PodId> {
        self.record.as_ref().map(|record| record.pod.clone())
    }

    fn state(&self, record: &Record, now: Timestamp) -> State<'_> {
        let Some(pod) = &self.pod else {
            return State::Unseen;
        };
        match (record.deadline(), &self.refusal) {
            _ if pod.terminating || self.eviction == Eviction::Accepted => State::Terminating,
            _ if pod.finished => State::Finished,
            _ if pod.mirror => State::Static,
            (None, _) => State::Recorded,
            (Some(_), Some(refusal)) => State::Refused(&refusal.outcome),
            (Some(deadline), None) if now < deadline => State::Scheduled,
            (Some(_), None) => State::Due,
        }
    }
}

/// Tells that the eviction was accepted.
fn announce_eviction(record: &Record) -> Option<Effect> {
    Some(Effect::Announce(Announcement::Evicted {
        pod: record.pod.clone(),
        decisive: record.decisive().clone(),
        deadline: record.deadline()?,
    }))
}

/// Tells of the latest so many interactions.
fn announce_latest(record: &Record, untold: u32, out: &mut Vec<Effect>) {
    let deeds: Vec<_> = record.deeds().collect();
    let first = deeds.len().saturating_sub(untold as usize);
    for known in &deeds[first..] {
        out.push(announce_interaction(record, known));
    }
}

fn announce_interaction(record: &Record, known: &Known) -> Effect {
    Effect::Announce(Announcement::Interaction {
        pod: record.pod.clone(),
        known: known.clone(),
        deadline: record.deadline(),
    })
}

/// Tells of the interactions that the record has now and had not before.
fn announce_news(before: Option<&Record>, record: &Record, out: &mut Vec<Effect>) {
    for known in record.deeds() {
        let told = before.is_some_and(|before| {
            before.deeds().any(|old| {
                old.interaction.time == known.interaction.time
                    && old.interaction.same_deed(&known.interaction)
            })
        });
        if !told {
            out.push(announce_interaction(record, known));
        }
    }
}

#[cfg(test)]
mod tests;
