//! Curfew without the component `evidence`: the agents have no right to look into containers and do not, and everything
//! else is as with it.
//!
//! The component is taken off the test cluster and put back, so this is a binary of its own, with one test.

use std::{
    fs,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload, bypass, disrupt,
    evidence::{self, DRIFT},
    granted, installation, life, marks,
    namespace::uid,
    policies::long_ttl,
    tokens, within_namespace,
};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::sleep;

const LOOKED: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_base_needs_no_right_to_look_and_does_not() {
    let cluster = TestCluster::connect().await.unwrap();
    let installed = installation::take_evidence_off(&cluster).await;
    let tested = match installed {
        Ok(()) => AssertUnwindSafe(all(&cluster)).catch_unwind().await,
        Err(_) => Ok(()),
    };
    // Whatever happened: the other binaries need the cluster as it was.
    let restored = installation::install(&cluster).await;
    if let Err(panic) = tested {
        resume_unwind(panic);
    }
    assert!(
        installed.is_ok() && restored.is_ok(),
        "{installed:?}, {restored:?}"
    );
}

async fn all(cluster: &TestCluster) {
    if let Err(error) = agents_are_as_tight_as_the_base(cluster).await {
        panic!("{error:#}");
    }
    an_interaction_takes_its_course().await;
    a_session_goes_on_while_agents_begin_to_look().await;
}

/// What the API server has of them, and what the kernel has of their processes.
async fn agents_are_as_tight_as_the_base(cluster: &TestCluster) -> Result<()> {
    for pod in cluster.pods_of("agent").await? {
        let spec = pod.spec.clone().context("a pod has a spec")?;
        ensure!(spec.host_pid.is_none(), "{spec:?}");
        let context = spec.containers[0].security_context.clone();
        let context = context.context("no security context")?;
        let capabilities = context.capabilities.context("no capabilities")?;
        ensure!(
            capabilities.add.is_none() && capabilities.drop == Some(vec!["ALL".to_owned()]),
            "{capabilities:?}"
        );
        ensure!(context.app_armor_profile.is_none());
        let variables = spec.containers[0].env.iter().flatten();
        let mut names = variables.map(|variable| variable.name.as_str());
        ensure!(!names.any(|name| name == "CURFEW_EVIDENCE"));

        let process = disrupt::process_of("agent", &pod.name_any());
        let process = process.context("its process is not found")?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(set));
            let bits = line.with_context(|| format!("no {set}"))?.trim();
            ensure!(bits.trim_start_matches('0').is_empty(), "{set} {bits}");
        }
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
        ensure!(
            namespace(&process.to_string())? != namespace("self")?,
            "an agent shares the processes of its node"
        );
    }
    let rights = granted::to_account(cluster, tokens::AGENT).await?;
    let more = rights.iter().find(|(_, resource, _)| {
        ["interactionpolicies", "namespaces"].contains(&resource.as_str())
    });
    ensure!(more.is_none(), "{more:?}");
    Ok(())
}

/// It is recorded, told, timed and evicted, and nothing is said of what changed. A bypass is not seen.
async fn an_interaction_takes_its_course() {
    within_namespace("no-evidence", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = ["touched", "entered"].map(|name| Workload::new(name).on(NODES[0]));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        let _session = bypass::enter(&pods[1], &["sleep", "15"]).await?;
        let change = ["sh", "-c", "echo x >/root/x"];
        let record = life::touch_seen(namespace, &agents, &pods[0], &change).await?;
        unlooked(namespace, &agents, &pods[0]).await?;
        life::evicted(namespace, &watch, &record).await?;
        for reason in [evidence::CHANGED_EVENT, evidence::RELEASED_EVENT] {
            let events = marks::events(namespace, &record.uid, reason).await?;
            ensure!(events.is_empty(), "{events:?}");
        }
        marks::clean(&namespace.pods().get("entered").await?)?;
        life::forgotten(&agents, &record).await
    })
    .await;
}

async fn unlooked(namespace: &Namespace, agents: &Agents, pod: &Pod) -> Result<()> {
    let record = evidence::record(agents, pod).await?;
    ensure!(record.drift.is_none(), "{record:?}");
    let found = namespace.pods().get(&pod.name_any()).await?;
    let drift = found.annotations().get(DRIFT);
    ensure!(drift.is_none(), "{drift:?}");
    Ok(())
}

/// Someone who was admitted before is not taken for one who was not, and what they changed before is found.
async fn a_session_goes_on_while_agents_begin_to_look() {
    within_namespace("evidence-begins", async |namespace| {
        long_ttl(namespace).await?;
        let cluster = &namespace.cluster;
        let agents = Agents::connect(cluster).await?;
        let workloads = ["goes-on", "changed"].map(|name| Workload::new(name).on(NODES[1]));
        let pods = namespace.run_pods(&workloads).await?;
        let _shell = namespace
            .kubectl
            .start(&["exec", "goes-on", "--", "sleep", "300"])?;
        let change = ["sh", "-c", "echo x >/root/x"];
        life::touch(namespace, &agents, &pods[1], &change).await?;
        for pod in &pods {
            unlooked(namespace, &agents, pod).await?;
        }

        installation::install(cluster).await?;
        let agents = Agents::connect(cluster).await?;
        // By now it would have been noticed.
        sleep(bypass::NOTICED * 2).await;
        let record = agents.record_only_on(NODES[1], &uid(&pods[0])?).await?;
        ensure!(record.last.kind.to_string() == "exec", "{record:?}");
        // One more session, so that the agent looks.
        let looks = ["sh", "-c", "sleep 3"];
        life::touch(namespace, &agents, &pods[1], &looks).await?;
        let drift = evidence::changed(namespace, &agents, &pods[1], LOOKED).await?;
        ensure!(drift.finds(&["added", "/root/x"]), "{drift:?}");
        Ok(())
    })
    .await;
}
