//! Decides what must be done for a pod, and when. All actions start here, and this module decides whether a pod may
//! be evicted now.

use curfew_core::{Overrides, Record, RecordedInteraction};
use jiff::{SignedDuration, Timestamp};

use super::{NodeState, UNSEEN_PATIENCE, evidence::Next};
use crate::{
    action::{AgentAction, Decisions, EvictionRequest},
    budget::BudgetId,
    domain_events,
    event::DomainEvent,
    eviction_key::EvictionKey,
    patch,
    pod::{Eviction, Marking, PodEntry},
    pod_view::PodSnapshot,
};

/// How often in a row an eviction may be put off because people gave the pod more time in the meantime. The limit
/// prevents people from keeping a pod forever by changing its extension or hold again and again.
pub(super) const MAX_EARLY: u32 = 5;

impl NodeState {
    /// Checks every pod whose time has come, and then requests the evictions that are next in order. Call this after
    /// all events of one moment are handled, so that the order is right among all pods.
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

    /// The clock went back by this much. Eviction times follow the clock, but pauses end as if it had not changed, and an
    /// order to evict a pod now does not wait.
    fn jumped_back(&mut self, by: SignedDuration, now: Timestamp, out: &mut Decisions) {
        out.events.push(DomainEvent::ClockWentBack(by));
        self.breaker.shift(by);
        let uids: Vec<String> = self.entries.keys().cloned().collect();
        for uid in uids {
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.shift(by);
                if let Some(record) = &mut entry.record {
                    record.put_order_in_force(now);
                }
            }
            self.reconcile(&uid, now, out);
        }
    }

    /// The API server answers again. Evictions that waited only for this are requested now, in order.
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
        // After that time a single request tries the server, and its answer decides what happens next.
        let breaker = self
            .breaker
            .retry_at()
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
            domain_events::exemption_ended(&entry, &started, out);
            entry.timed = now;
            self.dirty.insert(uid.to_owned());
        }
        let next = self.look(uid, &mut entry, now, out);
        entry.wake = match (&entry.record, &entry.pod) {
            // A pod that nobody touched: it is remembered while it lives.
            (None, _) => None,
            (Some(record), None) => Some(look_up(record, &mut entry.unseen_since, now, out)),
            (Some(record), Some(pod)) if pod.terminating => {
                if entry.is_carried_out() {
                    entry.eviction = Eviction::Accepted;
                    out.events
                        .extend(domain_events::eviction(record, Some(pod), false));
                }
                None
            }
            (Some(record), Some(pod)) => {
                let patch = mark_pod(record, &entry.unsynced, pod, &mut entry.marking, now, out);
                let (look, eviction) = match next {
                    Next::Answer(at) => (Some(at), None),
                    Next::Look(at) => (Some(at), self.queue(uid, &mut entry, now, out)),
                    Next::Eviction => (None, self.queue(uid, &mut entry, now, out)),
                };
                patch.into_iter().chain(look).chain(eviction).min()
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
        let dry_run = record.is_dry_run();
        if entry.is_foretold(now, self.settings.blocked_after) {
            return None;
        }
        let turn = EvictionKey {
            dry_run,
            priority: pod.priority,
            eviction_time: at,
            uid: uid.to_owned(),
        };
        if entry.asked_dry_run && !dry_run && entry.eviction != Eviction::Asked {
            entry.end_dry_run();
        }
        if now < at {
            // Somebody gave it more time: what was refused before is of no interest any more.
            entry.refusal = None;
            entry.obstacle = None;
            entry.early = 0;
        // A dry run takes no room of the budget, and so nobody's turn.
        } else if !dry_run
            && let Some(budget) = entry.blocker()
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
            if let Some(entry) = self.entries.get_mut(&turn.uid)
                && let Some(record) = &entry.record
            {
                out.actions.push(AgentAction::Evict(EvictionRequest {
                    pod: record.pod.clone(),
                    id: record.decisive_request(),
                    // Nothing that people say later takes an order back.
                    seen: (entry.early < MAX_EARLY && record.evict_now().is_none())
                        .then(|| Overrides::of(record)),
                    dry_run: turn.dry_run,
                }));
                entry.asked_dry_run = turn.dry_run;
                entry.turn = None;
                entry.eviction = Eviction::Asked;
                entry.asked = now;
                self.open_evictions += 1;
            }
        }
    }

    /// The pod whose eviction is requested next. While the API server seems to be unavailable, this is the pod whose
    /// last request is the oldest. Otherwise a pod whose own requests always fail would block all other pods.
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

/// Looks a pod up if the watch should have shown it long ago. Returns when to check again.
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

/// Requests a patch of the pod's metadata if they do not show the record. Returns when to check again.
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
