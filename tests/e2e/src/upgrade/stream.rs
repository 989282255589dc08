//! People who exec into pods while the version changes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::INTERACTIONS;
use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};

use crate::{Agents, NODES, Namespace, Workload, eventually, holdings, namespace::uid};

/// The group of the pods of the stream; their time to live is longer than the test.
pub const GROUP: &str = "stream";
/// Half of them on each node.
const PODS: usize = 6;
const CLIENTS: usize = 4;
/// Of all clients together.
const PACE: Duration = Duration::from_millis(200);

/// Pods that have the default time to live, so that it ends during the change. Each is touched once.
const PASSING: usize = 16;
const PASSING_PACE: Duration = Duration::from_secs(5);

const SETTLED: Duration = Duration::from_secs(20);

/// What came of the execs.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// How many were admitted, by the name of the pod.
    pub admitted: BTreeMap<String, u32>,
    /// Those that failed.
    pub refused: Vec<String>,
}

/// A pod that was touched once.
#[derive(Debug, Clone)]
pub struct Passing {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: &'static str,
    /// When the exec began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it failed.
    pub refused: Option<String>,
}

fn stream_pod(at: usize) -> String {
    format!("stream-{}", at % PODS)
}

/// The names of the pods of the stream.
pub fn pods() -> Vec<String> {
    (0..PODS).map(stream_pod).collect()
}

fn node(at: usize) -> &'static str {
    NODES[at % NODES.len()]
}

/// Starts all pods.
pub async fn populate(namespace: &Namespace) -> Result<()> {
    let stream = (0..PODS).map(|at| Workload::new(&stream_pod(at)).in_group(GROUP).on(node(at)));
    let passing = (0..PASSING).map(|at| Workload::new(&format!("passing-{at}")).on(node(at)));
    let all: Vec<_> = stream.chain(passing).collect();
    namespace.run_pods(&all).await.map(drop)
}

/// Execs into a pod. Each command is another one: what is repeated within two seconds is not counted.
async fn exec(namespace: &Namespace, pod: &str, number: &str) -> Result<()> {
    let args = ["exec", pod, "--", "sh", "-c", "true", number];
    let said = namespace.kubectl.run(&args).await?;
    ensure!(said.code == Some(0), "{number} in {pod}: {said:?}");
    Ok(())
}

/// Several clients exec into the pods of the stream, until it is over.
pub async fn work(namespace: &Namespace, over: &AtomicBool) -> Traffic {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (pace, number) = (Mutex::new(pace), AtomicUsize::new(0));
    let traffic = Mutex::new(Traffic::default());
    let client = async || {
        while !over.load(Ordering::Relaxed) {
            pace.lock().await.tick().await;
            let number = number.fetch_add(1, Ordering::Relaxed);
            let pod = stream_pod(number);
            let done = exec(namespace, &pod, &format!("exec-{number}")).await;
            let mut traffic = traffic.lock().await;
            match done {
                Ok(()) => *traffic.admitted.entry(pod).or_default() += 1,
                Err(error) => traffic.refused.push(format!("{error:#}")),
            }
        }
    };
    join_all((0..CLIENTS).map(|_| client())).await;
    traffic.into_inner()
}

/// Execs into one pod after the other, each once, until it is over.
pub async fn touch_passing(namespace: &Namespace, over: &AtomicBool) -> Vec<Passing> {
    let mut pace = interval(PASSING_PACE);
    let mut touched = Vec::new();
    for at in 0..PASSING {
        pace.tick().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("passing-{at}");
        let began = Timestamp::now();
        let done = exec(namespace, &name, &name).await;
        touched.push(Passing {
            name,
            node: node(at),
            began,
            ended: Timestamp::now(),
            refused: done.err().map(|error| format!("{error:#}")),
        });
    }
    touched
}

/// That no exec failed.
///
/// # Errors
/// Shows the first that did.
pub fn all_admitted(traffic: &Traffic, passing: &[Passing]) -> Result<String> {
    let refused = traffic.refused.iter();
    let refused: Vec<_> = refused
        .chain(passing.iter().filter_map(|pod| pod.refused.as_ref()))
        .collect();
    let admitted = traffic.admitted.values().sum::<u32>();
    if let Some(first) = refused.first() {
        anyhow::bail!("{} failed of {admitted}, the first: {first}", refused.len());
    }
    // A stream that hardly ran shows nothing.
    ensure!(admitted >= 50, "only {admitted} execs");
    let passing = passing.len();
    Ok(format!(
        "{admitted} by {CLIENTS} clients and {passing} others, all admitted"
    ))
}

/// That each pod tells how many execs were admitted.
///
/// # Errors
/// Names the first pod that does not.
pub async fn counted_on_pods(namespace: &Namespace, traffic: &Traffic) -> Result<String> {
    eventually(SETTLED, "all are counted on the pods", async || {
        for (name, admitted) in &traffic.admitted {
            let pod = namespace.pods().get(name).await?;
            let count = pod.annotations().get(INTERACTIONS);
            ensure!(
                count == Some(&admitted.to_string()),
                "{name}: {count:?} of {admitted}"
            );
        }
        Ok(Some(()))
    })
    .await?;
    Ok(counted(traffic))
}

/// That the schedule and the store of the pod's agent have as many.
///
/// # Errors
/// Names the first pod of which they do not.
pub async fn counted_by_agents(namespace: &Namespace, traffic: &Traffic) -> Result<String> {
    let cluster = &namespace.cluster;
    eventually(SETTLED, "all are counted by the agents", async || {
        let agents = Agents::connect(cluster).await?;
        let stored = holdings::all(cluster).await?;
        for (name, admitted) in &traffic.admitted {
            let uid = uid(&namespace.pods().get(name).await?)?;
            let scheduled = agents.records(&uid).await?;
            let counts: Vec<_> = scheduled.values().map(|one| one.interactions).collect();
            ensure!(
                counts == [*admitted],
                "{name}: {counts:?} of {admitted} are in the schedule"
            );
            let record = stored.iter().find(|record| record.pod.uid == uid);
            let count = record.context("the store has no record")?.interactions();
            ensure!(
                count == *admitted,
                "{name}: {count} of {admitted} are in the store"
            );
        }
        Ok(Some(()))
    })
    .await?;
    Ok(counted(traffic))
}

fn counted(traffic: &Traffic) -> String {
    let total = traffic.admitted.values().sum::<u32>();
    format!(
        "{total} on {} pods, as many as admitted",
        traffic.admitted.len()
    )
}
