//! Rolling restarts of agents and webhook while people work.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    NODES, Namespace, Workload,
    disrupt::{self, DAEMONSET, DEPLOYMENT},
    eventually,
    evictions::Mark,
    figures, holdings,
    namespace::uid,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::alone;

/// As long as the same pods are used: shorter than their time to live.
const TURN: Duration = Duration::from_secs(8);
const TURNS: usize = 9;
/// Of each turn; half of them on each node.
const PODS: usize = 4;
const PACE: Duration = Duration::from_millis(200);
/// How many may be open at once.
const OPEN: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_deny_nothing_and_lose_nothing() {
    alone("rollout", async |namespace| {
        let workloads: Vec<_> = (0..TURNS * PODS)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % 2]))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let uids: Vec<_> = pods.iter().map(uid).collect::<Result<_>>()?;
        let audit = Mark::now(namespace.cluster.machine.audit_log())?;
        let over = AtomicBool::new(false);
        let count = AtomicUsize::new(0);
        let began = Timestamp::now();
        let (restarted, turns) = tokio::join!(
            async {
                let restarted = restart(namespace).await;
                over.store(true, Ordering::Relaxed);
                restarted
            },
            stream_of_turns(namespace, &uids, &over, &count),
        );
        restarted?;
        let turns = turns?;
        let shown = format!(
            "{} execs in {turns} turns while both were restarted, none denied, none lost",
            count.load(Ordering::Relaxed)
        );
        all_evicted(namespace, &audit, began, turns * PODS).await?;
        figures::report(&namespace.cluster, "rollout", &shown)
    })
    .await;
}

async fn restart(namespace: &Namespace) -> Result<()> {
    let kubectl = disrupt::kubectl(&namespace.cluster);
    kubectl
        .ok(&["rollout", "restart", DAEMONSET, DEPLOYMENT])
        .await?;
    disrupt::rolled_out(&namespace.cluster, DAEMONSET).await?;
    disrupt::rolled_out(&namespace.cluster, DEPLOYMENT).await?;
    eventually(
        Duration::from_secs(45),
        "the old pods have ended",
        async || {
            let mut count = 0;
            for part in ["agent", "webhook"] {
                count += disrupt::all_pods_of(&namespace.cluster, part).await?.len();
            }
            Ok((count == NODES.len() + 2).then_some(()))
        },
    )
    .await
}

/// Reaches into pods at a steady pace until it is over, and returns how many turns that took.
async fn stream_of_turns(
    namespace: &Namespace,
    uids: &[String],
    over: &AtomicBool,
    count: &AtomicUsize,
) -> Result<usize> {
    for turn in 0..TURNS {
        if over.load(Ordering::Relaxed) {
            return Ok(turn);
        }
        let end = Instant::now() + TURN;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let execs = stream::unfold((pace, 0), |(mut pace, n)| async move {
            pace.tick().await;
            (Instant::now() < end).then_some((n, (pace, n + 1)))
        });
        let done: Vec<usize> = execs
            .map(|n| async move {
                let pod = turn * PODS + n % PODS;
                let (name, command) = (format!("pod-{pod}"), format!("exec-{turn}-{n}"));
                let args = ["exec", &name, "--", "sh", "-c", "true", &command];
                let said = namespace.kubectl.run(&args).await?;
                ensure!(said.code == Some(0), "{command} in {name}: {said:?}");
                count.fetch_add(1, Ordering::Relaxed);
                anyhow::Ok(pod)
            })
            .buffer_unordered(OPEN)
            .try_collect()
            .await?;
        let mut expected = BTreeMap::<_, u32>::new();
        for pod in done {
            *expected.entry(uids[pod].clone()).or_default() += 1;
        }
        recorded(namespace, &expected).await?;
        sleep_until(end).await;
    }
    bail!("it takes longer than there are pods for")
}

/// That each exec is counted in a store or on its pod.
async fn recorded(namespace: &Namespace, expected: &BTreeMap<String, u32>) -> Result<()> {
    eventually(Duration::from_secs(8), "all is recorded", async || {
        let mut found = BTreeMap::<String, u32>::new();
        let mut note = |uid: &str, count: u32| {
            let known = found.entry(uid.to_owned()).or_default();
            *known = count.max(*known);
        };
        for agent in namespace.cluster.pods_of("agent").await? {
            // One that is just being replaced answers nothing; what it has, its successor has.
            let Ok(held) = holdings::of(&namespace.cluster, &agent).await else {
                continue;
            };
            for record in held.records {
                note(&record.pod.uid, record.interactions());
            }
        }
        for pod in namespace.pods().list(&Default::default()).await? {
            let count = pod.annotations().get(metadata::INTERACTIONS);
            note(&uid(&pod)?, count.map_or(Ok(0), |count| count.parse())?);
        }
        for (uid, execs) in expected {
            let count = found.get(uid).copied().unwrap_or_default();
            ensure!(count >= *execs, "{uid}: {count} of {execs} are recorded");
        }
        Ok(Some(()))
    })
    .await
}

/// That the first so many pods go, each once and none early, and that the others stay.
async fn all_evicted(
    namespace: &Namespace,
    audit: &Mark,
    began: Timestamp,
    count: usize,
) -> Result<()> {
    let rest = TURNS * PODS - count;
    eventually(Duration::from_secs(50), "all are evicted", async || {
        let left = namespace.pods().list_metadata(&Default::default()).await?;
        let left = left.items.len();
        ensure!(
            left >= rest,
            "{left} pods are left of {rest} untouched ones"
        );
        Ok((left == rest).then_some(()))
    })
    .await?;
    let granted = audit.granted(&namespace.name)?;
    let ttl = disrupt::time_to_live(&namespace.cluster).await?;
    for pod in 0..TURNS * PODS {
        let name = format!("pod-{pod}");
        let of: Vec<_> = granted.iter().filter(|one| one.pod == name).collect();
        let times = usize::from(pod < count);
        ensure!(of.len() == times, "{name} was evicted {} times", of.len());
        let Some(eviction) = of.first() else { continue };
        // No exec into it began before its turn did; times are in whole seconds.
        let turn = SignedDuration::try_from(TURN * (pod / PODS) as u32).context("too long")?;
        let earliest = began + turn + ttl - SignedDuration::from_secs(1);
        ensure!(
            eviction.asked >= earliest,
            "{name} went early: {eviction:?}"
        );
    }
    Ok(())
}
