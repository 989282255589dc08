//! PodDisruptionBudgets that can never have room, and what to change about them.

/// The numbers of a budget.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers<'a> {
    /// `spec.minAvailable` as it is written: a number or a percentage.
    pub min_available: Option<&'a str>,
    /// `spec.maxUnavailable` as it is written.
    pub max_unavailable: Option<&'a str>,
    /// How many pods have to be healthy, if the status is that of the present spec.
    pub desired: Option<i32>,
    /// How many pods the budget counts with, if the status is that of the present spec.
    pub expected: Option<i32>,
}

/// Why a budget never has room for an eviction, however healthy its pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum NeverRoom {
    /// `maxUnavailable` is 0 or 0%.
    #[strum(
        to_string = "this budget never allows an eviction, because its maxUnavailable is 0: set maxUnavailable to \
                         1 or more, or delete the pod"
    )]
    NoneUnavailable,
    /// `minAvailable` is 100% or more.
    #[strum(
        to_string = "this budget never allows an eviction, because its minAvailable is 100%: set a lower \
                         minAvailable, or use maxUnavailable: 1 instead, or delete the pod"
    )]
    AllAvailable,
    /// As many pods have to be healthy as there are, or more.
    #[strum(
        to_string = "this budget never allows an eviction while it selects {expected} pods and requires {desired} \
                         of them to be healthy: set a lower minAvailable, or run more than {desired} replicas, or \
                         delete the pod"
    )]
    TooLarge {
        /// How many have to be healthy.
        desired: i32,
        /// How many there are to be.
        expected: i32,
    },
}

impl NeverRoom {
    /// Whether a budget with these numbers never has room. It has as much room as it has healthy pods
    /// more than the desired ones, and never more healthy pods than expected ones.
    pub fn of(numbers: Numbers<'_>) -> Option<Self> {
        if numbers
            .max_unavailable
            .is_some_and(|max| number(max) == Some(0))
        {
            return Some(Self::NoneUnavailable);
        }
        let percent = numbers.min_available.and_then(|min| min.strip_suffix('%'));
        if percent
            .and_then(number)
            .is_some_and(|percent| percent >= 100)
        {
            return Some(Self::AllAvailable);
        }
        match (numbers.desired, numbers.expected) {
            (Some(desired), Some(expected)) if expected > 0 && desired >= expected => {
                Some(Self::TooLarge { desired, expected })
            }
            _ => None,
        }
    }
}

fn number(text: &str) -> Option<u32> {
    text.trim_end_matches('%').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_budgets_that_can_never_have_room_are_named() {
        let too_large = |desired, expected| Some(NeverRoom::TooLarge { desired, expected });
        for (min, max, status, never) in [
            (None, Some("0"), None, Some(NeverRoom::NoneUnavailable)),
            (
                None,
                Some("0%"),
                Some((2, 2)),
                Some(NeverRoom::NoneUnavailable),
            ),
            (Some("100%"), None, None, Some(NeverRoom::AllAvailable)),
            (
                Some("100%"),
                None,
                Some((0, 0)),
                Some(NeverRoom::AllAvailable),
            ),
            (Some("2"), None, Some((2, 2)), too_large(2, 2)),
            (Some("5"), None, Some((5, 2)), too_large(5, 2)),
            (Some("60%"), None, Some((2, 2)), too_large(2, 2)),
            (Some("2"), None, Some((2, 3)), None),
            (Some("60%"), None, Some((2, 3)), None),
            (Some("2"), None, None, None),
            (Some("2"), None, Some((2, 0)), None),
            (Some("0"), None, Some((0, 2)), None),
            (None, Some("1"), Some((1, 2)), None),
            (None, Some("10%"), Some((1, 2)), None),
            (None, None, None, None),
        ] {
            let numbers = Numbers {
                min_available: min,
                max_unavailable: max,
                desired: status.map(|(desired, _)| desired),
                expected: status.map(|(_, expected)| expected),
            };
            assert_eq!(NeverRoom::of(numbers), never, "{numbers:?}");
        }
    }

    #[test]
    fn says_that_it_never_will_and_what_to_change() {
        for (never, change) in [
            (
                NeverRoom::NoneUnavailable,
                "set maxUnavailable to 1 or more",
            ),
            (NeverRoom::AllAvailable, "set a lower minAvailable"),
            (
                NeverRoom::TooLarge {
                    desired: 2,
                    expected: 2,
                },
                "run more than 2 replicas",
            ),
        ] {
            let text = never.to_string();
            assert!(
                text.contains("never allows an eviction") && text.contains(change),
                "{text}"
            );
        }
    }
}
