//! Containers that make looking hard: the agent goes on, says only what it may, and looks nowhere else.

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, bypass, disrupt, eventually,
    evidence::{self, UNCHANGED},
    figures, life,
    namespace::uid,
    within_namespace,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use crate::{SOON, session, under};

const NODE: &str = NODES[0];
/// How many files a container makes, unless this variable says otherwise, such as 1000000.
const FILES: u64 = 100_000;
const VARIABLE: &str = "CURFEW_E2E_FILES";
/// How many of them a shell makes in a second, at the least.
const PACE: u64 = 5_000;
const TTL: u64 = 60;

/// The agent of the node: its pod, its process, and how often its container was started.
async fn agent(namespace: &Namespace) -> Result<(String, Option<i32>, i32)> {
    let pod = disrupt::agent_of(&namespace.cluster, NODE).await?;
    let process = disrupt::process_of("agent", &pod.name_any());
    Ok((uid(&pod)?, process, disrupt::restarts(&pod)))
}

/// Has the workload itself run a script once it is touched, and waits until it has: as long as it takes, and no longer
/// than that.
async fn run(namespace: &Namespace, pod: &Pod, patience: Duration) -> Result<Timestamp> {
    session(namespace, pod, "echo go >/go").await?;
    let done = PathBuf::from(format!("/proc/{}/root/done", bypass::pid(pod).await?));
    eventually(patience, "the workload is done", async || {
        Ok(done.exists().then_some(()))
    })
    .await?;
    session(namespace, pod, "true").await
}

fn hostile(name: &str, script: &str) -> Workload {
    let script = format!(
        "mkdir -p /mess /srv/data; until [ -e /go ]; do sleep 0.2; done; cd /mess; {script}\n\
         cd /; touch /done; exec sleep 86400"
    );
    Workload::new(name).on(NODE).script(&script)
}

/// A tree that is deeper than a path can be long.
const DEEP: &str = "i=0; while [ $i -lt 300 ]; do mkdir a-folder-with-a-name; \
                    cd -P a-folder-with-a-name 2>/dev/null; i=$((i+1)); done; echo x >leaf";
const LOOPS: &str = "ln -s loop loop; ln -s . self; ln -s ../mess up; ln -s b a; ln -s a b; \
                     mkdir d; ln -s ../d d/d; mkfifo pipe; echo x >last";
const LINKS: &str = "ln -s /etc etc; ln -s /proc/1/root root; ln -s /var/lib/curfew store; \
                     ln -s ../../../../../../../../etc up; mv /srv /srv.old; ln -s /etc /srv; \
                     rm -r /var; ln -s /proc /var; echo x >last";
const NAMES: &str = "echo x >\"$(printf 'new\\nline')\"; echo x >\"$(printf 'bad\\377\\376utf8')\"; \
                     echo x >\"$(printf '\\033[2Jclear')\"; echo x >\"$(printf '\\342\\200\\256gnp')\"; \
                     echo x >\"$(printf '%0250d' 7)\"; echo x >' '; echo x >-rf; chmod +x ./*";

#[tokio::test]
async fn links_loops_and_names_lead_nowhere() {
    within_namespace("hostile", async |namespace| {
        under(namespace, json!({"ttl": format!("{TTL}s")})).await?;
        let before = agent(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let all = [
            ("deep", DEEP),
            ("loops", LOOPS),
            ("links", LINKS),
            ("names", NAMES),
        ];
        let workloads = all.map(|(name, script)| hostile(name, script));
        let pods = namespace.run_pods(&workloads).await?;
        let patience = Duration::from_secs(40);
        let looked = pods.iter().map(async |pod| {
            let ended = run(namespace, pod, patience).await?;
            let within = Duration::from_secs(TTL + 5);
            let drift = evidence::looked(namespace, &agents, pod, ended, within).await?;
            // All of them changed something, and what is too deep is said not to be seen.
            ensure!(drift.verdict != UNCHANGED, "{drift:?}");
            drift.check_bounds()?;
            inside(pod, &drift)?;
            anyhow::Ok(())
        });
        let wrong: Vec<_> = join_all(looked)
            .await
            .into_iter()
            .filter_map(|looked| looked.err().map(|error| format!("{error:#}")))
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        ensure!(agent(namespace).await? == before, "the agent started again");
        Ok(())
    })
    .await;
}

/// Whether nothing is told of that only a link leads to: the node's `/etc`, its processes, the agent's store.
fn inside(pod: &Pod, drift: &evidence::Drift) -> Result<()> {
    for finding in &drift.findings {
        let beyond = [
            "/mess/etc/",
            "/mess/root/",
            "/mess/store/",
            "/mess/up/",
            "/mess/self/",
            "/mess/d/d/",
            "/srv/",
            "/var/lib",
            "shadow",
        ];
        let escaped = beyond.iter().find(|path| finding.contains(**path));
        // What was deleted below a folder of the image was in it.
        ensure!(
            escaped.is_none() || finding.starts_with("deleted"),
            "{}: {finding}",
            pod.name_any()
        );
    }
    Ok(())
}

#[tokio::test]
async fn very_many_files_are_looked_at_within_bounds() {
    within_namespace("many-files", async |namespace| {
        let files = match env::var(VARIABLE) {
            Ok(files) => files.parse().context(VARIABLE)?,
            Err(_) => FILES,
        };
        let patience = Duration::from_secs(30 + files / PACE);
        let ttl = patience.as_secs() + TTL;
        under(namespace, json!({"ttl": format!("{ttl}s")})).await?;
        let before = agent(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        // No folder has so many that the shell's next one takes longer.
        let script = format!(
            "i=0; while [ $i -lt {files} ]; do [ $((i%1000)) = 0 ] && mkdir -p /mess/$i && cd /mess/$i; \
             : >f$i; i=$((i+1)); done"
        );
        let workloads = [hostile("many", &script), Workload::new("beside").on(NODE)];
        let pods = namespace.run_pods(&workloads).await?;
        let ended = run(namespace, &pods[0], patience).await?;

        // Meanwhile, the agent does its other work.
        let asked = Instant::now();
        life::touch(namespace, &agents, &pods[1], &["true"]).await?;
        let took = asked.elapsed();
        let within = Duration::from_secs(ttl + 5);
        let drift = evidence::looked(namespace, &agents, &pods[0], ended, within).await?;
        ensure!(drift.verdict != UNCHANGED, "{drift:?}");
        ensure!(u64::from(drift.added) <= files + 1000, "{drift:?}");
        drift.check_bounds()?;
        let shown = format!(
            "{files} files: {} with {} added, unseen {:?}; an exec beside it {} ms",
            drift.verdict,
            drift.added,
            drift.unseen,
            took.as_millis()
        );
        figures::report(&namespace.cluster, "evidence-many-files", &shown)?;
        ensure!(
            agent(namespace).await? == before,
            "the agent started again"
        );
        Ok(())
    })
    .await;
}

/// Containers whose first process ends again and again, while agents look into them.
#[tokio::test]
async fn containers_that_end_while_they_are_looked_at_harm_nobody() {
    const TURNS: usize = 4;
    within_namespace("races", async |namespace| {
        under(namespace, json!({"ttl": format!("{TTL}s")})).await?;
        let before = agent(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
        let workloads: Vec<_> = (0..4)
            .map(|at| {
                Workload::new(&format!("ends-{at}"))
                    .on(NODE)
                    .script(script)
                    .with_empty_dir("/data")
            })
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let ended = pods.iter().map(async |pod| {
            let name = pod.name_any();
            for turn in 0..TURNS {
                // The container may be away, and the command is killed with it.
                let end = format!("echo {turn} >/data/{turn}; sleep 2; kill 1; sleep 5");
                let args = ["exec", &name, "--", "sh", "-c", &end];
                drop(namespace.kubectl.run(&args).await);
            }
        });
        join_all(ended).await;
        eventually(SOON * 2, "the agent knows all of them", async || {
            for pod in &pods {
                evidence::record(&agents, pod).await?;
            }
            Ok(Some(()))
        })
        .await?;
        ensure!(agent(namespace).await? == before, "the agent started again");
        // It still looks.
        let whole = Workload::new("whole").on(NODE);
        let whole = namespace.run_pod(&whole).await?;
        session(namespace, &whole, "echo x >/root/x; sleep 2").await?;
        let within = Duration::from_secs(TTL + 5);
        let drift = evidence::changed(namespace, &agents, &whole, within).await?;
        ensure!(drift.finds(&["added", "/root/x"]), "{drift:?}");
        Ok(())
    })
    .await;
}
