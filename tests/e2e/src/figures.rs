//! Figures that a test measured, for people to see.

use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

use anyhow::Result;

use crate::TestCluster;

/// Shows a line with figures, although the test passes, and keeps it in `target/e2e/figures`.
pub fn report(cluster: &TestCluster, name: &str, figures: &str) -> Result<()> {
    // The standard output itself: the test harness would swallow what is printed.
    writeln!(io::stdout(), "{name}: {figures}")?;
    let place = cluster.results().join("figures");
    fs::create_dir_all(&place)?;
    fs::write(place.join(format!("{name}.txt")), format!("{figures}\n"))?;
    Ok(())
}

/// Durations in their order; there is at least one.
#[derive(Debug, Clone)]
pub struct Distribution(Vec<Duration>);

impl Distribution {
    /// Of these; none when there are none.
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort();
        (!durations.is_empty()).then_some(Self(durations))
    }

    /// The nearest rank: the smallest that so many percent do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let count = self.0.len();
        self.0[(count * percent).div_ceil(100).clamp(1, count) - 1]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// How durations are distributed: `min 3 ms, p50 12 ms, p99 80 ms, max 94 ms (n = 40)`.
pub fn distribution(durations: Vec<Duration>) -> String {
    let Some(distribution) = Distribution::of(durations) else {
        return "none".to_owned();
    };
    let [min, p50, p99, max] =
        [0, 50, 99, 100].map(|percent| distribution.percentile(percent).as_millis());
    let count = distribution.count();
    format!("min {min} ms, p50 {p50} ms, p99 {p99} ms, max {max} ms (n = {count})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let durations = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(
            distribution(durations),
            "min 1 ms, p50 100 ms, p99 198 ms, max 200 ms (n = 200)"
        );
        assert_eq!(distribution(Vec::new()), "none");
    }
}
