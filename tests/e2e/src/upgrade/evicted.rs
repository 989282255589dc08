//! That the pods which are due are evicted, once and on time, and others are not. The audit log of the API server
//! tells.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};

use super::{readiness::Readiness, stream::Passing};
use crate::{Namespace, eventually, evictions::Mark};

/// Times of interactions are in whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// The audit log is written after the answer.
const WRITTEN: Duration = Duration::from_secs(2);

/// A pod that is to be evicted.
#[derive(Debug, Clone)]
pub struct DuePod {
    /// Its name.
    pub name: String,
    /// Not before.
    pub earliest: Timestamp,
    /// Not after.
    pub latest: Timestamp,
}

/// The pods that were touched during the change.
pub fn passing(passing: &[Passing], ttl: SignedDuration, readiness: &Readiness) -> Vec<DuePod> {
    let due = |pod: &Passing| DuePod {
        name: pod.name.clone(),
        earliest: pod.began + ttl - SECOND,
        latest: readiness.latest_eviction(pod.node, pod.ended + ttl),
    };
    passing.iter().map(due).collect()
}

/// That each of them is evicted once, and when.
///
/// # Errors
/// Names the first of which that is not so.
pub async fn check(audit: &Mark, namespace: &Namespace, due: &[DuePod]) -> Result<String> {
    ensure!(!due.is_empty(), "no pod was due");
    let last = due.iter().map(|pod| pod.latest).max();
    let last = last.unwrap_or_default().duration_since(Timestamp::now());
    let within = last.max(SignedDuration::ZERO).unsigned_abs() + WRITTEN;
    let mut later = SignedDuration::ZERO;
    // Asked again for those that are missing; what was too early or too late stays so.
    eventually(within, "all are evicted", async || {
        let granted = audit.granted(&namespace.name)?;
        let missing = due
            .iter()
            .filter(|pod| !granted.iter().any(|eviction| eviction.pod == pod.name));
        let missing: Vec<_> = missing.map(|pod| pod.name.as_str()).collect();
        ensure!(missing.is_empty(), "not evicted: {}", missing.join(", "));
        Ok(Some(()))
    })
    .await?;
    let granted = audit.granted(&namespace.name)?;
    for DuePod {
        name,
        earliest,
        latest,
    } in due
    {
        let of = granted.iter().filter(|eviction| &eviction.pod == name);
        let times: Vec<_> = of.map(|eviction| eviction.asked).collect();
        let [asked] = times[..] else {
            anyhow::bail!("{name} was evicted {} times", times.len());
        };
        ensure!(
            asked >= *earliest && asked <= *latest,
            "{name} was evicted at {asked}, not between {earliest} and {latest}"
        );
        later = later.max(asked.duration_since(*earliest));
    }
    Ok(format!(
        "{} pods evicted, each once and on time: at most {:.1} s late, with the wait for an agent",
        due.len(),
        later.as_secs_f64()
    ))
}

/// That these are not evicted.
///
/// # Errors
/// Names the first that was.
pub async fn others_stay(audit: &Mark, namespace: &Namespace, names: &[String]) -> Result<String> {
    let granted = audit.granted(&namespace.name)?;
    for name in names {
        ensure!(
            !granted.iter().any(|eviction| &eviction.pod == name),
            "{name} was evicted"
        );
        namespace.pods().get(name).await?;
    }
    Ok(format!("{} pods stayed", names.len()))
}
