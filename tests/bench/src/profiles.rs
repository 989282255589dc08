//! Many profiles that have learned as much as they can, one of them of the workload that is asked about.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_behaviour::full_profile;
use curfew_core::behaviour::{ProfileStatus, Thresholds};
use curfew_crd::InteractionProfile;
use curfew_e2e::{
    Namespace, agents::total, disrupt, eventually, footprint::Process, policies::Policies,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::tidy::remove_all;

/// How many requests are open at a time. Each has almost a megabyte.
const AT_ONCE: usize = 2;
/// How long it takes to write one of them.
const FILLED: Duration = Duration::from_secs(120);
/// How long it takes until each replica knows them.
const KNOWN: Duration = Duration::from_secs(120);
/// How often a replica is asked how many it knows.
const PAUSE: Duration = Duration::from_millis(500);
/// The policy that asks what is usual.
const POLICY: &str = "usual";
const COUNT: &str = "curfew_webhook_profiles";

/// Makes so many profiles, the first with the name `first`, and a policy that asks what is usual. Waits until both
/// replicas of the webhook know them. They go with the namespace.
pub(crate) async fn make(namespace: &Namespace, first: &str, count: u16) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let client = namespace.cluster.client.clone();
    let all: Api<InteractionProfile> = Api::namespaced(client, &namespace.name);
    let asks = json!({"behaviour": "Irregular", "minimumDays": 0, "ttl": "1h"});
    let policies = Policies::new(namespace).await?;
    policies.hold(&[(POLICY, asks)]).await?;
    let mut status = full_profile()?;
    // As the webhook reports it, so that it does not write each of them once more.
    let thresholds = Thresholds::default();
    status.report(None, None, 1, &thresholds, Timestamp::now());
    stream::iter(0..count)
        .map(async |at| {
            let name = match at {
                0 => first.to_owned(),
                _ => format!("deployment.other-{at}"),
            };
            let profile = InteractionProfile::new(&name, Default::default());
            all.create(&PostParams::default(), &profile).await?;
            fill(&all, &name, &status).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let what = "both replicas know the profiles";
    known(namespace, what, |known| known >= f64::from(count)).await
}

/// Gives the profile this status. The webhook reports on a new profile, too, so this may have to be done again.
async fn fill(all: &Api<InteractionProfile>, name: &str, status: &ProfileStatus) -> Result<()> {
    eventually(FILLED, "the profile has its status", async || {
        let mut profile = all.get(name).await?;
        profile.status = Some(status.clone());
        // Not a patch, which costs the API server several times as much.
        match all
            .replace_status(name, &PostParams::default(), &profile)
            .await
        {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(refused)) if refused.code == 409 => Ok(None),
            Err(error) => Err(error).context("a profile is refused"),
        }
    })
    .await
}

/// Removes what was made, and waits until no replica knows one of them.
pub(crate) async fn remove(namespace: &Namespace, count: u16) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    Policies::new(namespace).await?.delete(POLICY).await?;
    let client = namespace.cluster.client.clone();
    let all: Api<InteractionProfile> = Api::namespaced(client, &namespace.name);
    // Not the collection: the API server reads all of it in one request, and that takes longer than a request may.
    remove_all(all, "").await?;
    known(namespace, "no replica knows a profile", |known| {
        known == 0.0
    })
    .await
}

/// Waits until each replica knows as many profiles as this asks for.
async fn known(namespace: &Namespace, what: &str, enough: impl Fn(f64) -> bool) -> Result<()> {
    eventually(KNOWN, what, async || {
        tokio::time::sleep(PAUSE).await;
        for pod in namespace.cluster.pods_of("webhook").await? {
            let known = total(&disrupt::metrics(&pod).await?, COUNT);
            ensure!(enough(known), "one knows {known}");
        }
        Ok(Some(()))
    })
    .await
}

/// The anonymous and the most resident memory of the replica that has the most, in KiB.
pub(crate) async fn memory(namespace: &Namespace) -> Result<(u64, u64)> {
    let mut most = (0, 0);
    for pod in namespace.cluster.pods_of("webhook").await? {
        let name = pod.metadata.name.unwrap_or_default();
        let pid = disrupt::process_of("webhook", &name).context("no process of the webhook")?;
        let process = Process::with_id(pid.try_into()?);
        most.0 = process.anonymous_kib()?.max(most.0);
        most.1 = process.peak_kib()?.max(most.1);
    }
    Ok(most)
}
