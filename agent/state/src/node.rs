//! What is to be done for the pods of this node, and when: the schedule without its I/O.
//!
//! It takes what happened (an interaction became durable, the watch saw a pod, a request
//! was answered) with the time it is, and says what to do as [`Effect`]s. It is level-triggered: each
//! event makes it look at the pod as a whole, so an effect that failed is found again, whatever it was
//! that failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use curfew_core::{Known, PodId, Record, Wishes, record::later};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Batch,
    action::{Announcement, Effect},
    budget::{BudgetId, BudgetView},
    budget_waiters::BudgetWaiters,
    circuit_breaker::CircuitBreaker,
    diff,
    eviction_outcome::Outcome,
    patch::{self, PatchOutcome},
    pod::{Eviction, Line, Marking, PodEntry, Refusal, State, Turn},
    pod_view::{PodState, PodView},
};

/// How long the watch may lag behind a notice before the pod is looked up by name.
const UNSEEN_PATIENCE: SignedDuration = SignedDuration::from_secs(15);

/// How long the watch has to show a patch, of which the answer could not tell whether it is the latest.
const WATCH_LAG: Duration = Duration::from_secs(1);

/// How long to wait after a failed patch of the pod's metadata.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// So many patches of a pod's metadata may be made one soon after the other; then there is a pause before
/// each, which a loop of execs would otherwise have the API server write for, one by one.
const MARK_BURST: u32 = 15;
const MARK_BURST_ENDS: SignedDuration = SignedDuration::from_secs(10);
const MARK_PAUSE: Duration = Duration::from_secs(2);

/// How often people are told that an obstacle is still there. Events live for an hour by default, and
/// each such telling prolongs that.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// How often in a row an eviction may come too early because people gave the pod more time meanwhile. Who changes
/// that time again and again must not keep the pod for ever.
const MAX_EARLY: u32 = 5;

/// What of it can be set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many eviction requests may be open at a time.
    pub max_evictions: usize,
    /// How long a budget may refuse a pod before that is a matter of its own.
    pub blocked_after: Duration,
}

/// The pods of one node.
#[derive(Debug)]
pub struct NodeState {
    /// Each has its own place: an entry is large, and inside the tree half of the room would stay free.
    entries: BTreeMap<String, Box<PodEntry>>,
    /// When to look at which pod again, by time.
    timers: BTreeSet<(Timestamp, String)>,
    due: BTreeSet<Turn>,
    /// Pods that went before the request to evict them was answered.
    gone_before_answer: BTreeMap<String, Box<PodEntry>>,
    waiters: BudgetWaiters,
    breaker: CircuitBreaker,
    open_evictions: usize,
    settings: Settings,
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
    pub fn new(settings: Settings) -> Self {
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
                .or_insert_with(|| Box::new(PodEntry::new(now)));
            match &mut entry.record {
                Some(record) => {
                    // What stands on the pod was learned from the pod already.
                    let wishes = (record.extension.take(), record.hold.take());
                    record.join(stored);
                    if entry.pod.as_ref().is_some_and(PodState::tells) {
                        (record.extension, record.hold) = wishes;
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

    /// Whether anything is known of the pod of that UID.
    pub fn knows(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// The pods of which a notice told and that the watch has not shown. Those whose record is from the store
    /// were shown once.
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
            (Some(record), Some(pod)) => patch::wanted(record, &entry.alone, pod).is_none(),
            (Some(_), None) => false,
            (None, _) => true,
        })
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
            .or_insert_with(|| Box::new(PodEntry::new(now)));
        let before = entry.record.as_ref();
        diff::noticed(before, &record, &known, entry.ending(), out);
        diff::wishes(before, &record, entry, out);
        entry.record = Some(record.clone());
        self.reconcile(&uid, now, out);
        record
    }

    /// The API server answered a request of ours with the pod. That is later than what the watch showed before
    /// the request was sent, whatever the resourceVersions are. What the watch showed since may be later
    /// still, or that the pod is gone: then it knows better.
    pub fn answered(&mut self, pod: PodView, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(&pod.id.uid) else {
            return;
        };
        if entry.pod.is_none() || entry.marking == (Marking::Asked { shown: false }) {
            entry.answered_in = Some(self.lists);
            self.found(pod, now, out);
        }
    }

    /// The watch saw the pod.
    pub fn seen(&mut self, pod: PodView, now: Timestamp, out: &mut Vec<Effect>) {
        let entry = self
            .entries
            .entry(pod.id.uid.clone())
            .or_insert_with(|| Box::new(PodEntry::new(now)));
        entry.answered_in = None;
        if let Marking::Asked { shown } = &mut entry.marking {
            *shown = true;
        }
        self.found(pod, now, out);
    }

    /// The pod is as this says.
    fn found(&mut self, pod: PodView, now: Timestamp, out: &mut Vec<Effect>) {
        let PodView { id, marks, state } = pod;
        let uid = id.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        let before = entry.record.clone();
        entry.pod = Some(state);
        let ending = entry.ending();
        let restored = std::mem::take(&mut entry.restored);
        let told = marks.alone.iter().chain(marks.latest());
        let unknown = |known: &&Known| before.as_ref().is_none_or(|before| !before.has(known));
        let news: Vec<_> = told.filter(unknown).cloned().collect();
        match &mut entry.record {
            Some(record) => {
                if restored {
                    let untold = record.interactions().saturating_sub(marks.interactions());
                    diff::latest(record, untold, ending, out);
                }
                record.absorb(marks);
            }
            empty => *empty = Record::from_marks(id, marks),
        }
        // What is too old to be kept is counted already, and would be news each time that the pod is seen.
        let record = entry.record.as_ref();
        let kept = |known: &Known| record.is_some_and(|record| record.has(known));
        entry.alone.extend(news.into_iter().filter(kept));
        if entry.record != before
            && let Some(record) = &entry.record
        {
            self.dirty.insert(uid.clone());
            diff::learned(before.as_ref(), record, ending, out);
            diff::wishes(before.as_ref(), record, entry, out);
        }
        self.reconcile(&uid, now, out);
    }

    /// The pod of that UID is gone, and its record with it.
    pub fn gone(&mut self, uid: &str, out: &mut Vec<Effect>) {
        let Some(mut entry) = self.entries.remove(uid) else {
            return;
        };
        if let Some(budget) = self.unschedule(&mut entry, uid) {
            self.waiters.close_if_empty(&budget, out);
        }
        if let Some(record) = &entry.record {
            self.dirty.insert(uid.to_owned());
            if entry.is_carried_out() {
                out.extend(diff::eviction(record, entry.pod.as_ref()));
            }
            out.push(Effect::LogEnd {
                pod: record.pod.clone(),
                id: record.decisive().interaction.request.clone(),
                ids: record.requests(),
            });
            if entry.eviction == Eviction::Asked {
                self.gone_before_answer.insert(uid.to_owned(), entry);
            }
        }
    }

    /// The watch is about to list the node's pods.
    pub fn list_begins(&mut self) {
        self.lists += 1;
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

    /// The patch of the pod's metadata was answered.
    pub fn marked(
        &mut self,
        uid: &str,
        result: PatchOutcome,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        if let PatchOutcome::Refused(why) = &result
            && let Some(record) = &entry.record
            && !entry.unmarked
        {
            out.push(diff::unmarked(record, why));
        }
        entry.unmarked = match result {
            PatchOutcome::Done => false,
            PatchOutcome::Refused(_) => true,
            PatchOutcome::Gone | PatchOutcome::Failed => entry.unmarked,
        };
        let shown = entry.marking == (Marking::Asked { shown: true });
        entry.marking = match result {
            PatchOutcome::Done => {
                let (last, times) = &mut entry.marked;
                if now.duration_since(*last) > MARK_BURST_ENDS {
                    *times = 0;
                }
                *last = now;
                *times += 1;
                if *times > MARK_BURST {
                    Marking::Later {
                        again: later(now, MARK_PAUSE),
                    }
                } else if shown && entry.is_untold() {
                    Marking::Later {
                        again: later(now, WATCH_LAG),
                    }
                } else {
                    Marking::Idle
                }
            }
            PatchOutcome::Gone => {
                // The watch should have said so; the pod is looked up before it is believed.
                out.extend(
                    entry
                        .record
                        .as_ref()
                        .map(|record| Effect::LookUp(record.pod.clone())),
                );
                Marking::Later {
                    again: later(now, MARK_RETRY),
                }
            }
            PatchOutcome::Failed => Marking::Later {
                again: later(now, MARK_RETRY),
            },
            PatchOutcome::Refused(_) => Marking::Refused {
                version: entry
                    .pod
                    .as_ref()
                    .map_or_else(String::new, |pod| pod.version.clone()),
            },
        };
        self.reconcile(uid, now, out);
    }

    /// The request to evict the pod was answered.
    pub fn evicted(&mut self, uid: &str, outcome: Outcome, now: Timestamp, out: &mut Vec<Effect>) {
        self.open_evictions = self.open_evictions.saturating_sub(1);
        let starts = self.breaker.starts(uid, &outcome, now);
        if !starts && self.breaker.answered(uid, &outcome, now) {
            self.resume(now, out);
        }
        // Where a pod ends at once, the watch says so before the request is answered.
        if let Some(entry) = self.gone_before_answer.remove(uid) {
            let pod = entry.pod.as_ref();
            let shown = outcome.may_be_lost() && pod.is_some_and(|pod| pod.evicted);
            if (outcome == Outcome::Accepted || shown)
                && let Some(record) = &entry.record
            {
                out.extend(diff::eviction(record, pod));
            }
            return;
        }
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        match outcome {
            Outcome::Accepted => {
                entry.eviction = Eviction::Accepted;
                let record = entry.record.as_ref();
                out.extend(record.and_then(|record| diff::eviction(record, entry.pod.as_ref())));
            }
            // It is looked at again before it is asked for again.
            Outcome::Early(_) => {
                entry.early += 1;
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.pod = None;
                entry.unseen_since = now - UNSEEN_PATIENCE;
            }
            Outcome::Gone => {
                // The watch will say so; should it not, the look-up does. Should the pod be there all
                // the same, it is asked for again.
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.pod = None;
                entry.unseen_since = now - UNSEEN_PATIENCE;
            }
            Outcome::Forbidden(why) if starts => {
                let outcome = Outcome::Passing { why, wait: None };
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.refusal = Some(Refusal { outcome, tries: 1 });
            }
            outcome => {
                let tries = entry.refusal.take().map_or(0, |last| last.tries) + 1;
                entry.eviction = Eviction::From(later(now, outcome.wait(tries, uid)));
                entry.meet(&outcome, now);
                entry.unanswered |= outcome.may_be_lost();
                entry.refusal = Some(Refusal { outcome, tries });
            }
        }
        self.reconcile(uid, now, out);
        self.tell_obstacle(uid, now, out);
    }

    /// A budget that somebody waits for was seen, or seen to be gone. As many as it has room for ask at
    /// once, those whose turn is first; all of them when people changed it, for who knows what it holds
    /// now.
    pub fn budget_seen(
        &mut self,
        id: &BudgetId,
        view: Option<BudgetView>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some((waiting, before)) = self.waiters.seen(id, view) else {
            return;
        };
        let changed = before.map(|before| before.generation) != view.map(|view| view.generation);
        let all = view.is_none() || (changed && before.is_some());
        let mut room = view.map_or(0, |view| if view.current { view.allowed } else { 0 });
        for uid in waiting {
            self.tell_obstacle(&uid, now, out);
            let Some(entry) = self.entries.get_mut(&uid) else {
                continue;
            };
            let ready = entry.pod.as_ref().is_none_or(|pod| pod.ready);
            let spared = view.is_some_and(|view| view.current && view.spares(ready));
            if !all && !spared {
                if room <= 0 {
                    continue;
                }
                room -= 1;
            }
            if matches!(entry.eviction, Eviction::From(from) if from > now) {
                entry.eviction = Eviction::From(now);
                self.reconcile(&uid, now, out);
            }
        }
    }

    /// Tells what stands in a pod's way: once, from time to time that it is still there, and once more
    /// when it has been there for too long.
    fn tell_obstacle(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let view = entry
            .queued
            .as_ref()
            .and_then(|(id, _)| self.waiters.view(id));
        let stuck = matches!(
            entry.state(now, self.settings.blocked_after),
            State::Stuck(_)
        );
        let (Some(obstacle), Some(block)) = (&entry.obstacle, entry.block(view)) else {
            return;
        };
        // What a budget wants is known a moment later, when its watch has begun.
        let awaited = entry.queued.is_some() && view.is_none() && obstacle.times == 1;
        let tell = match obstacle.again {
            None if awaited => None,
            None => Some((Announcement::Blocked(block.clone()), Duration::ZERO)),
            Some(again) if obstacle.times > 1 && now >= again => {
                Some((Announcement::StillBlocked(block.clone()), TELL_AGAIN))
            }
            Some(_) => None,
        };
        let tell_stuck = stuck && !obstacle.stuck_told;
        let Some(obstacle) = &mut entry.obstacle else {
            return;
        };
        if let Some((announcement, pause)) = tell {
            obstacle.again = Some(later(now, pause));
            out.push(Effect::Announce(announcement));
        }
        if tell_stuck {
            obstacle.stuck_told = true;
            out.push(Effect::Announce(Announcement::Stuck(block)));
        }
    }

    /// Looks at every pod whose time has come, and then lets those ask for their eviction whose turn it
    /// is: to be called after all that happened at one time, so that their order holds among all of them.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if now < self.latest {
            self.jumped_back(self.latest.duration_since(now), now, out);
        }
        self.latest = now;
        while let Some((at, uid)) = self.timers.first()
            && *at <= now
        {
            let uid = uid.clone();
            self.reconcile(&uid, now, out);
        }
        self.next_turns(now, out);
    }

    /// The clock went back by so much: eviction times are what it shows, but pauses end as if it had not.
    fn jumped_back(&mut self, by: SignedDuration, now: Timestamp, out: &mut Vec<Effect>) {
        tracing::warn!(seconds = by.as_secs(), "the clock went back");
        self.breaker.shift(by);
        let uids: Vec<String> = self.entries.keys().cloned().collect();
        for uid in uids {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.shift(by);
            }
            self.reconcile(&uid, now, out);
        }
    }

    /// The API server answers again: whoever waits only because it did not asks now, in order.
    fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let waiting = self.entries.iter_mut().filter_map(|(uid, entry)| {
            let refusal = entry.refusal.as_ref()?;
            let waits = refusal.outcome.is_outage() && matches!(entry.eviction, Eviction::From(_));
            waits.then(|| {
                entry.eviction = Eviction::From(now);
                uid.clone()
            })
        });
        let waiting: Vec<String> = waiting.collect();
        for uid in waiting {
            self.reconcile(&uid, now, out);
        }
    }

    /// When to look again: never before, and not at all when nothing is to come.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // Once it is open, the answer to the one request that tries the server says what is next.
        let breaker = self
            .breaker
            .opens()
            .filter(|opens| *opens > self.latest && !self.due.is_empty());
        let timers = self.timers.first().map(|(at, _)| *at);
        breaker.into_iter().chain(timers).min()
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
                (uid.clone(), record)
            })
            .collect()
    }

    /// The batch was written: what a pod told because the store did not have it can go from there.
    pub fn written(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        for uid in std::mem::take(&mut self.writing) {
            if self.dirty.contains(&uid) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&uid)
                && !std::mem::take(&mut entry.alone).is_empty()
            {
                self.reconcile(&uid, now, out);
            }
        }
    }

    /// A batch could not be written. What is known of it stays to be written; an interaction
    /// that was only proposed is left out, for its sender was told that it failed.
    pub fn not_written(&mut self, batch: Batch) {
        self.writing.clear();
        self.dirty.extend(batch.into_keys());
    }

    /// What is known of the pod of that UID.
    pub fn record(&self, uid: &str) -> Option<&Record> {
        self.entries.get(uid)?.record.as_ref()
    }

    /// Every pod with a record.
    pub fn lines(&self, now: Timestamp) -> impl Iterator<Item = Line<'_>> {
        self.entries.values().filter_map(move |entry| {
            Some(Line {
                record: entry.record.as_ref()?,
                state: entry.state(now, self.settings.blocked_after),
                blocker: entry.blocker(),
                termination: entry.pod.as_ref().and_then(|pod| pod.termination),
            })
        })
    }

    /// Decides all there is to decide for one pod: the one place where effects begin.
    fn reconcile(&mut self, uid: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some((key, mut entry)) = self.entries.remove_entry(uid) else {
            return;
        };
        let left = self.unschedule(&mut entry, uid);
        if entry.end_exemption(now, out) {
            self.dirty.insert(uid.to_owned());
        }
        entry.wake = match (&entry.record, &entry.pod) {
            // A pod that nobody touched: it is remembered while it lives.
            (None, _) => None,
            (Some(record), None) => Some(look_up(record, &mut entry.unseen_since, now, out)),
            (Some(record), Some(pod)) if pod.terminating => {
                if entry.is_carried_out() {
                    entry.eviction = Eviction::Accepted;
                    out.extend(diff::eviction(record, Some(pod)));
                }
                None
            }
            (Some(record), Some(pod)) => {
                let patch = mark_pod(record, &entry.alone, pod, &mut entry.marking, now, out);
                let eviction = self.queue(uid, &mut entry, now, out);
                patch.into_iter().chain(eviction).min()
            }
        };
        if let Some(wake) = entry.wake {
            self.timers.insert((wake, uid.to_owned()));
        }
        self.entries.insert(key, entry);
        if let Some(budget) = left {
            self.waiters.close_if_empty(&budget, out);
        }
    }

    /// Puts a pod where it has to wait: for its time, for its turn, for a budget. Returns when to look
    /// again.
    fn queue(
        &mut self,
        uid: &str,
        entry: &mut PodEntry,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Option<Timestamp> {
        let (record, pod) = (entry.record.as_ref()?, entry.pod.as_ref()?);
        let at = record.eviction_time()?;
        if entry.eviction == Eviction::Accepted || pod.finished || pod.mirror {
            return None;
        }
        let turn = (pod.priority, at, uid.to_owned());
        if now < at {
            // Somebody gave it more time: what was refused before is of no interest any more.
            entry.refusal = None;
            entry.obstacle = None;
            entry.early = 0;
        } else if let Some(budget) = entry.blocker()
            && self.waiters.enter(&budget, turn.clone(), out)
        {
            entry.queued = Some((budget, turn.clone()));
        }
        let Eviction::From(from) = entry.eviction else {
            return None;
        };
        if now < at.max(from) {
            return Some(at.max(from));
        }
        self.due.insert(turn.clone());
        entry.turn = Some(turn);
        None
    }

    /// Lets those whose turn it is ask for their eviction, as many as may be open at a time.
    fn next_turns(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while self.open_evictions < self.breaker.room(self.settings.max_evictions, now)
            && let Some(turn) = self.next_turn()
        {
            self.due.remove(&turn);
            let (_, _, uid) = turn;
            if let Some(entry) = self.entries.get_mut(&uid)
                && let Some(record) = &entry.record
            {
                out.push(Effect::Evict {
                    pod: record.pod.clone(),
                    id: record.decisive().interaction.request.clone(),
                    seen: (entry.early < MAX_EARLY).then(|| Wishes::of(record)),
                });
                entry.turn = None;
                entry.eviction = Eviction::Asked;
                entry.asked = now;
                self.open_evictions += 1;
            }
        }
    }

    /// Whose turn it is. While the API server seems to be away, whoever was asked for the longest ago finds
    /// out: a fault of the first in order is not to keep all the others.
    fn next_turn(&self) -> Option<Turn> {
        if self.breaker.opens().is_none() {
            return self.due.first().cloned();
        }
        let asked = |(_, _, uid): &&Turn| self.entries.get(uid).map(|entry| entry.asked);
        self.due.iter().min_by_key(asked).cloned()
    }

    /// Takes a pod out of everything that orders pods. Returns the budget that it waited for.
    fn unschedule(&mut self, entry: &mut PodEntry, uid: &str) -> Option<BudgetId> {
        if let Some(wake) = entry.wake.take() {
            self.timers.remove(&(wake, uid.to_owned()));
        }
        if let Some(turn) = entry.turn.take() {
            self.due.remove(&turn);
        }
        let (budget, turn) = entry.queued.take()?;
        self.waiters.leave(&budget, &turn);
        Some(budget)
    }
}

/// Has a pod looked up that the watch owes us for too long. Returns when to look again.
fn look_up(
    record: &Record,
    unseen_since: &mut Timestamp,
    now: Timestamp,
    out: &mut Vec<Effect>,
) -> Timestamp {
    if now >= *unseen_since + UNSEEN_PATIENCE {
        *unseen_since = now;
        out.push(Effect::LookUp(record.pod.clone()));
    }
    *unseen_since + UNSEEN_PATIENCE
}

/// Has the pod's metadata changed where they do not tell the record. Returns when to look again.
fn mark_pod(
    record: &Record,
    alone: &[Known],
    pod: &PodState,
    marking: &mut Marking,
    now: Timestamp,
    out: &mut Vec<Effect>,
) -> Option<Timestamp> {
    let change = patch::wanted(record, alone, pod)?;
    match marking {
        Marking::Asked { .. } => return None,
        Marking::Refused { version } if *version == pod.version => return None,
        Marking::Later { again } if now < *again => return Some(*again),
        _ => {}
    }
    *marking = Marking::Asked { shown: false };
    out.push(Effect::Mark(change));
    None
}

#[cfg(test)]
mod tests;
