//! Who only looks has changed nothing, whatever the workload does meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Workload, eventually,
    evidence::{self, UNCHANGED},
    life, within_namespace,
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::sleep;

use crate::{LOOKED, session, under, under_short_ttl};

/// What people do who look around. Those with a pause are seen while they go on.
const QUIET: [&str; 5] = [
    "ls -lR /etc /root /bin >/dev/null; cat /etc/passwd",
    "ps; env; id; df -h; sleep 3",
    "for i in 1 2 3; do cat /etc/group; wc -c /bin/busybox; done; find / -xdev -name 'p*' | head -3; sleep 2.5",
    "cat /proc/1/cmdline /proc/mounts >/dev/null; stat /etc/passwd; test -w /etc/passwd",
    "sh -c 'sh -c \"md5sum /bin/busybox; sleep 3\"' | cat; true",
];
const PODS: usize = 10;
/// How many sessions there are in all.
const SESSIONS: usize = 50;
const _: () = assert!(PODS * QUIET.len() == SESSIONS);
/// Longer than all sessions of a pod.
const LONG_TTL: &str = "90s";
const LONG: Duration = Duration::from_secs(95);

/// The pod's sessions, one after the other, the last on a terminal.
async fn visit(namespace: &Namespace, agents: &Agents, pod: &Pod, at: usize) -> Result<()> {
    for turn in 1..QUIET.len() {
        session(namespace, pod, QUIET[(at + turn) % QUIET.len()]).await?;
    }
    let name = pod.name_any();
    // A shell with a home keeps its history there, which is a change.
    let shell = ["exec", "-it", &name, "--", "env", "-u", "HOME", "sh"];
    let mut shell = namespace.kubectl.start_on_a_terminal(&shell)?;
    shell.type_line(QUIET[at % QUIET.len()]).await?;
    shell.type_line("sleep 2; echo en''d").await?;
    while !shell.line().await?.starts_with("end") {}
    shell.type_line("exit").await?;
    // It ends after that line.
    sleep(Duration::from_secs(1)).await;
    // Of a session that ended before it was seen, nothing is said for a while.
    eventually(LONG, "nothing is said to have changed", async || {
        let drift = evidence::record(agents, pod).await?.drift;
        let drift = drift.context("no look yet")?;
        ensure!(drift.verdict == UNCHANGED, "{name}: {drift:?}");
        ensure!(drift.findings.is_empty(), "{name}: {drift:?}");
        Ok(Some(()))
    })
    .await?;
    let record = evidence::record(agents, pod).await?;
    ensure!(record.last.kind.to_string() == "exec", "{record:?}");
    evidence::never_changed(namespace, pod).await
}

#[tokio::test]
async fn none_of_fifty_sessions_that_only_read_is_called_a_change() {
    within_namespace("quiet", async |namespace| {
        under(namespace, json!({"ttl": LONG_TTL})).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads: Vec<_> = (0..PODS)
            .map(|at| {
                Workload::new(&format!("quiet-{at}"))
                    .on(NODES[at % NODES.len()])
                    .with_empty_dir("/data")
            })
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let visits = pods.iter().enumerate();
        let visits = visits.map(|(at, pod)| visit(namespace, &agents, pod, at));
        try_join_all(visits).await.map(drop)
    })
    .await;
}

/// How workloads write logs, each with at least one line before anybody looks.
const LOGGERS: [(&str, &str); 4] = [
    (
        "open-log",
        "exec 3>>/root/log; while :; do date >&3; sleep 0.5; done",
    ),
    (
        "reopened-log",
        "while :; do date >>/root/log; sleep 0.5; done",
    ),
    (
        "volume-log",
        "while :; do date >>/data/log; sleep 0.5; done",
    ),
    (
        "rotated-log",
        // Each time, so that it was rotated after the session before anybody looks.
        "while :; do date >>/root/log; mv /root/log /root/log.1; sleep 0.5; done",
    ),
];

/// Whether the pod's change was never told of, until the pod is evicted.
async fn never_called_a_change(
    namespace: &Namespace,
    agents: &Agents,
    watch: &PodWatch,
    pod: &Pod,
) -> Result<()> {
    session(namespace, pod, "tail -n 1 /root/log* /data/*; sleep 3").await?;
    let record = evidence::record(agents, pod).await?;
    life::evicted(namespace, watch, &record).await?;
    evidence::never_changed(namespace, pod).await
}

#[tokio::test]
async fn what_the_workload_writes_is_not_taken_for_a_change() {
    within_namespace("logs", async |namespace| {
        under_short_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = LOGGERS.map(|(name, script)| {
            Workload::new(name)
                .on(NODES[0])
                .script(script)
                .with_empty_dir("/data")
        });
        let pods = namespace.run_pods(&workloads).await?;
        // They rotate once before.
        sleep(Duration::from_secs(6)).await;
        let watch = namespace.watch().await?;
        let all = pods.iter().map(async |pod| {
            let checked = never_called_a_change(namespace, &agents, &watch, pod).await;
            checked.with_context(|| pod.name_any())
        });
        try_join_all(all).await.map(drop)
    })
    .await;
}

/// A change beside a log is found all the same.
#[tokio::test]
async fn a_log_does_not_hide_a_change() {
    within_namespace("log-change", async |namespace| {
        under_short_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let (_, script) = LOGGERS[1];
        let workload = Workload::new("log").on(NODES[1]).script(script);
        let pod = namespace.run_pod(&workload).await?;
        session(namespace, &pod, "echo x >/root/x; sleep 3").await?;
        let drift = evidence::changed(namespace, &agents, &pod, LOOKED).await?;
        ensure!(drift.finds(&["added", "/root/x"]), "{drift:?}");
        ensure!(!drift.finds(&["/root/log"]), "{drift:?}");
        Ok(())
    })
    .await;
}

/// A container's own processes come and go.
#[tokio::test]
async fn processes_of_the_workload_are_not_those_of_a_session() {
    within_namespace("forks", async |namespace| {
        under_short_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        // None of the workload's processes is the session's, whenever it was started.
        let script = "sleep 86399 & while :; do sleep 1; sh -c 'sleep 0.5 & sleep 0.7'; done";
        let workload = Workload::new("forks").on(NODES[0]).script(script);
        let pod = namespace.run_pod(&workload).await?;
        let ended = session(namespace, &pod, "ps; sleep 4").await?;
        let drift = evidence::looked(namespace, &agents, &pod, ended, LOOKED).await?;
        ensure!(drift.running == 0, "{drift:?}");
        ensure!(drift.verdict != evidence::CHANGED, "{drift:?}");
        Ok(())
    })
    .await;
}
