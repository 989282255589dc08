//! The strictest of two terms: what holds for an interaction of which two things are said.

use super::{Action, Enforcement, OnEvidence, Terms};

impl Terms {
    /// The terms by which the pod goes at least as early as by each of both, whatever extension or hold people set and
    /// whatever is found. Terms by which it is evicted count before those by which it is not: those have no times that
    /// mean anything. For the same reason a dry run counts only where neither is enforced.
    ///
    /// It makes no difference in which order terms are put together, and how often.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let rank = |terms: &Self| -> (bool, Enforcement, Action) {
            (!terms.may_evict(), terms.enforcement, terms.action)
        };
        if rank(&self) != rank(&other) {
            return match rank(&self) < rank(&other) {
                true => self,
                false => other,
            };
        }
        let (own, told) = (self.on_evidence, other.on_evidence);
        Self {
            action: self.action,
            ttl: self.ttl.min(other.ttl),
            max_extension: self.max_extension.min(other.max_extension),
            max_hold: self.max_hold.min(other.max_hold),
            exemption: self.exemption.min(other.exemption),
            enforcement: self.enforcement,
            on_evidence: OnEvidence {
                when_changed: own.when_changed.max(told.when_changed),
                when_unchanged: own.when_unchanged.min(told.when_unchanged),
            },
        }
    }

    /// Whether the pod is evicted, now or once it has another controller.
    fn may_evict(&self) -> bool {
        self.action == Action::Evict || self.exemption.is_some_and(super::Exemption::may_end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::terms::{Exemption, WhenChanged, WhenUnchanged};

    fn any_terms() -> impl Strategy<Value = Terms> {
        let exemptions = Exemption::ALL.iter().copied().map(Some).chain([None]);
        let exemptions: Vec<_> = exemptions.collect();
        (
            any::<[bool; 4]>(),
            prop::array::uniform3(0u64..4),
            prop::sample::select(exemptions),
        )
            .prop_map(|([evict, dry, now, release], lengths, exemption)| {
                let [ttl, max_extension, max_hold] = lengths.map(Duration::from_secs);
                Terms {
                    action: if evict { Action::Evict } else { Action::Record },
                    ttl,
                    max_extension,
                    max_hold,
                    exemption,
                    enforcement: match dry {
                        true => Enforcement::DryRun,
                        false => Enforcement::Enforce,
                    },
                    on_evidence: OnEvidence {
                        when_changed: match now {
                            true => WhenChanged::Now,
                            false => WhenChanged::AtDeadline,
                        },
                        when_unchanged: match release {
                            true => WhenUnchanged::Release,
                            false => WhenUnchanged::Evict,
                        },
                    },
                }
            })
    }

    /// When a pod is really evicted by these terms.
    fn end(terms: &Terms, extension: u64, held: bool) -> Option<Duration> {
        let is_enforced = terms.enforcement == Enforcement::Enforce;
        (terms.action == Action::Evict && is_enforced).then(|| {
            let hold = if held { terms.max_hold } else { Duration::ZERO };
            terms.ttl + terms.max_extension.min(Duration::from_secs(extension)) + hold
        })
    }

    proptest! {
        #[test]
        fn the_order_makes_no_difference(one in any_terms(), other in any_terms(), third in any_terms()) {
            prop_assert_eq!(one.strictest(one), one);
            prop_assert_eq!(one.strictest(other), other.strictest(one));
            prop_assert_eq!(one.strictest(other).strictest(third), one.strictest(other.strictest(third)));
        }

        #[test]
        fn nothing_is_evicted_later(one in any_terms(), other in any_terms(), extension in 0u64..6, held: bool) {
            let both = end(&one.strictest(other), extension, held);
            for terms in [one, other] {
                let alone = end(&terms, extension, held);
                prop_assert!(alone.is_none_or(|alone| both.is_some_and(|both| both <= alone)));
            }
            // Nor is it evicted by what neither says.
            prop_assert!(both.is_none() || end(&one, 0, false).or(end(&other, 0, false)).is_some());
        }
    }
}
