//! Who has a series of their own, however many namespaces and budgets users make.

use std::{cmp::Reverse, collections::BTreeMap};

/// So many have one; the others share one.
const MOST: usize = 20;

/// What is said of the others. Somebody may be called so, too: both are counted together then.
pub(super) const OTHER: &str = "other";

/// The greatest, and how much all others are together. Of equals, the first in order.
pub(super) fn busiest<K: Ord>(counts: &BTreeMap<K, i64>) -> (Vec<(&K, i64)>, i64) {
    let mut all: Vec<_> = counts.iter().map(|(key, count)| (key, *count)).collect();
    all.sort_by_key(|(key, count)| (Reverse(*count), *key));
    let others = all.iter().skip(MOST).map(|(_, count)| count).sum();
    all.truncate(MOST);
    (all, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_told_apart_and_the_rest_is_counted() {
        let counts: BTreeMap<_, _> = (0..30)
            .map(|n| (format!("ns-{n:02}"), n % 25 + 1))
            .collect();
        let (greatest, others) = busiest(&counts);
        assert_eq!(greatest.len(), MOST);
        assert_eq!(greatest[0], (&"ns-24".to_owned(), 25));
        let told: i64 = greatest.iter().map(|(_, count)| count).sum();
        assert_eq!(told + others, counts.values().sum::<i64>());
        // Both have five: the first in order has the last place.
        assert_eq!(greatest[19], (&"ns-05".to_owned(), 6));
        let few = BTreeMap::from([("a", 1), ("b", 1)]);
        assert_eq!(busiest(&few), (vec![(&"a", 1), (&"b", 1)], 0));
    }
}
