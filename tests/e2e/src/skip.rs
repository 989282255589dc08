//! Tests that do not hold on every version of Kubernetes.
//!
//! Such a test says so in a line that is not captured, before it returns. `make compat` counts these lines.

use std::{
    io::{self, Write},
    thread,
};

use anyhow::Result;
use curfew_cluster::Minor;

use crate::TestCluster;

/// What the line of a skipped test begins with. The name of the test and the reason follow, each after a colon.
pub const TEST: &str = "skipped on Kubernetes ";
/// What the line begins with if the rest of the test holds.
pub const PART: &str = "skipped in part on Kubernetes ";

/// Whether the test does not hold on the Kubernetes that runs.
pub async fn unless(
    cluster: &TestCluster,
    holds: impl Fn(Minor) -> bool,
    why: &str,
) -> Result<bool> {
    decide(TEST, cluster, holds, why).await
}

/// Whether a part of the test does not hold on the Kubernetes that runs.
pub async fn part_unless(
    cluster: &TestCluster,
    holds: impl Fn(Minor) -> bool,
    why: &str,
) -> Result<bool> {
    decide(PART, cluster, holds, why).await
}

async fn decide(
    how: &str,
    cluster: &TestCluster,
    holds: impl Fn(Minor) -> bool,
    why: &str,
) -> Result<bool> {
    let minor = cluster.kubernetes().await?;
    if holds(minor) {
        return Ok(false);
    }
    // The thread of a test has its name.
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(io::stderr(), "{how}{minor}: {test}: {why}")?;
    Ok(true)
}
