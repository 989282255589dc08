//! Tests that do not hold on every version of Kubernetes.
//!
//! Such a test says so in a line that is not captured, before it returns. `make compat` counts these lines.

use std::{
    io::{self, Write},
    thread,
};

use anyhow::Result;
use curfew_cluster::{
    Minor,
    kubernetes::{SKIPPED, SKIPPED_IN_PART},
};

use crate::TestCluster;

/// Why nobody is evicted while the webhook is away, where [`Minor::agents_act_as_nodes`] does not hold.
pub const GUARDED: &str =
    "before 1.36 the webhook checks the agents' evictions, so they wait for it";

/// Whether the test does not hold on the Kubernetes that runs.
pub async fn unless(
    cluster: &TestCluster,
    holds: impl Fn(Minor) -> bool,
    why: &str,
) -> Result<bool> {
    decide(SKIPPED, cluster, holds, why).await
}

/// Whether a part of the test does not hold on the Kubernetes that runs.
pub async fn part_unless(
    cluster: &TestCluster,
    holds: impl Fn(Minor) -> bool,
    why: &str,
) -> Result<bool> {
    decide(SKIPPED_IN_PART, cluster, holds, why).await
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
