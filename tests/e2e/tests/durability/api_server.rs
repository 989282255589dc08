//! An API server that is away for long, and over a deadline.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    NODES, Namespace, Workload,
    disrupt::{self, API_SERVER},
    eventually,
    evictions::Mark,
    figures, marks,
    namespace::uid,
    policies::Policies,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;
use tokio::time::Instant;

use crate::{Touched, alone, exec, told_once, until};

/// How long after its return pods may still be there: agents ask with growing pauses while it is away.
const PROMPT: SignedDuration = SignedDuration::from_secs(12);

/// Long enough for pauses that double to be of many seconds.
const LONG: SignedDuration = SignedDuration::from_secs(20);
/// How soon after it was made a policy is in force, though the watches were broken off.
const IN_FORCE: Duration = Duration::from_secs(2);
/// Nobody reaches into it before the outage.
const UNTOUCHED: &str = "untouched";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_policies_are_in_force_at_once_and_evictions_asked_for_once() {
    alone("api-server", async |namespace| {
        let cluster = &namespace.cluster;
        let policies = Policies::new(namespace).await?;
        let workloads: Vec<_> = (0..4)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % 2]))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        namespace
            .run_pod(&Workload::new(UNTOUCHED).on(NODES[0]))
            .await?;
        let audit = Mark::now(cluster.machine.audit_log())?;
        for pod in &pods {
            exec(namespace, pod, "id").await?;
        }
        let mut all = Vec::new();
        for pod in &pods {
            let marked = eventually(Duration::from_secs(2), "the mark", async || {
                let pod = namespace.pods().get(&pod.name_any()).await?;
                Ok(pod.annotations().get(metadata::EVICTION_TIME).cloned())
            });
            all.push(Touched {
                name: pod.name_any(),
                uid: uid(pod)?,
                deadline: marked.await?.parse()?,
            });
        }
        // The Events are told in the meantime.
        let first = all.iter().map(|pod| pod.deadline).min();
        let last = all.iter().map(|pod| pod.deadline).max();
        until(first.context("no pod")? - SignedDuration::from_secs(15)).await;
        disrupt::on_machine(cluster, |machine| machine.kill(API_SERVER)).await?;
        let over = last.context("no pod")? + SignedDuration::from_secs(3);
        until(over.max(Timestamp::now() + LONG)).await;
        disrupt::on_machine(cluster, |machine| {
            machine.start(API_SERVER)?;
            machine.wait_until_ready()
        })
        .await?;
        let back = Timestamp::now();
        is_in_force(namespace, &policies).await?;
        disrupt::restart_controllers(cluster).await?;

        eventually(
            Duration::from_secs(60),
            "all touched pods are evicted",
            async || {
                let left = namespace.pods().list_metadata(&Default::default()).await?;
                Ok(left
                    .iter()
                    .all(|pod| pod.name_any() == UNTOUCHED)
                    .then_some(()))
            },
        )
        .await?;
        for pod in &all {
            told_once(namespace, pod).await?;
            let blocked =
                marks::events(namespace, &pod.uid, "PodInteractionEvictionBlocked").await?;
            ensure!(blocked.is_empty(), "{blocked:?}");
        }
        let granted = audit.granted(&namespace.name)?;
        let mut slowest = SignedDuration::ZERO;
        for pod in &all {
            let of: Vec<_> = granted.iter().filter(|one| one.pod == pod.name).collect();
            ensure!(of.len() == 1, "{} was evicted {} times", pod.name, of.len());
            ensure!(of[0].asked >= pod.deadline, "{} went early", pod.name);
            slowest = slowest.max(of[0].asked.duration_since(back));
        }
        let shown = format!(
            "the last pod went {} ms after it was ready",
            slowest.as_millis()
        );
        figures::report(cluster, "api-server-back", &shown)?;
        ensure!(slowest <= PROMPT, "{shown}");
        Result::Ok(())
    })
    .await;
}

/// Makes a policy, and sees that it holds whichever replica of the webhook is asked.
async fn is_in_force(namespace: &Namespace, policies: &Policies<'_>) -> Result<()> {
    policies.apply("no", json!({"action": "Deny"})).await?;
    let made = Instant::now();
    let mut asked = 0;
    while made.elapsed() < IN_FORCE || asked < 6 {
        let said = namespace
            .kubectl
            .run(&["exec", UNTOUCHED, "--", "true"])
            .await?;
        let late = made.elapsed() > IN_FORCE;
        ensure!(
            said.success().is_err() || !late,
            "admitted {:?} after the policy was made",
            made.elapsed()
        );
        asked += 1;
    }
    Ok(())
}
