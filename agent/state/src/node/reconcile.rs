//! What is to be done for a pod, and when: the one place where actions begin. Here is decided that a pod may be
//! evicted now.

use curfew_core::{Overrides, Record, RecordedInteraction};
use jiff::{SignedDuration, Timestamp};

use super::{NodeState, UNSEEN_PATIENCE};
use crate::{
    action::{AgentAction, Decisions},
    budget::BudgetId,
    diff,
    event::DomainEvent,
    eviction_key::EvictionKey,
    patch,
    pod::{Eviction, Marking, PodEntry},
    pod_view::PodSnapshot,
};

/// How often in a row an eviction may come too early because people gave the pod more time meanwhile. Who changes
/// that time again and again must not keep the pod for ever.
pub(super) const MAX_EARLY: u32 = 5;

impl NodeState {
    /// Looks at every pod whose time has come, and then lets those ask for their eviction whose turn it
    /// is: to be called after all that happened at one time, so that their order holds among all of them.
    pub fn tick(&mut self, now: Timestamp, out: &mut Decisions) {
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
    fn jumped_back(&mut self, by: SignedDuration, now: Timestamp, out: &mut Decisions) {
        out.events.push(DomainEvent::ClockWentBack(by));
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
    pub(super) fn resume(&mut self, now: Timestamp, out: &mut Decisions) {
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

    /// Decides all there is to decide for one pod: the one place where actions begin.
    pub(super) fn reconcile(&mut self, uid: &str, now: Timestamp, out: &mut Decisions) {
        let Some((key, mut entry)) = self.entries.remove_entry(uid) else {
            return;
        };
        let left = self.unschedule(&mut entry, uid);
        let started = entry.end_exemption(now);
        if !started.is_empty() {
            diff::exemption_ended(&entry, &started, out);
            self.dirty.insert(uid.to_owned());
        }
        entry.wake = match (&entry.record, &entry.pod) {
            // A pod that nobody touched: it is remembered while it lives.
            (None, _) => None,
            (Some(record), None) => Some(look_up(record, &mut entry.unseen_since, now, out)),
            (Some(record), Some(pod)) if pod.terminating => {
                if entry.is_carried_out() {
                    entry.eviction = Eviction::Accepted;
                    out.events.extend(diff::eviction(record, Some(pod)));
                }
                None
            }
            (Some(record), Some(pod)) => {
                let patch = mark_pod(record, &entry.unsynced, pod, &mut entry.marking, now, out);
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
        out: &mut Decisions,
    ) -> Option<Timestamp> {
        let (record, pod) = (entry.record.as_ref()?, entry.pod.as_ref()?);
        let at = record.eviction_time()?;
        if entry.eviction == Eviction::Accepted || pod.finished || pod.mirror {
            return None;
        }
        let turn = EvictionKey {
            priority: pod.priority,
            eviction_time: at,
            uid: uid.to_owned(),
        };
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
    fn next_turns(&mut self, now: Timestamp, out: &mut Decisions) {
        while self.open_evictions < self.breaker.permits(self.settings.max_evictions, now)
            && let Some(turn) = self.next_turn()
        {
            self.due.remove(&turn);
            let uid = turn.uid;
            if let Some(entry) = self.entries.get_mut(&uid)
                && let Some(record) = &entry.record
            {
                out.actions.push(AgentAction::Evict {
                    pod: record.pod.clone(),
                    id: record.decisive().interaction.request.clone(),
                    seen: (entry.early < MAX_EARLY).then(|| Overrides::of(record)),
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
    fn next_turn(&self) -> Option<EvictionKey> {
        if self.breaker.retry_at().is_none() {
            return self.due.first().cloned();
        }
        let asked = |turn: &&EvictionKey| self.entries.get(&turn.uid).map(|entry| entry.asked);
        self.due.iter().min_by_key(asked).cloned()
    }

    /// Takes a pod out of everything that orders pods. Returns the budget that it waited for.
    pub(super) fn unschedule(&mut self, entry: &mut PodEntry, uid: &str) -> Option<BudgetId> {
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
    out: &mut Decisions,
) -> Timestamp {
    if now >= *unseen_since + UNSEEN_PATIENCE {
        *unseen_since = now;
        out.actions.push(AgentAction::LookUp(record.pod.clone()));
    }
    *unseen_since + UNSEEN_PATIENCE
}

/// Has the pod's metadata changed where they do not tell the record. Returns when to look again.
fn mark_pod(
    record: &Record,
    unsynced: &[RecordedInteraction],
    pod: &PodSnapshot,
    marking: &mut Marking,
    now: Timestamp,
    out: &mut Decisions,
) -> Option<Timestamp> {
    let change = patch::wanted(record, unsynced, pod)?;
    match marking {
        Marking::Asked { .. } => return None,
        Marking::Refused { version } if *version == pod.version => return None,
        Marking::Later { again } if now < *again => return Some(*again),
        _ => {}
    }
    *marking = Marking::Asked { shown: false };
    out.actions.push(AgentAction::Patch(change));
    None
}
