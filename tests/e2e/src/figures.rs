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

/// How durations are distributed: `min 3 ms, p50 12 ms, p99 80 ms, max 94 ms (n = 40)`.
pub fn distribution(mut durations: Vec<Duration>) -> String {
    durations.sort();
    let count = durations.len();
    let Some(last) = count.checked_sub(1) else {
        return "none".to_owned();
    };
    // The nearest rank: the smallest that so many percent do not exceed.
    let rank = |percent: usize| durations[(count * percent).div_ceil(100).clamp(1, count) - 1];
    format!(
        "min {} ms, p50 {} ms, p99 {} ms, max {} ms (n = {count})",
        durations[0].as_millis(),
        rank(50).as_millis(),
        rank(99).as_millis(),
        durations[last].as_millis(),
    )
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
