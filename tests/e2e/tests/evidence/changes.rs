//! What a session changes is found, however it is done.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, eventually,
    evidence::{self, Drift},
    marks,
    namespace::uid,
    within_namespace,
};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;

use crate::{LOOKED, SOON, session, under_short_ttl};

/// What one session does.
struct Deed {
    pod: &'static str,
    script: &'static str,
    /// The words of one finding.
    finding: &'static [&'static str],
    /// What is counted of it.
    counted: fn(&Drift) -> u32,
}

/// The workload writes `/srv/tool` before.
const FILES: [Deed; 11] = [
    Deed {
        pod: "added",
        script: "echo x >/root/added",
        finding: &["added", "/root/added"],
        counted: |drift| drift.added,
    },
    Deed {
        pod: "in-a-new-folder",
        script: "mkdir -p /opt/a/b; echo x >/opt/a/b/c",
        finding: &["added", "/opt/a/b/c"],
        counted: |drift| drift.added,
    },
    Deed {
        pod: "changed",
        script: "echo mallory:x:0:0::/:/bin/sh >>/etc/passwd",
        finding: &["changed", "/etc/passwd"],
        counted: |drift| drift.changed,
    },
    Deed {
        pod: "deleted",
        script: "rm /etc/group",
        finding: &["deleted", "/etc/group"],
        counted: |drift| drift.deleted,
    },
    Deed {
        pod: "made-executable",
        script: "chmod +x /srv/tool",
        finding: &["/srv/tool", "executable"],
        counted: |drift| drift.added + drift.changed,
    },
    Deed {
        pod: "forged",
        script: "echo x >>/etc/group; touch -d '2001-01-01 00:00' /etc/group",
        finding: &["changed", "/etc/group"],
        counted: |drift| drift.changed,
    },
    Deed {
        pod: "forged-new",
        script: "echo x >/root/old; touch -d '2001-01-01 00:00' /root/old /root",
        finding: &["added", "/root/old"],
        counted: |drift| drift.added,
    },
    Deed {
        pod: "moved-over",
        script: "cp -p /bin/busybox /root/new; mv /root/new /bin/busybox",
        finding: &["changed", "/bin/busybox", "executable"],
        counted: |drift| drift.changed,
    },
    Deed {
        pod: "dropped-and-run",
        script: "cp /bin/busybox /root/sleep; /root/sleep 1",
        finding: &["added", "/root/sleep", "executable"],
        counted: |drift| drift.added,
    },
    Deed {
        pod: "empty-dir",
        script: "echo x >/data/file",
        finding: &["added", "/data/file"],
        counted: |drift| drift.added,
    },
    Deed {
        pod: "shared-memory",
        script: "echo x >/dev/shm/file",
        finding: &["added", "/dev/shm/file"],
        counted: |drift| drift.added,
    },
];

/// What sessions leave running. They last long enough to be seen.
const PROCESSES: [Deed; 3] = [
    Deed {
        pod: "background",
        script: "(sleep 600 >/dev/null 2>&1 </dev/null &); sleep 5",
        finding: &["running", "sleep 600"],
        counted: |drift| drift.running,
    },
    Deed {
        pod: "own-session",
        script: "setsid sleep 601 >/dev/null 2>&1 </dev/null & sleep 5",
        finding: &["running", "sleep 601"],
        counted: |drift| drift.running,
    },
    Deed {
        pod: "deleted-running",
        script: "cp /bin/busybox /root/sleep; setsid /root/sleep 602 >/dev/null 2>&1 </dev/null & \
                 sleep 1; rm /root/sleep; sleep 4",
        finding: &["running", "/root/sleep"],
        counted: |drift| drift.running,
    },
];

/// Starts a pod for each of them, on both nodes.
async fn pods(namespace: &Namespace, deeds: &[Deed]) -> Result<Vec<Pod>> {
    let workloads = deeds.iter().enumerate().map(|(at, deed)| {
        let before = "mkdir -p /srv /opt; echo 'echo hello' >/srv/tool; exec sleep 86400";
        Workload::new(deed.pod)
            .on(NODES[at % NODES.len()])
            .script(before)
            .with_empty_dir("/data")
    });
    namespace.run_pods(&workloads.collect::<Vec<_>>()).await
}

async fn found(namespace: &Namespace, agents: &Agents, pod: &Pod, deed: &Deed) -> Result<()> {
    session(namespace, pod, deed.script).await?;
    eventually(LOOKED, "all of it is found", async || {
        let drift = evidence::changed(namespace, agents, pod, Duration::ZERO).await?;
        ensure!((deed.counted)(&drift) > 0, "{drift:?}");
        ensure!(drift.finds(deed.finding), "{drift:?}");
        Ok(Some(()))
    })
    .await?;
    eventually(SOON, "the Event with what was found", async || {
        let events = marks::events(namespace, &uid(pod)?, evidence::CHANGED_EVENT).await?;
        let warns = |note: &str| deed.finding.iter().all(|word| note.contains(word));
        let told = events.iter().any(|event| {
            let note = event.message.as_deref().unwrap_or_default();
            event.type_.as_deref() == Some("Warning") && warns(note)
        });
        ensure!(told, "{events:?}");
        Ok(Some(()))
    })
    .await
}

/// All of them at the same time. What is wrong of each is told.
async fn all_found(namespace: &Namespace, deeds: &[Deed]) -> Result<()> {
    under_short_ttl(namespace).await?;
    let agents = Agents::connect(&namespace.cluster).await?;
    let pods = pods(namespace, deeds).await?;
    let found = pods.iter().zip(deeds).map(async |(pod, deed)| {
        let found = found(namespace, &agents, pod, deed).await;
        let found = found.with_context(|| deed.pod);
        found.err().map(|error| format!("{error:#}"))
    });
    let wrong = join_all(found).await;
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn files_that_a_session_changes_are_found() {
    within_namespace("drift-files", async |namespace| {
        all_found(namespace, &FILES).await
    })
    .await;
}

#[tokio::test]
async fn processes_that_a_session_leaves_are_found() {
    within_namespace("drift-processes", async |namespace| {
        all_found(namespace, &PROCESSES).await
    })
    .await;
}

/// Such a session may have ended before the agent looks at processes. Then it cannot know, and does not say that it does.
#[tokio::test]
async fn nothing_is_vouched_for_after_a_fleeting_session_that_leaves_a_process() {
    within_namespace("drift-fleeting", async |namespace| {
        under_short_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads: Vec<_> = (0..6)
            .map(|at| Workload::new(&format!("fleeting-{at}")).on(NODES[at % NODES.len()]))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let all = pods.iter().map(async |pod| {
            let script = "setsid sleep 603 >/dev/null 2>&1 </dev/null &";
            let ended = session(namespace, pod, script).await?;
            let drift = evidence::looked(namespace, &agents, pod, ended, LOOKED).await?;
            ensure!(drift.verdict != evidence::UNCHANGED, "{drift:?}");
            Ok(())
        });
        try_join_all(all).await.map(drop)
    })
    .await;
}

/// While a session goes on, nobody can say that nothing will change.
#[tokio::test]
async fn an_open_session_is_said_to_be_open() {
    within_namespace("drift-open", async |namespace| {
        under_short_ttl(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace
            .run_pod(&Workload::new("open").on(NODES[0]))
            .await?;
        let _shell = namespace
            .kubectl
            .start(&["exec", "open", "--", "sleep", "50"])?;
        eventually(LOOKED, "the session is seen to be open", async || {
            let drift = evidence::record(&agents, &pod).await?.drift;
            let drift = drift.context("no look yet")?;
            ensure!(
                drift.sessions == 1 && drift.verdict == "Unknown",
                "{drift:?}"
            );
            let pod = namespace.pods().get("open").await?;
            let summary = pod.metadata.annotations.unwrap_or_default();
            let summary = summary.get(evidence::DRIFT).map(String::as_str);
            ensure!(summary == Some("Unknown (a session has not ended)"));
            Ok(Some(()))
        })
        .await
    })
    .await;
}
