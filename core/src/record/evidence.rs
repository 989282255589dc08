//! What was found in a pod, and what follows from it for the pod's timers.
//!
//! A change ends the timers whose terms say so as soon as it is found. A release ends all timers that were started
//! until then, without an eviction. Nothing that is found gives a pod more time: where there is any doubt, the pod is
//! evicted at its deadline.

use jiff::Timestamp;

use super::{Marks, Record, RecordedInteraction, earliest};
use crate::{
    drift::{Drift, Verdict},
    interaction::Kind,
    terms::{Action, WhenChanged, WhenUnchanged},
};

/// The part of it that the timers depend on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// See [`Record::changed`].
    pub(super) changed: Option<Timestamp>,
    /// See [`Record::released`].
    pub(super) released: Option<Timestamp>,
}

impl Evidence {
    /// Whether the timer of the interaction has ended with a release.
    pub(super) fn has_released(self, known: &RecordedInteraction) -> bool {
        self.released
            .is_some_and(|released| known.interaction.time <= released)
    }

    /// When the timer of the interaction ends because something has changed, without a hold.
    pub(super) fn end(self, known: &RecordedInteraction) -> Option<Timestamp> {
        let changed = self.changed.filter(|_| known.ends_with_a_change())?;
        Some(changed.max(known.interaction.time))
    }
}

/// What a pod's metadata tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceMarks {
    /// What the latest look found, as far as its summary tells. Its time is the earliest that it may have.
    pub drift: Option<Box<Drift>>,
    /// See [`Record::changed`].
    pub changed: Option<Timestamp>,
    /// See [`Record::released`].
    pub released: Option<Timestamp>,
    /// See [`Record::since`].
    pub since: Option<Timestamp>,
}

impl RecordedInteraction {
    /// Whether its timer ends as soon as a change is found.
    pub(super) fn ends_with_a_change(&self) -> bool {
        self.terms.on_evidence.when_changed == WhenChanged::Now
    }

    /// Whether its timer may end without an eviction: its terms say so, and it is of a kind whose session is a process
    /// of its own, so that its end can be seen. The end of an attach or of a port-forward cannot, and a debug container
    /// stays with the pod.
    pub fn may_be_released(&self) -> bool {
        let is_seen = match self.interaction.kind {
            Kind::Exec | Kind::Bypass => true,
            Kind::Attach | Kind::Portforward | Kind::Debug => false,
        };
        is_seen && self.terms.on_evidence.when_unchanged == WhenUnchanged::Release
    }
}

impl Record {
    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            changed: self.changed,
            released: self.released,
        }
    }

    /// Takes what a look found. It is the latest, whatever its time is: the clock of the node may have gone back.
    pub fn found(&mut self, drift: Drift) {
        let drift = drift.bounded();
        if drift.verdict == Verdict::Changed {
            self.changed = earliest(self.changed, Some(drift.time));
        }
        self.drift = Some(Box::new(drift));
    }

    /// The time since which changes count: of the first interaction, whether it is kept or not, or an earlier one.
    pub fn since(&self) -> Option<Timestamp> {
        let first = self.known.first().map(|known| known.interaction.time);
        earliest(self.since, first)
    }

    /// Changes count since this time, if it is earlier than what is known. Returns whether it is.
    pub fn begin_at(&mut self, time: Timestamp) -> bool {
        let is_earlier = self.since().is_none_or(|since| time < since);
        if is_earlier {
            self.since = Some(time);
        }
        is_earlier
    }

    /// Whether the pod's timers have ended without an eviction, and none was started since.
    pub fn is_released(&self) -> bool {
        self.released.is_some() && self.eviction_time().is_none()
    }

    /// The interactions whose timers count, and have not ended with a release.
    pub fn timed(&self) -> impl Iterator<Item = &RecordedInteraction> {
        let (evidence, enforcement) = (self.evidence(), self.enforcement_of_timers());
        self.known.iter().filter(move |known| {
            known.terms.action == Action::Evict
                && Some(known.terms.enforcement) == enforcement
                && !evidence.has_released(known)
        })
    }

    /// Whether the pod's timers may end without an eviction, if a look finds nothing: a timer runs, each interaction
    /// with a timer that counts [allows it](RecordedInteraction::may_be_released), and there are no others that might
    /// not: none that only lacks a controller to start its timer, and none of which only the number is known. An order
    /// to evict the pod and a change that was ever found rule it out.
    pub fn may_be_released(&self) -> bool {
        self.deadline().is_some()
            && self.evict_now.is_none()
            && self.changed.is_none()
            && self.timed().all(RecordedInteraction::may_be_released)
            && !self
                .known
                .iter()
                .any(RecordedInteraction::is_exempt_for_now)
            && self.interactions() <= self.own_count()
    }

    /// Ends the timers that count, where they [may](Self::may_be_released) end without an eviction. An interaction that
    /// becomes known later starts a timer as always. Returns whether they ended.
    pub fn release(&mut self) -> bool {
        if !self.may_be_released() {
            return false;
        }
        let last = self.timed().map(|known| known.interaction.time).max();
        self.released = self.released.max(last);
        true
    }

    /// Adds what the pod tells. What a look found is told in part only, and so it counts only where nothing else is
    /// known.
    pub(super) fn absorb_evidence(&mut self, marks: EvidenceMarks) {
        self.drift = self.drift.take().or(marks.drift);
        self.changed = earliest(self.changed, marks.changed);
        self.released = self.released.max(marks.released);
        if let Some(since) = marks.since {
            self.begin_at(since);
        }
    }
}

impl Marks {
    /// Whether the pod tells that the timer of an interaction of that time has ended with a release.
    pub fn has_released(&self, time: Timestamp) -> bool {
        self.evidence
            .released
            .is_some_and(|released| time <= released)
    }
}
