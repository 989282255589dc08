//! The harness for `make upgrade`: replaces one version of Curfew by another while clients exec, and checks that
//! nothing was denied, that every exec is recorded, and that the other version continues with what it finds.
//!
//! The [`source`] of the other version comes from a commit. The [`survivors`] are pods that people interacted with
//! before the change. The [`stream`] of execs runs during the change, and [`readiness`] observes when the agents could
//! evict. [`checks`] are the rows of the table that is printed.

pub mod checks;
pub mod evicted;
pub mod readiness;
pub mod source;
pub mod stream;
pub mod survivors;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{
    Release,
    deploy::{self, Way},
    layout,
};
use tokio::time::sleep;

use crate::{
    NODES, Namespace, TestCluster, disrupt, eventually, evictions::Mark, installation::is_installed,
};

use checks::Checks;
use readiness::Readiness;
use survivors::Survivors;

/// Its agent is away from before the change until after it.
const AWAY: &str = NODES[0];
/// How long the stream runs before and after the change.
const CALM: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// A version that can be deployed.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its name, for people.
    pub name: String,
    release: Release,
}

/// The two versions.
#[derive(Debug, Clone)]
pub struct Versions {
    /// Of the commit.
    pub old: Version,
    /// Of the working tree.
    pub new: Version,
    way: Way,
}

fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Builds both versions and installs the old one, in this way, on a cluster that has no trace of Curfew.
///
/// # Errors
/// When one of them cannot be built or does not run.
pub async fn prepare(commit: &str, way: Way) -> Result<Versions> {
    let cluster = TestCluster::connect().await?;
    let commit = commit.to_owned();
    let machine = cluster.machine.clone();
    let versions = tokio::task::spawn_blocking(move || {
        let here = machine.source();
        let source = source::extract(here.root(), &commit)?;
        let other = here.other_version(&source.tree)?;
        let old = Version {
            name: source.short().to_owned(),
            release: Release::build(&other)?.by(way),
        };
        let new = Version {
            name: "the working tree".to_owned(),
            release: Release::build(here)?.by(way),
        };
        anyhow::Ok(Versions { old, new, way })
    })
    .await??;
    remove(&cluster).await?;
    if way == Way::Chart {
        // Those that kubectl applied are not Helm's.
        disrupt::on_machine(&cluster, |_| deploy::remove_chart()).await?;
    }
    deploy(&cluster, &versions.old).await?;
    Ok(versions)
}

/// Removes Curfew and its stores, so that all records are the old version's own.
async fn remove(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    if is_installed(cluster).await? {
        say("==> Removing the installed version");
        let overlay = cluster
            .overlay("test-cluster")
            .await?
            .to_string_lossy()
            .into_owned();
        let delete = [
            "delete",
            "-k",
            &overlay,
            "--ignore-not-found",
            "--wait=false",
        ];
        kubectl.ok(&delete).await?;
        removed(cluster).await?;
    }
    for node in layout::NODES {
        empty(&node.var_lib().join("curfew"))?;
    }
    Ok(())
}

async fn removed(cluster: &TestCluster) -> Result<()> {
    eventually(PATIENCE, "Curfew is removed", async || {
        Ok((!is_installed(cluster).await?).then_some(()))
    })
    .await
}

fn empty(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

async fn deploy(cluster: &TestCluster, version: &Version) -> Result<()> {
    say(&format!("==> Version: {}", version.name));
    let release = version.release.clone();
    disrupt::on_machine(cluster, move |machine| machine.deploy(&release)).await
}

/// Deploys the version of the working tree as `make cluster` does, and waits until the cluster is whole.
///
/// # Errors
/// When it does not become whole.
pub async fn restore(versions: &Versions) -> Result<()> {
    let cluster = TestCluster::connect().await?;
    if versions.way == Way::Chart {
        disrupt::on_machine(&cluster, |_| deploy::remove_chart()).await?;
        removed(&cluster).await?;
    }
    let version = Version {
        name: versions.new.name.clone(),
        release: versions.new.release.clone().by(Way::Kustomize),
    };
    deploy(&cluster, &version).await?;
    disrupt::heal(&cluster).await
}

/// Replaces one version by the other under a stream of execs, and prints what was checked. Pods that were touched
/// before are due after `life`, in whole seconds, which must be longer than the change takes. What `to` does not know of
/// an interaction is `unknown`, and may be lost.
///
/// # Errors
/// When it cannot be carried out, or when a check fails.
pub async fn change(
    namespace: &Namespace,
    from: &Version,
    to: &Version,
    life: Duration,
    unknown: &[String],
) -> Result<()> {
    let cluster = &namespace.cluster;
    let title = format!("From {} to {}", from.name, to.name);
    say(&format!("==> {title}"));
    let audit = Mark::now(cluster.machine.audit_log())?;
    let ttl = disrupt::time_to_live(cluster).await?;
    stream::populate(namespace).await?;
    let mut survivors = Survivors::prepare(namespace, life).await?;
    disrupt::keep_agent_away(cluster, AWAY).await?;
    survivors.touch_without_agent(namespace).await?;

    let over = AtomicBool::new(false);
    let began = Instant::now();
    let (replaced, traffic, passing, readiness) = tokio::join!(
        async {
            let replaced = replace(cluster, to).await;
            over.store(true, Ordering::Relaxed);
            replaced
        },
        stream::work(namespace, &over),
        stream::touch_passing(namespace, &over),
        Readiness::observe(cluster, &over),
    );
    replaced?;
    say(&format!(
        "==> Replaced after {} s",
        began.elapsed().as_secs()
    ));

    let mut checks = Checks::new(&title);
    checks.note("done before the deadlines", survivors.in_time());
    checks.note(
        "execs during the change",
        stream::all_admitted(&traffic, &passing),
    );
    checks.note(
        "counts on the pods",
        stream::counted_on_pods(namespace, &traffic).await,
    );
    checks.note(
        "counts of the agents",
        stream::counted_by_agents(namespace, &traffic).await,
    );
    checks.note(
        "labels and annotations",
        survivors.marks_unchanged(namespace, unknown).await,
    );
    checks.note(
        "schedule of the agents",
        survivors.schedule_unchanged(namespace).await,
    );
    checks.note(
        "stores of the agents",
        survivors.records_unchanged(namespace, unknown).await,
    );
    checks.note(
        "recorded only on the pod",
        survivors.adopted(namespace).await,
    );
    checks.note("Events", survivors.events_unchanged(namespace).await);
    let due = evicted::passing(&passing, ttl, &readiness);
    checks.note(
        "due during the change",
        evicted::check(&audit, namespace, &due).await,
    );
    let due = survivors.due(&readiness)?;
    checks.note(
        "due after the change",
        evicted::check(&audit, namespace, &due).await,
    );
    checks.note(
        "not due",
        evicted::others_stay(&audit, namespace, &survivors.staying()).await,
    );
    checks.note("released hold", survivors.release(namespace, &audit).await);
    say(&checks.table());
    disrupt::heal(cluster).await?;
    checks.passed()
}

async fn replace(cluster: &TestCluster, to: &Version) -> Result<()> {
    sleep(CALM).await;
    deploy(cluster, to).await?;
    disrupt::bring_agents_back(cluster).await?;
    let what = "the pods of the other version have ended";
    eventually(PATIENCE, what, async || {
        for (part, count) in [("agent", NODES.len()), ("webhook", 2)] {
            let pods = disrupt::all_pods_of(cluster, part).await?.len();
            ensure!(pods == count, "{pods} pods of {part}");
        }
        Ok(Some(()))
    })
    .await?;
    sleep(CALM).await;
    Ok(())
}
