//! Who reaches into a container past the API server is noticed, and nobody else is taken for them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    Agents, NODES, Namespace, Workload,
    agents::total,
    bypass::{self, KIND, USER, WORDS},
    disrupt::node_of,
    eventually, figures, life, marks,
    namespace::uid,
    policies::{Policies, long_ttl},
    within_namespace,
    workload::{CONTAINER, IMAGE},
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::{process::Child, time::sleep};

use crate::SOON;

const METRIC: &str = "curfew_agent_interactions_total";
const LABEL: &str = "kind=\"bypass\"";
/// How long the session lasts: longer than it takes to see that it was noticed.
const SESSION: [&str; 2] = ["sleep", "20"];

async fn count(agents: &Agents, node: &str) -> Result<f64> {
    let metrics = agents.of(node)?.metrics().await?;
    let lines = metrics.lines().filter(|line| line.contains(LABEL));
    let lines: Vec<_> = lines.collect();
    Ok(total(&lines.join("\n"), METRIC))
}

/// Whether nobody is said to have bypassed the API server.
async fn nobody_did(namespace: &Namespace, pod: &Pod) -> Result<()> {
    let events = marks::events(namespace, &uid(pod)?, "PodInteraction").await?;
    let mut notes = events.iter().filter_map(|event| event.message.as_deref());
    let told = notes.find(|note| note.contains(WORDS));
    ensure!(told.is_none(), "{}: {told:?}", pod.name_any());
    Ok(())
}

/// It is noticed, told, and timed like any other interaction.
async fn noticed(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    started: (Instant, Child),
) -> Result<()> {
    let (since, _session) = started;
    let (name, node) = (pod.name_any(), node_of(pod).context("no node")?);
    let watch = namespace.watch().await?;
    let took = bypass::noticed(namespace, pod, since).await;
    let took = took.with_context(|| name.clone())?;
    let shown = format!("noticed and marked after {} ms", took.as_millis());
    figures::report(&namespace.cluster, &format!("bypass-{name}"), &shown)?;

    let record = agents.record_only_on(node, &uid(pod)?).await?;
    let interaction = &record.decisive;
    ensure!(interaction.kind.to_string() == KIND, "{record:?}");
    ensure!(interaction.user == USER, "{record:?}");
    ensure!(
        interaction.container.as_deref() == Some(CONTAINER),
        "{record:?}"
    );
    let command = interaction.command.to_string();
    ensure!(command.contains(&SESSION.join(" ")), "{record:?}");
    // One session is one interaction, however often the agent sees it.
    ensure!(record.interactions == 1, "{record:?}");
    let found = namespace.pods().get(&name).await?;
    let marks = found.annotations();
    ensure!(marks.get(metadata::INTERACTOR).is_some_and(|is| is == USER));
    ensure!(marks.contains_key(metadata::EVICTION_TIME), "{marks:?}");
    marks::noted(namespace, &record.uid, SOON, WORDS).await?;
    life::evicted(namespace, &watch, &record).await.map(drop)
}

#[tokio::test]
async fn who_reaches_in_past_the_api_server_is_noticed() {
    within_namespace("bypass", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = [
            Workload::new("entered").on(NODES[0]),
            Workload::new("executed").on(NODES[1]),
        ];
        let pods = namespace.run_pods(&workloads).await?;
        let before = [
            count(&agents, NODES[0]).await?,
            count(&agents, NODES[1]).await?,
        ];
        let entered = bypass::enter(&pods[0], &SESSION).await?;
        let entered = (Instant::now(), entered);
        let executed = bypass::exec(namespace, &pods[1], &SESSION)?;
        let executed = (Instant::now(), executed);
        tokio::try_join!(
            noticed(namespace, &agents, &pods[0], entered),
            noticed(namespace, &agents, &pods[1], executed),
        )?;
        for (node, before) in NODES.iter().zip(before) {
            let after = count(&agents, node).await?;
            ensure!(after >= before + 1.0, "{node}: {before} and {after}");
        }
        Ok(())
    })
    .await;
}

/// Nobody asks a policy before; what it says follows all the same.
#[tokio::test]
async fn a_policy_decides_what_follows() {
    within_namespace("bypass-policy", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let recorded = json!({"interactions": [KIND], "action": "Record", "priority": 1});
        let long = json!({"ttl": "1h"});
        policies
            .hold(&[("recorded", recorded), ("long", long)])
            .await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace
            .run_pod(&Workload::new("recorded").on(NODES[0]))
            .await?;
        let _session = bypass::enter(&pod, &SESSION).await?;
        bypass::noticed(namespace, &pod, Instant::now()).await?;
        let record = agents.record_only_on(NODES[0], &uid(&pod)?).await?;
        ensure!(
            record.state == "recorded" && record.eviction_time.is_none(),
            "{record:?}"
        );
        // An admitted interaction has the terms of the other policy.
        life::exec(namespace, &pod, &["true"]).await?;
        let record = agents.record_only_on(NODES[0], &uid(&pod)?).await?;
        let ttl = record
            .deadline()?
            .duration_since(record.last.time)
            .as_secs();
        ensure!(ttl == 3600, "{record:?}");
        Ok(())
    })
    .await;
}

/// However long it takes, and in whichever way somebody is let in.
#[tokio::test]
async fn what_the_api_server_admitted_is_no_bypass() {
    within_namespace("admitted", async |namespace| {
        long_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let names = ["exec", "shell", "tree", "attach", "debug", "copy"];
        let reads = "while read -r line; do echo \"$line\"; done; exec sleep 86400";
        let workloads = names.map(|name| {
            let workload = Workload::new(name).on(NODES[1]);
            match name {
                "attach" => workload.script(reads).with(json!({"stdin": true})),
                _ => workload,
            }
        });
        let pods = namespace.run_pods(&workloads).await?;
        let kubectl = &namespace.kubectl;
        let file = tempfile::NamedTempFile::new()?;
        let copy = [
            "cp",
            &file.path().to_string_lossy(),
            &format!("{}/copy:/tmp/file", namespace.name),
        ];
        let tree = "for i in 1 2 3; do sh -c 'sh -c \"sleep 3; true\"; true'; done; sleep 2";
        let image = format!("--image={IMAGE}");
        let debug = [
            "debug",
            "debug",
            &image,
            "--target=main",
            "--container=lens",
            "--",
            "sleep",
            "300",
        ];
        let _attached = kubectl.start(&["attach", "attach", "-i"])?;
        let mut shell = kubectl.start_on_a_terminal(&["exec", "-it", "shell", "--", "sh"])?;
        shell.type_line("sleep 6; ps").await?;
        let said = kubectl.run(&debug).await?;
        ensure!(said.code == Some(0), "{said:?}");
        tokio::try_join!(
            async { kubectl.ok(&["exec", "exec", "--", "sleep", "8"]).await },
            async { kubectl.ok(&["exec", "tree", "--", "sh", "-c", tree]).await },
            async { kubectl.ok(&copy).await },
        )?;
        // By now it would have been noticed.
        sleep(bypass::NOTICED).await;
        for pod in &pods {
            nobody_did(namespace, pod).await?;
            let record = agents.record_only_on(NODES[1], &uid(pod)?).await?;
            for kind in [record.decisive.kind, record.last.kind] {
                ensure!(kind.to_string() != KIND, "{record:?}");
            }
        }
        Ok(())
    })
    .await;
}

/// As many of these as there are nodes, so that each agent sees them.
fn probed(node: &str, at: usize) -> [Workload; 4] {
    let name = |what: &str| format!("{what}-{at}");
    let exec = |command: &[&str]| json!({"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 10});
    // What may be a probe is not told before it would have ended.
    let brief = |command: &[&str]| json!({"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 2});
    let quick = json!({
        "livenessProbe": brief(&["cat", "/etc/passwd"]),
        "readinessProbe": brief(&["sh", "-c", "test -e /bin/busybox"]),
    });
    let slow = json!({
        "livenessProbe": exec(&["sh", "-c", "sleep 2.5; cat /etc/group"]),
        "readinessProbe": exec(&["sleep", "0.9"]),
        "startupProbe": exec(&["sh", "-c", "sleep 1; sleep 1"]),
    });
    let hooked = json!({
        "lifecycle": {
            "postStart": {"exec": {"command": ["sh", "-c", "sleep 6; echo started >/root/started"]}},
            "preStop": {"exec": {"command": ["sleep", "1"]}},
        },
        "livenessProbe": exec(&["true"]),
    });
    // Its output is longer than the kubelet takes.
    let noisy = json!({
        "livenessProbe": exec(&["sh", "-c", "ls -lR /bin; ls -lR /bin; true"]),
    });
    [
        Workload::new(&name("quick")).with(quick),
        Workload::new(&name("slow")).with(slow),
        Workload::new(&name("hooked")).with(hooked),
        Workload::new(&name("noisy")).with(noisy),
    ]
    .map(|workload| workload.on(node))
}

#[tokio::test]
async fn probes_and_hooks_are_no_interactions() {
    const WATCHED: Duration = Duration::from_secs(60);
    within_namespace("probes", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads: Vec<_> = NODES
            .iter()
            .enumerate()
            .flat_map(|(at, node)| probed(node, at))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        // Not a condition but a measurement: so long, nothing is to happen.
        sleep(WATCHED).await;
        let untouched = pods.iter().map(async |pod| {
            let name = pod.name_any();
            marks::clean(&namespace.pods().get(&name).await?)?;
            let records = agents.records(&uid(pod)?).await?;
            ensure!(records.is_empty(), "{name}: {records:?}");
            nobody_did(namespace, pod).await
        });
        try_join_all(untouched).await?;
        // The agent looked: beside its probes, it notices one who enters.
        let _session = bypass::enter(&pods[0], &SESSION).await?;
        bypass::noticed(namespace, &pods[0], Instant::now()).await?;
        Ok(())
    })
    .await;
}

/// A container that is started again has another first process, and nobody entered it.
#[tokio::test]
async fn a_container_that_starts_again_was_not_entered() {
    within_namespace("restarts", async |namespace| {
        let script = "sleep 4 & sleep 3; exit 1";
        let workload = Workload::new("restarts").on(NODES[0]).script(script);
        let pod = namespace.run_pod(&workload).await?;
        eventually(Duration::from_secs(75), "it was restarted", async || {
            let pod = namespace.pods().get("restarts").await?;
            Ok((curfew_e2e::disrupt::restarts(&pod) >= 2).then_some(()))
        })
        .await?;
        sleep(bypass::NOTICED).await;
        marks::clean(&namespace.pods().get("restarts").await?)?;
        nobody_did(namespace, &pod).await
    })
    .await;
}
