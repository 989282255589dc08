//! What is known about the pods of this node: the input of the schedule, without I/O.
//!
//! [`reconcile`] decides what must be done for a pod, and which pod may be evicted now. [`outcomes`] handles the
//! answers of the API server. [`evidence`] decides when to look at a pod, and whether it is released.
//!
//! Each call gets an event (an interaction became durable, the watch saw a pod, a request was answered) and the
//! current time, and returns [`Decisions`]. The state is level-triggered: each event makes it check the whole state
//! of the pod, so it retries a failed action, whatever the reason of the failure was.

mod evidence;
mod outcomes;
mod reconcile;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use curfew_core::{PodId, Record, RecordedInteraction};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Batch,
    action::Decisions,
    budget_waiters::BudgetWaiters,
    circuit_breaker::CircuitBreaker,
    domain_events,
    eviction_key::EvictionKey,
    eviction_outcome::EvictionOutcome,
    patch,
    pod::{Eviction, Marking, PodEntry, PodRow},
    pod_view::{PodSnapshot, PodView},
};

/// How long the watch may lag behind a notice before the pod is looked up by name.
const UNSEEN_PATIENCE: SignedDuration = SignedDuration::from_secs(15);

pub use evidence::Evidence;

/// What of it can be set.
#[derive(Debug, Clone, Copy)]
pub struct NodeSettings {
    /// How many eviction requests may be open at a time.
    pub max_evictions: usize,
    /// How long a budget may block the eviction of a pod before the pod is reported as stuck.
    pub blocked_after: Duration,
    /// Whether pods are looked at.
    pub evidence: Evidence,
}

/// The pods of one node.
#[derive(Debug)]
pub struct NodeState {
    /// Each has its own place: an entry is large, and inside the tree half of the room would stay free.
    entries: BTreeMap<String, Box<PodEntry>>,
    /// When to look at which pod again, by time.
    timers: BTreeSet<(Timestamp, String)>,
    due: BTreeSet<EvictionKey>,
    /// Pods that went before the request to evict them was answered.
    gone_before_answer: BTreeMap<String, Box<PodEntry>>,
    waiters: BudgetWaiters,
    breaker: CircuitBreaker,
    open_evictions: usize,
    settings: NodeSettings,
    /// UIDs whose record may differ from what the store holds.
    dirty: BTreeSet<String>,
    /// UIDs whose record is being written to it.
    writing: BTreeSet<String>,
    synced: bool,
    /// How often the watch has begun to list the pods.
    lists: u64,
    /// What the clock showed last.
    latest: Timestamp,
}

impl NodeState {
    /// The state of a node of which nothing is known yet.
    pub fn new(settings: NodeSettings) -> Self {
        Self {
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: BTreeSet::new(),
            gone_before_answer: BTreeMap::new(),
            waiters: BudgetWaiters::default(),
            breaker: CircuitBreaker::default(),
            open_evictions: 0,
            settings,
            dirty: BTreeSet::new(),
            writing: BTreeSet::new(),
            synced: false,
            lists: 0,
            latest: Timestamp::MIN,
        }
    }

    /// The store was opened and holds these records. What is known beyond them is to be written to it.
    pub fn restore(&mut self, records: Vec<Record>, now: Timestamp, out: &mut Decisions) {
        let known = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.record.is_some());
        self.dirty.extend(known.map(|(uid, _)| uid.clone()));
        for stored in records {
            let uid = stored.pod.uid.clone();
            let entry = self.entry(&uid, now);
            match &mut entry.record {
                Some(record) => {
                    // What stands on the pod was learned from the pod already.
                    let overrides = (record.extension.take(), record.hold.take());
                    record.join(stored);
                    if entry.pod.as_ref().is_some_and(PodSnapshot::tells) {
                        (record.extension, record.hold) = overrides;
                    }
                }
                empty => {
                    *empty = Some(stored);
                    entry.restored = true;
                }
            }
            self.reconcile(&uid, now, out);
        }
    }

    /// What is known of the pod, from now on if nothing is yet.
    fn entry(&mut self, uid: &str, now: Timestamp) -> &mut PodEntry {
        let entry = self.entries.entry(uid.to_owned());
        entry.or_insert_with(|| Box::new(PodEntry::new(now)))
    }

    /// Whether anything is known of the pod of that UID.
    pub fn knows(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// The pods that are known from a notice only, because the watch has not shown them. Pods whose record is from
    /// the store are not among them: the watch has shown them before.
    pub fn unseen(&self) -> impl Iterator<Item = &str> {
        let unseen = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.record.is_some() && entry.pod.is_none() && !entry.restored);
        unseen.map(|(uid, _)| uid.as_str())
    }

    /// Whether each record stands on its pod, too, so that nothing is lost with this process.
    pub fn is_on_the_pods(&self) -> bool {
        let mut entries = self.entries.values();
        entries.all(|entry| match (&entry.record, &entry.pod) {
            (Some(record), Some(pod)) => patch::wanted(record, &entry.unsynced, pod).is_none(),
            (Some(_), None) => false,
            (None, _) => true,
        })
    }

    /// Whether the first list of the node's pods is complete.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// The record that the pod would have with this interaction.
    pub fn with(&self, pod: &PodId, known: &RecordedInteraction) -> Record {
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
        known: RecordedInteraction,
        now: Timestamp,
        out: &mut Decisions,
    ) -> Record {
        let record = self.with(&pod, &known);
        let uid = pod.uid;
        let entry = self.entry(&uid, now);
        let before = entry.record.as_ref();
        domain_events::noticed(before, &record, &known, entry.ending(), out);
        domain_events::irregular(before, &record, entry.ending(), out);
        domain_events::overrides(before, &record, entry, out);
        entry.record = Some(record.clone());
        self.noted(&uid, std::slice::from_ref(&known), now);
        self.reconcile(&uid, now, out);
        record
    }

    /// The API server answered one of the agent's requests with the pod. The answer is later than everything that
    /// the watch showed before the request was sent, whatever the resourceVersions are. What the watch has shown
    /// since then may be even later, or the watch may have shown that the pod is gone. In these cases the watch is
    /// right.
    pub fn answered(&mut self, pod: PodView, now: Timestamp, out: &mut Decisions) {
        let Some(entry) = self.entries.get_mut(&pod.id.uid) else {
            return;
        };
        if entry.pod.is_none() || entry.marking == (Marking::Asked { shown: false }) {
            entry.answered_in = Some(self.lists);
            self.found(pod, now, out);
        }
    }

    /// The watch saw the pod.
    pub fn seen(&mut self, pod: PodView, now: Timestamp, out: &mut Decisions) {
        let entry = self.entry(&pod.id.uid, now);
        entry.answered_in = None;
        if let Marking::Asked { shown } = &mut entry.marking {
            *shown = true;
        }
        self.found(pod, now, out);
    }

    /// The pod is as this says.
    fn found(&mut self, pod: PodView, now: Timestamp, out: &mut Decisions) {
        let PodView { id, marks, state } = pod;
        let uid = id.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        let before = entry.record.clone();
        entry.pod = Some(state);
        let ending = entry.ending();
        let restored = std::mem::take(&mut entry.restored);
        let ordered_before = marks.evict_now.as_ref().and_then(|order| order.since);
        let told = marks.unsynced.iter().chain(marks.latest());
        let unknown =
            |known: &&RecordedInteraction| before.as_ref().is_none_or(|before| !before.has(known));
        let news: Vec<_> = told.filter(unknown).cloned().collect();
        match &mut entry.record {
            Some(record) => {
                if restored {
                    let untold = record.interactions().saturating_sub(marks.interactions());
                    domain_events::latest(record, untold, ending, out);
                }
                record.absorb(marks);
            }
            empty => *empty = Record::from_marks(id, marks),
        }
        if let Some(record) = &mut entry.record {
            record.put_order_in_force(now);
        }
        // Interactions that are too old to be kept are already counted. They would seem new each time the pod is
        // seen.
        let record = entry.record.as_ref();
        let kept = |known: &RecordedInteraction| record.is_some_and(|record| record.has(known));
        let noted = news.clone();
        entry.unsynced.extend(news.into_iter().filter(kept));
        if entry.record != before
            && let Some(record) = &entry.record
        {
            self.dirty.insert(uid.clone());
            domain_events::learned(before.as_ref(), record, ending, out);
            domain_events::irregular(before.as_ref(), record, ending, out);
            domain_events::overrides(before.as_ref(), record, entry, out);
            let is_told = ordered_before.is_some_and(|since| since <= now);
            domain_events::ordered(before.as_ref(), record, entry, is_told, out);
        }
        self.noted(&uid, &noted, now);
        self.reconcile(&uid, now, out);
    }

    /// The pod of that UID is gone, and its record with it.
    pub fn gone(&mut self, uid: &str, out: &mut Decisions) {
        let Some(mut entry) = self.entries.remove(uid) else {
            return;
        };
        if let Some(budget) = self.unschedule(&mut entry, uid) {
            self.waiters.close_if_empty(&budget, out);
        }
        if let Some(record) = &entry.record {
            self.dirty.insert(uid.to_owned());
            if entry.is_carried_out() {
                out.events
                    .extend(domain_events::eviction(record, entry.pod.as_ref(), false));
            }
            out.events.push(domain_events::gone(record));
            if entry.eviction == Eviction::Asked && !entry.asked_dry_run {
                self.gone_before_answer.insert(uid.to_owned(), entry);
            }
        }
    }

    /// The watch is about to list the node's pods.
    pub fn list_begins(&mut self) {
        self.lists += 1;
    }

    /// The list of the node's pods is complete: these there are.
    pub fn listed(&mut self, uids: &BTreeSet<String>, now: Timestamp, out: &mut Decisions) {
        self.synced = true;
        let missing: Vec<String> = self
            .entries
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        for uid in missing {
            match self.entries.get_mut(&uid) {
                // The API server has shown it since the list began, so it may be later than the list.
                Some(entry) if entry.answered_in == Some(self.lists) => {}
                // It was in the watch's earlier events and is not in its list.
                Some(entry) if entry.pod.is_some() => self.gone(&uid, out),
                // The store knows it, or a notice was faster than the watch: the API server knows.
                Some(entry) => {
                    entry.unseen_since = now - UNSEEN_PATIENCE;
                    self.reconcile(&uid, now, out);
                }
                None => {}
            }
        }
    }

    /// Whether something is to be written to the store.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What is to be written to the store since the last call, one batch at a time.
    pub fn take_dirty(&mut self) -> Batch {
        self.writing = std::mem::take(&mut self.dirty);
        self.writing
            .iter()
            .map(|uid| {
                let record = self.entries.get(uid).and_then(|entry| entry.record.clone());
                // An order stands on the pod, where nobody can remove it.
                (uid.clone(), record.filter(|record| record.last().is_some()))
            })
            .collect()
    }

    /// The batch was written. Interactions that were on a pod because the store did not have them can be removed
    /// there.
    pub fn written(&mut self, now: Timestamp, out: &mut Decisions) {
        for uid in std::mem::take(&mut self.writing) {
            if self.dirty.contains(&uid) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&uid)
                && !std::mem::take(&mut entry.unsynced).is_empty()
            {
                self.reconcile(&uid, now, out);
            }
        }
    }

    /// A batch could not be written. The records that the state knows will be written with a later batch. An
    /// interaction that was only in this batch is dropped, because its sender got an error.
    pub fn not_written(&mut self, batch: Batch) {
        self.writing.clear();
        self.dirty.extend(batch.into_keys());
    }

    /// What is known of the pod of that UID.
    pub fn record(&self, uid: &str) -> Option<&Record> {
        self.entries.get(uid)?.record.as_ref()
    }

    /// Every pod with a record.
    pub fn rows(&self, now: Timestamp) -> impl Iterator<Item = PodRow<'_>> {
        self.entries.values().filter_map(move |entry| {
            let (state, refusal) = entry.state(now, self.settings.blocked_after);
            Some(PodRow {
                record: entry.record.as_ref()?,
                state,
                reason: refusal.map(EvictionOutcome::message),
                blocker: entry.blocker(),
                termination: entry.pod.as_ref().and_then(|pod| pod.termination),
            })
        })
    }
}

#[cfg(test)]
mod tests;
