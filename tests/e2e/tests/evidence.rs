//! Agents look into containers: what a session changed is found, what the workload writes is not taken for it, what it left
//! behind is compared with what was left before, policies decide what follows, and who reaches into a container past the
//! API server is noticed.

#[path = "evidence/bypass.rs"]
mod bypass;
#[path = "evidence/changes.rs"]
mod changes;
#[path = "evidence/hostile.rs"]
mod hostile;
#[path = "evidence/left.rs"]
mod left;
#[path = "evidence/policy.rs"]
mod policy;
#[path = "evidence/quiet.rs"]
mod quiet;

use std::time::Duration;

use anyhow::Result;
use curfew_e2e::{Namespace, life, policies::Policies};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// How long touched pods live here.
const TTL: &str = "30s";
/// Longer than that: the agent looks when a session ends, and at the latest before the pod goes.
const LOOKED: Duration = Duration::from_secs(35);
/// As long as Events and marks take to be seen.
const SOON: Duration = Duration::from_secs(10);

/// Puts a policy on the namespace.
async fn under(namespace: &Namespace, spec: Value) -> Result<()> {
    let policies = Policies::new(namespace).await?;
    policies.hold(&[("evidence", spec)]).await
}

async fn under_short_ttl(namespace: &Namespace) -> Result<()> {
    under(namespace, json!({"ttl": TTL})).await
}

/// Somebody has a shell in the pod for as long as this script takes. Returns when that ended.
async fn session(namespace: &Namespace, pod: &Pod, script: &str) -> Result<Timestamp> {
    life::exec(namespace, pod, &["sh", "-c", script]).await?;
    Ok(Timestamp::now())
}
