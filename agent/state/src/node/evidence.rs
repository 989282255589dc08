//! Decides when to look at a pod, and whether it stays when its time has come.
//!
//! A look begins shortly before an eviction. Where the pod may be released, the eviction waits for it, and not for
//! long. A pod is released only if that look saw all of it and found nothing, and if the terms of all that was done to
//! it say so. In all doubt it is evicted.

use curfew_core::{Action, Drift, RecordedInteraction, metadata};
use jiff::{SignedDuration, Timestamp};

use super::NodeState;
use crate::{
    action::{AgentAction, Decisions},
    domain_events, earlier,
    pod::{Eviction, Look, PodEntry},
};

/// Whether pods are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Evidence {
    /// They are not: each goes at its deadline.
    #[default]
    Off,
    /// They are.
    On,
}

/// How long before an eviction the look at the pod begins.
pub(super) const LOOK_AHEAD: SignedDuration = SignedDuration::from_secs(5);

/// How long an eviction waits for it.
pub(super) const LOOK_PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// How much earlier than a look everything has to be that the look is to tell something about. Times are whole seconds,
/// and the clocks of the webhook and of the node are not quite the same.
pub(super) const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(2);

/// How much earlier than a look an interaction that starts a timer has to be, so that its session has begun if it ever
/// will. The container runtimes wait for thirty seconds until a client has opened its streams, and run its command only
/// then.
pub(super) const SESSION_BEGINS: SignedDuration = SignedDuration::from_secs(35);

/// What comes next.
pub(super) enum Next {
    /// The look begins then.
    Look(Timestamp),
    /// The eviction waits for what the look found, until then at the most.
    Answer(Timestamp),
    /// The eviction, at its time.
    Eviction,
}

impl NodeState {
    /// A look at the pod found this; asked for or not.
    pub fn looked(&mut self, uid: &str, drift: Drift, now: Timestamp, out: &mut Decisions) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let Some(record) = &mut entry.record else {
            return;
        };
        let before = record.drift.clone();
        record.found(drift);
        self.dirty.insert(uid.to_owned());
        domain_events::drifted(before.as_deref(), record, out);
        if let (Some(look), Some(drift)) = (&mut entry.look, &record.drift)
            && drift.time >= whole(look.asked)
        {
            look.answer = Drift::worst(look.answer.take(), Some(drift.clone()));
        }
        self.reconcile(uid, now, out);
    }

    /// These interactions have become known now, or were known.
    pub(super) fn noted(&mut self, uid: &str, known: &[RecordedInteraction], now: Timestamp) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        if known
            .iter()
            .any(|known| known.terms.action == Action::Evict)
        {
            entry.timed = now;
        }
        // The webhook's clock is ahead: by the clock of the files, it happened earlier.
        if self.settings.evidence == Evidence::On
            && !known.is_empty()
            && let Some(record) = &mut entry.record
            && record.since().is_some_and(|since| whole(now) < since)
            && record.begin_at(whole(now))
        {
            self.dirty.insert(uid.to_owned());
        }
    }

    /// Asks for the look before an eviction, waits for its answer, and releases the pod if that allows it.
    pub(super) fn look(
        &mut self,
        uid: &str,
        entry: &mut PodEntry,
        now: Timestamp,
        out: &mut Decisions,
    ) -> Next {
        let (Some(record), Some(pod)) = (&entry.record, &entry.pod) else {
            return Next::Eviction;
        };
        let (Some(at), Some(since)) = (record.eviction_time(), record.since()) else {
            return Next::Eviction;
        };
        if self.settings.evidence == Evidence::Off
            || record.evict_now().is_some()
            || !matches!(entry.eviction, Eviction::From(_))
            || (pod.finished || pod.mirror || pod.terminating)
            || entry.is_foretold(now, self.settings.blocked_after)
        {
            return Next::Eviction;
        }
        let begin = earlier(at, LOOK_AHEAD);
        if entry
            .look
            .as_ref()
            .is_none_or(|look| look.eviction_time != at)
        {
            if now < begin {
                return Next::Look(begin);
            }
            // A change that was found just now is all that there is to know.
            let over = record.changed.is_some()
                && (record.drift.as_ref()).is_some_and(|drift| drift.time >= whole(begin));
            entry.look = Some(Look {
                eviction_time: at,
                asked: now,
                answer: None,
                over,
            });
            if !over {
                out.actions.push(AgentAction::Look {
                    pod: record.pod.clone(),
                    since,
                });
            }
        }
        let Some(look) = entry.look.as_mut().filter(|look| !look.over) else {
            return Next::Eviction;
        };
        if now < at {
            return Next::Eviction;
        }
        // Where the answer changes nothing, nobody waits for it.
        let patience_ends = look.asked + LOOK_PATIENCE;
        if look.answer.is_none() && now < patience_ends && record.may_be_released() {
            return Next::Answer(patience_ends);
        }
        look.over = true;
        if let Some(drift) = look.answer.take() {
            self.release(uid, entry, &drift, now, out);
        }
        Next::Eviction
    }

    /// Ends the pod's timers if this look allows it.
    fn release(
        &mut self,
        uid: &str,
        entry: &mut PodEntry,
        drift: &Drift,
        now: Timestamp,
        out: &mut Decisions,
    ) {
        let timed = entry.timed;
        let (Some(record), Some(pod)) = (&mut entry.record, &entry.pod) else {
            return;
        };
        let before = |time: Timestamp, by| time <= earlier(drift.time, by);
        let last_timed = record.timed().map(|known| known.interaction.time).max();
        let last = record.last().map(|known| known.interaction.time);
        let is_long_ago = before(timed, SESSION_BEGINS)
            && last_timed.is_some_and(|time| before(time, SESSION_BEGINS))
            && last.is_some_and(|last| before(last, CLOCKS_DIFFER));
        // Where the pod has no room for a record, an interaction that the webhook could not tell the agent may be lost.
        let told = metadata::fitting(record, &entry.unsynced, pod.room as usize);
        let is_told = told.contains_key(metadata::LAST_INTERACTION);
        // The clock of the look is that of the node.
        if !drift.is_clean() || drift.time > now || !is_long_ago || !is_told {
            return;
        }
        let event = domain_events::released(record, drift);
        if record.release() {
            self.dirty.insert(uid.to_owned());
            out.events.extend(event);
        }
    }
}

/// The second of a time.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
