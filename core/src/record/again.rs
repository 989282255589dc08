//! The same interaction, told again: what its session left behind may make it irregular after it was let through.

use super::{Record, RecordedInteraction};
use crate::interaction::Kind;

impl RecordedInteraction {
    /// Whether both are of the same admission request.
    pub(super) fn is_of_same_request(&self, other: &RecordedInteraction) -> bool {
        let request = &self.interaction.request;
        !request.is_empty() && *request == other.interaction.request
    }

    /// Adds what else is said of the same request: the strictest terms hold, and that it is irregular stays.
    pub(super) fn add(&mut self, other: RecordedInteraction) {
        self.terms = self.terms.strictest(other.terms);
        if (&other.irregular, &other.policy) > (&self.irregular, &self.policy) {
            (self.irregular, self.policy) = (other.irregular, other.policy);
        }
    }

    /// Whether this is what became of the other, which annotations told before it was found irregular.
    pub(super) fn was_told_as(&self, other: &RecordedInteraction) -> bool {
        let earlier = || {
            let (own, told) = (self.timer(), other.timer());
            own.is_some_and(|own| told.is_none_or(|told| own <= told))
        };
        self.irregular.is_some() && other.irregular.is_none() && earlier()
    }
}

impl Record {
    /// The interactions that were known before, and are found irregular since.
    pub fn irregular_since<'a>(
        &'a self,
        before: &'a Record,
    ) -> impl Iterator<Item = &'a RecordedInteraction> {
        self.known.iter().filter(|known| {
            let mut before = before.known.iter();
            known.irregular.is_some()
                && before
                    .any(|before| before.irregular.is_none() && before.is_of_same_request(known))
        })
    }

    /// The latest exec whose request is known.
    pub fn latest_exec(&self) -> Option<&RecordedInteraction> {
        self.known.iter().rev().find(|known| {
            let did = &known.interaction;
            did.kind == Kind::Exec && !did.request.is_empty()
        })
    }

    /// Whether an interaction of this request is kept.
    pub fn has_request(&self, request: &str) -> bool {
        let mut known = self.known.iter();
        !request.is_empty() && known.any(|known| known.interaction.request == request)
    }
}
