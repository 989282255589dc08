//! One pod of the node: what the agent knows about it, and which state it is in.

use curfew_core::{
    Drift, Ending, Exemption, Record, RecordedInteraction, State,
    record::{Extension, later},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

use crate::{
    budget::{BudgetId, BudgetView},
    earlier,
    event::{Consequence, EvictionBlock},
    eviction_key::EvictionKey,
    eviction_outcome::EvictionOutcome,
    patch,
    pod_view::{PodSnapshot, Termination},
};

/// Where a pod stands on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Eviction {
    /// It may be asked for from this time on, its deadline included.
    From(Timestamp),
    /// The request is open.
    Asked,
    /// The API server accepted; the pod has its grace period, and its finalizers.
    Accepted,
}

/// How often an eviction was refused in a row, and why the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) outcome: EvictionOutcome,
    pub(super) tries: u32,
}

/// Where the pod's metadata stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marking {
    /// Nothing is under way.
    Idle,
    /// The patch is open. `shown` says whether the watch has shown the pod since it was sent: then nobody can
    /// tell whether the answer or what was shown is later.
    Asked { shown: bool },
    /// The next is not before then: the last one failed, or there were many.
    Later { again: Timestamp },
    /// The API server takes no such patch for the pod as it is: only a changed pod is tried again.
    Refused { version: String },
}

/// What the Events report as the reason why the pod is not evicted. It is kept during temporary failures, so that a
/// cause that disappears and comes back is reported once.
#[derive(Debug, Clone)]
pub(super) struct Obstacle {
    pub(super) why: EvictionOutcome,
    pub(super) since: Timestamp,
    pub(super) times: u32,
    /// The earliest time to report that the obstacle still exists. None if it has not been reported at all.
    pub(super) again: Option<Timestamp>,
    pub(super) stuck_told: bool,
}

/// The look before an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// The eviction time for which it was asked for: once for each.
    pub(super) eviction_time: Timestamp,
    /// When it was asked for.
    pub(super) asked: Timestamp,
    /// What came of it: the answer that says the most, where there were several.
    pub(super) answer: Option<Box<Drift>>,
    /// Whether the eviction goes on, whatever is answered later.
    pub(super) over: bool,
}

#[derive(Debug)]
pub(super) struct PodEntry {
    pub(super) record: Option<Record>,
    pub(super) pod: Option<PodSnapshot>,
    /// The list during or after which the API server answered with the pod, unless the watch has shown it since.
    pub(super) answered_in: Option<u64>,
    /// Whether the record is from the store, and the pod has not been seen since. The pod shows how many
    /// interactions were reported: the previous agent process may have been killed before it reported all that it
    /// stored.
    pub(super) restored: bool,
    /// What only the pod tells, until the store has it.
    pub(super) unsynced: Vec<RecordedInteraction>,
    /// Since when the watch should have shown the pod.
    pub(super) unseen_since: Timestamp,
    pub(super) eviction: Eviction,
    /// When it was asked for the last time.
    pub(super) asked: Timestamp,
    /// Whether that was a dry run.
    pub(super) asked_dry_run: bool,
    pub(super) refusal: Option<Refusal>,
    /// How often in a row it was asked for too early.
    pub(super) early: u32,
    /// Whether the answer to a request may have been lost.
    pub(super) unanswered: bool,
    pub(super) obstacle: Option<Obstacle>,
    pub(super) look: Option<Look>,
    /// When an interaction that starts a timer became known last, by the clock of the node. Its own time is by another
    /// clock.
    pub(super) timed: Timestamp,
    pub(super) marking: Marking,
    /// Whether people were told that the pod's metadata cannot be written.
    pub(super) unmarked: bool,
    /// When the last patch was made, and how many were made one soon after the other.
    pub(super) marked: (Timestamp, u32),
    pub(super) wake: Option<Timestamp>,
    /// The place among those that wait for an eviction request, while it is there.
    pub(super) turn: Option<EvictionKey>,
    /// The place among those that wait for a budget, while it is there.
    pub(super) queued: Option<(BudgetId, EvictionKey)>,
}

impl PodEntry {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            record: None,
            pod: None,
            answered_in: None,
            restored: false,
            unsynced: Vec::new(),
            unseen_since: now,
            eviction: Eviction::From(Timestamp::MIN),
            asked: Timestamp::MIN,
            asked_dry_run: false,
            refusal: None,
            early: 0,
            unanswered: false,
            obstacle: None,
            look: None,
            timed: Timestamp::MIN,
            marking: Marking::Idle,
            unmarked: false,
            marked: (Timestamp::MIN, 0),
            wake: None,
            turn: None,
            queued: None,
        }
    }

    /// Whether the pod's metadata do not tell its record yet.
    pub(super) fn is_untold(&self) -> bool {
        match (&self.record, &self.pod) {
            (Some(record), Some(pod)) => patch::wanted(record, &self.unsynced, pod).is_some(),
            _ => false,
        }
    }

    /// Whether the pod is on its way out, so that nothing said about it changes that.
    pub(super) fn is_leaving(&self) -> bool {
        self.eviction == Eviction::Accepted || self.pod.as_ref().is_some_and(|pod| pod.terminating)
    }

    /// Whether the pod ends, or has ended, without our doing.
    pub(super) fn ending(&self) -> Option<Ending> {
        if self.is_leaving() {
            return Some(Ending::Terminating);
        }
        let finished = self.pod.as_ref().is_some_and(|pod| pod.finished);
        finished.then_some(Ending::Finished)
    }

    /// Starts the timers of what was exempt only while the pod had no controller, or a Job, where it has another.
    /// Returns what is exempt no longer.
    pub(super) fn end_exemption(&mut self, now: Timestamp) -> Vec<RecordedInteraction> {
        match (&mut self.record, &self.pod) {
            (Some(record), Some(pod)) => record.end_exemption(pod.bare, pod.of_job, now),
            _ => Vec::new(),
        }
    }

    /// Whether the pod shows that an eviction was carried out whose answer we never got. A pod that
    /// somebody deleted meanwhile does not show that.
    pub(super) fn is_carried_out(&self) -> bool {
        let evicted = self.pod.as_ref().is_some_and(|pod| pod.evicted);
        evicted && self.unanswered && matches!(self.eviction, Eviction::From(_))
    }

    /// The clock went back by so much: what waits for a pause does not wait for longer.
    pub(super) fn shift(&mut self, by: SignedDuration) {
        self.unseen_since = earlier(self.unseen_since, by);
        self.asked = earlier(self.asked, by);
        self.marked.0 = earlier(self.marked.0, by);
        self.timed = earlier(self.timed, by);
        // Nobody can tell any more whether an answer is later than the question.
        self.look = None;
        if let Eviction::From(from) = &mut self.eviction {
            *from = earlier(*from, by);
        }
        if let Marking::Later { again } = &mut self.marking {
            *again = earlier(*again, by);
        }
        if let Some(Obstacle {
            again: Some(again), ..
        }) = &mut self.obstacle
        {
            *again = earlier(*again, by);
        }
    }

    /// An interaction that is enforced ended the dry run: what was answered to it does not count.
    pub(super) fn end_dry_run(&mut self) {
        self.asked_dry_run = false;
        self.eviction = Eviction::From(Timestamp::MIN);
        self.refusal = None;
        self.obstacle = None;
        self.early = 0;
    }

    /// Whether the dry run of this pod is over: the API server said that it would evict the pod, or refused for as
    /// long as it takes until a pod is reported as stuck.
    pub(super) fn is_foretold(&self, now: Timestamp, blocked_after: Duration) -> bool {
        let Some(record) = self.record.as_ref().filter(|record| record.is_dry_run()) else {
            return false;
        };
        let too_late = record
            .eviction_time()
            .is_some_and(|at| self.asked >= later(at, blocked_after) && now >= self.asked);
        let refused = |refusal: &Refusal| refusal.outcome.concerns_people();
        record.would_go.is_some() || (too_late && self.refusal.as_ref().is_some_and(refused))
    }

    /// Takes note of a refusal that people can do something about.
    pub(super) fn meet(&mut self, refusal: &EvictionOutcome, now: Timestamp) {
        if !refusal.concerns_people() {
            return;
        }
        match &mut self.obstacle {
            Some(obstacle) if obstacle.why.same_cause(refusal) => {
                obstacle.why = refusal.clone();
                obstacle.times = obstacle.times.saturating_add(1);
            }
            other => {
                *other = Some(Obstacle {
                    why: refusal.clone(),
                    since: now,
                    times: 1,
                    again: None,
                    stuck_told: false,
                });
            }
        }
    }

    /// The budget that refused the pod the last time, while the pod is still to go.
    pub(super) fn blocker(&self) -> Option<BudgetId> {
        let (record, pod) = (self.record.as_ref()?, self.pod.as_ref()?);
        let EvictionOutcome::Budget {
            name: Some(name), ..
        } = &self.refusal.as_ref()?.outcome
        else {
            return None;
        };
        (!self.is_leaving() && !pod.finished).then(|| BudgetId {
            namespace: record.pod.namespace.clone(),
            name: name.clone(),
        })
    }

    /// What follows from the extension that stands on the pod.
    pub(super) fn extended(&self, record: &Record) -> Consequence {
        let longest = record.longest_extension();
        let too_long = |extension: &Extension| extension.by > longest;
        match self.consequence(record) {
            Consequence::EvictionAt(at) if record.extension.as_ref().is_some_and(too_long) => {
                Consequence::TooLong { longest, at }
            }
            other => other,
        }
    }

    /// What follows from the pod's terms, and from what people said of it.
    pub(super) fn consequence(&self, record: &Record) -> Consequence {
        match record.eviction_time() {
            _ if self.is_leaving() => Consequence::TooLate,
            Some(at) => Consequence::EvictionAt(at),
            None => Consequence::NoTimer,
        }
    }

    /// What people are told of the obstacle.
    pub(super) fn block(&self, view: Option<&BudgetView>) -> Option<EvictionBlock> {
        let obstacle = self.obstacle.as_ref()?;
        let ready = self.pod.as_ref().is_none_or(|pod| pod.ready);
        let record = self.record.as_ref()?;
        Some(EvictionBlock {
            pod: record.pod.clone(),
            id: record.decisive_request(),
            why: obstacle.why.clone(),
            policy_would_free: view.is_some_and(|view| view.frees_by_policy(ready)),
            never: view.and_then(|view| view.never),
            eviction_time: record.eviction_time()?,
            dry_run: record.is_dry_run(),
            since: obstacle.since,
            times: obstacle.times,
        })
    }

    /// Where the pod stands, and what was answered the last time where that stands in the way.
    pub(super) fn state(
        &self,
        now: Timestamp,
        blocked_after: Duration,
    ) -> (State, Option<&EvictionOutcome>) {
        let (Some(record), Some(pod)) = (&self.record, &self.pod) else {
            return (State::Unseen, None);
        };
        let Some(at) = record.eviction_time() else {
            let state = match record.exemption() {
                _ if self.is_leaving() => State::Terminating,
                _ if pod.finished => State::Finished,
                _ if record.is_released() => State::Released,
                Some(Exemption::Protected) => State::Protected,
                _ => State::Recorded,
            };
            return (state, None);
        };
        let stuck = self
            .obstacle
            .as_ref()
            .filter(|obstacle| obstacle.why.is_blocked() && now >= later(at, blocked_after));
        match (&self.refusal, stuck) {
            _ if self.is_leaving() => (State::Terminating, None),
            _ if pod.finished => (State::Finished, None),
            _ if pod.mirror => (State::Protected, None),
            _ if record.is_dry_run() && record.would_go.is_some() => (State::WouldGo, None),
            _ if now < at && record.hold.is_some() => (State::Held, None),
            _ if now < at => (State::Scheduled, None),
            (_, Some(obstacle)) => (State::Stuck, Some(&obstacle.why)),
            (Some(refusal), None) if refusal.outcome.is_blocked() => {
                (State::Blocked, Some(&refusal.outcome))
            }
            (Some(refusal), None) => (State::Retrying, Some(&refusal.outcome)),
            (None, None) => (State::Due, None),
        }
    }
}

/// A pod of the node, for those who look into the agent.
#[derive(Debug, Clone)]
pub struct PodRow<'a> {
    /// What is known.
    pub record: &'a Record,
    /// Where it stands.
    pub state: State,
    /// What stands in the way, in the words of who refused.
    pub reason: Option<&'a str>,
    /// The budget that stands in the way.
    pub blocker: Option<BudgetId>,
    /// Its end, once it was asked to end.
    pub termination: Option<Termination>,
}
