//! Handles the results of patches and evictions, and what the watch of a disruption budget shows.

use std::time::Duration;

use curfew_core::{State, record::later};
use jiff::{SignedDuration, Timestamp};

use super::{NodeState, UNSEEN_PATIENCE};
use crate::{
    action::{AgentAction, Decisions},
    budget::{BudgetId, BudgetView},
    domain_events,
    event::DomainEvent,
    eviction_outcome::EvictionOutcome,
    patch::PatchOutcome,
    pod::{Eviction, Marking, Refusal},
};

/// How long to wait until the watch shows a patch, if the answer to the patch may be older than what the watch
/// showed.
const WATCH_LAG: Duration = Duration::from_secs(1);

/// How long to wait after a failed patch of the pod's metadata.
const MARK_RETRY: Duration = Duration::from_secs(5);

/// How many patches of a pod's metadata may follow each other without a pause. After that there is a pause before
/// each patch. Otherwise a loop of execs would make the API server write the pod once for each exec.
const MARK_BURST: u32 = 15;
const MARK_BURST_ENDS: SignedDuration = SignedDuration::from_secs(10);
const MARK_PAUSE: Duration = Duration::from_secs(2);

/// How often the Event about an obstacle is repeated while the obstacle lasts. Events are kept for an hour by
/// default, and each repetition prolongs this.
const TELL_AGAIN: Duration = Duration::from_secs(300);

impl NodeState {
    /// The patch of the pod's metadata was answered.
    pub fn patched(
        &mut self,
        uid: &str,
        result: PatchOutcome,
        now: Timestamp,
        out: &mut Decisions,
    ) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        if let PatchOutcome::Refused { code, why } = &result
            && let Some(record) = &entry.record
        {
            let event = domain_events::unmarked(record, *code, why, entry.unmarked);
            out.events.push(event);
        }
        entry.unmarked = match result {
            PatchOutcome::Done | PatchOutcome::Outdated => false,
            PatchOutcome::Refused { .. } => true,
            PatchOutcome::Gone | PatchOutcome::Failed(_) => entry.unmarked,
        };
        let shown = entry.marking == (Marking::Asked { shown: true });
        entry.marking = match result {
            PatchOutcome::Done | PatchOutcome::Outdated => {
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
                // The watch should have shown this. Look the pod up before treating it as gone.
                let record = entry.record.as_ref();
                out.actions
                    .extend(record.map(|record| AgentAction::LookUp(record.pod.clone())));
                Marking::Later {
                    again: later(now, MARK_RETRY),
                }
            }
            PatchOutcome::Failed(_) => Marking::Later {
                again: later(now, MARK_RETRY),
            },
            PatchOutcome::Refused { .. } => Marking::Refused {
                version: entry
                    .pod
                    .as_ref()
                    .map_or_else(String::new, |pod| pod.version.clone()),
            },
        };
        self.reconcile(uid, now, out);
    }

    /// The request to evict the pod was answered.
    pub fn evicted(
        &mut self,
        uid: &str,
        outcome: EvictionOutcome,
        now: Timestamp,
        out: &mut Decisions,
    ) {
        self.open_evictions = self.open_evictions.saturating_sub(1);
        let is_startup_refusal = self.breaker.is_startup_refusal(uid, &outcome, now);
        if !is_startup_refusal && self.breaker.answered(uid, &outcome, now) {
            self.resume(now, out);
        }
        // Where a pod ends at once, the watch says so before the request is answered.
        if let Some(entry) = self.gone_before_answer.remove(uid) {
            let pod = entry.pod.as_ref();
            let shown = outcome.may_be_lost() && pod.is_some_and(|pod| pod.evicted);
            if (outcome == EvictionOutcome::Accepted || shown)
                && let Some(record) = &entry.record
            {
                out.events
                    .extend(domain_events::eviction(record, pod, false));
            }
            return;
        }
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let dry_run = entry.asked_dry_run;
        let ended = entry
            .record
            .as_ref()
            .is_some_and(|record| !record.is_dry_run());
        match outcome {
            // An interaction that is enforced came meanwhile.
            _ if dry_run && ended => entry.end_dry_run(),
            EvictionOutcome::Accepted if dry_run => {
                entry.eviction = Eviction::From(now);
                (entry.refusal, entry.obstacle) = (None, None);
                if let Some(record) = &mut entry.record {
                    // It stands on the pod, as all times do.
                    record.would_go = Timestamp::from_second(now.as_second()).ok();
                    self.dirty.insert(uid.to_owned());
                    let pod = entry.pod.as_ref();
                    out.events
                        .extend(domain_events::eviction(record, pod, true));
                }
            }
            EvictionOutcome::Accepted => {
                entry.eviction = Eviction::Accepted;
                let record = entry.record.as_ref();
                let pod = entry.pod.as_ref();
                out.events
                    .extend(record.and_then(|record| domain_events::eviction(record, pod, false)));
            }
            // It is looked at again before it is asked for again.
            EvictionOutcome::DeadlineMoved(_) => {
                entry.early += 1;
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.pod = None;
                entry.unseen_since = now - UNSEEN_PATIENCE;
            }
            EvictionOutcome::Gone => {
                // The watch will show this. If it does not, the look-up will. If the pod still exists, the agent
                // requests its eviction again.
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.pod = None;
                entry.unseen_since = now - UNSEEN_PATIENCE;
            }
            EvictionOutcome::Forbidden(why) if is_startup_refusal => {
                let outcome = EvictionOutcome::Transient { why, wait: None };
                entry.eviction = Eviction::From(later(now, outcome.wait(1, uid)));
                entry.refusal = Some(Refusal { outcome, tries: 1 });
            }
            outcome => {
                let tries = entry.refusal.take().map_or(0, |last| last.tries) + 1;
                entry.eviction = Eviction::From(later(now, outcome.wait(tries, uid)));
                entry.meet(&outcome, now);
                entry.unanswered |= outcome.may_be_lost() && !dry_run;
                entry.refusal = Some(Refusal { outcome, tries });
            }
        }
        self.reconcile(uid, now, out);
        self.tell_obstacle(uid, now, out);
    }

    /// The watch showed a budget that pods wait for, or showed that it is gone. The evictions of as many pods as the
    /// budget allows are requested at once, in order. If people changed or deleted the budget, the evictions of all
    /// waiting pods are requested, because the new budget may allow them.
    pub fn budget_seen(
        &mut self,
        id: &BudgetId,
        view: Option<BudgetView>,
        now: Timestamp,
        out: &mut Decisions,
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

    /// Reports what blocks the eviction of a pod: once at first, then from time to time while it lasts, and once
    /// more when it has lasted for too long.
    fn tell_obstacle(&mut self, uid: &str, now: Timestamp, out: &mut Decisions) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let view = entry
            .queued
            .as_ref()
            .and_then(|(id, _)| self.waiters.view(id));
        let (state, _) = entry.state(now, self.settings.blocked_after);
        let stuck = state == State::Stuck;
        let (Some(obstacle), Some(block)) = (&entry.obstacle, entry.block(view)) else {
            return;
        };
        // The numbers of the budget are known a moment later, when its watch has started.
        let awaited = entry.queued.is_some() && view.is_none() && obstacle.times == 1;
        let tell = match obstacle.again {
            None if awaited => None,
            None => Some((DomainEvent::Blocked(block.clone()), Duration::ZERO)),
            Some(again) if obstacle.times > 1 && now >= again => {
                Some((DomainEvent::StillBlocked(block.clone()), TELL_AGAIN))
            }
            Some(_) => None,
        };
        let tell_stuck = stuck && !obstacle.stuck_told;
        let Some(obstacle) = &mut entry.obstacle else {
            return;
        };
        if let Some((event, pause)) = tell {
            obstacle.again = Some(later(now, pause));
            out.events.push(event);
        }
        if tell_stuck {
            obstacle.stuck_told = true;
            out.events.push(DomainEvent::Stuck(block));
        }
    }
}
