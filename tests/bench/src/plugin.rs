//! How long `kubectl pi get -A`, `report -A` and `explain` take where many pods of many namespaces are marked and there
//! are many policies, and what memory.
//!
//! The pods are marked by Curfew's own account, with the marks of real interactions: the admission
//! policies let nobody else. Nobody evicts them, because their node has no agent.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{layout::Checkout, rust_binaries};
use curfew_core::{PodId, Record, metadata};
use curfew_e2e::{
    Namespace, TestCluster, audit, figures::Distribution, footprint::Process, tokens,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::{
    io::{AsyncReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    node::{PretendNode, within_node},
    policies,
    report::{Report, ms},
    restart::notices,
    say,
};

const TIME: Duration = Duration::from_secs(1);
const MEMORY_KIB: u64 = 40 * 1024;
const PAGE: usize = 500;
/// The interactions were in the last hour, and the first of the pods are overdue: that costs a question.
const PAST: usize = 3600;
const TTL: Duration = Duration::from_secs(3580);
/// How many requests of ours are open at a time while pods are marked.
const AT_ONCE: usize = 16;
const LIMIT: Duration = Duration::from_secs(60);
/// How often its memory is read.
const LOOK: Duration = Duration::from_millis(1);

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many marked pods
    #[arg(long, default_value_t = 2000)]
    pods: usize,
    /// In how many namespaces
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    namespaces: u16,
    /// How many policies are in the cluster
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(..=500))]
    policies: u16,
    /// How often each command is run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let program = rust_binaries::build_released_plugin(&Checkout::find()?)?;
    within_node(cluster, "plugin", async |node| {
        measure(cluster, settings, node, &program).await
    })
    .await
}

async fn measure(
    cluster: &TestCluster,
    settings: &Settings,
    node: &PretendNode,
    program: &Path,
) -> Result<Report> {
    let pods = seed(cluster, settings, node).await?;
    say(&format!("marking {} pods", pods.len()));
    mark(cluster, node, &pods).await?;
    say(&format!("making {} policies", settings.policies));
    policies::make(&node.namespace, settings.policies).await?;
    // The namespaces of the pods have the name of the node and a number.
    let (explained, name) = (format!("{}-0", node.name), pods[0].name.clone());
    let explain = ["explain", &name, "--namespace", &explained, "--", "sh"];

    let plugin = Plugin {
        program: program.to_owned(),
        kubeconfig: cluster.machine.kubeconfig(),
    };
    let log = audit::now(cluster.machine.audit_log())?;
    let first = plugin.run(&["get", "-A"]).await?;
    let lists = log.since(&cluster.administrator().await?)?;
    let pages = lists
        .iter()
        .filter(|request| request.verb == "list" && request.uri.starts_with("/api/v1/pods?"));
    let (pages, whole): (Vec<_>, Vec<_>) =
        pages.partition(|request| request.uri.contains(&format!("limit={PAGE}")));

    let mut report = Report::default();
    report.figure("marked pods", pods.len());
    report.figure("namespaces", settings.namespaces);
    report.figure("policies", settings.policies);
    let (shown, sorted) = times(&first.output, &node.name)?;
    report.target("pods in the table", shown, pods.len(), shown == pods.len());
    report.target(
        "in the order of their eviction times",
        sorted,
        "true",
        sorted,
    );
    report.target(
        "lists of pods, by pages",
        format!("{} of {PAGE}, {} without end", pages.len(), whole.len()),
        format!("at least {} of {PAGE}", pods.len().div_ceil(PAGE)),
        pages.len() >= pods.len().div_ceil(PAGE) && whole.is_empty(),
    );
    for (words, bound) in [
        (&["get", "-A"][..], true),
        (&["get", "-A", "-o", "wide"], true),
        (&["report", "-A"], true),
        (&["report", "-A", "--by=workload"], true),
        (&explain, true),
        // All of every pod, which has no bound: their users ask for it.
        (&["get", "-A", "-o", "json"], false),
    ] {
        let mut took = Vec::new();
        let mut peak_kib = 0;
        for _ in 0..settings.rounds {
            let run = plugin.run(words).await?;
            took.push(run.took);
            peak_kib = peak_kib.max(run.peak_kib);
        }
        let what = words
            .join(" ")
            .replace(&name, "POD")
            .replace(&explained, "NAMESPACE");
        tell(&mut report, &what, took, peak_kib, bound)?;
    }
    Ok(report)
}

fn tell(
    report: &mut Report,
    what: &str,
    took: Vec<Duration>,
    peak_kib: u64,
    bound: bool,
) -> Result<()> {
    let took = Distribution::of(took).context("nothing was measured")?;
    let [least, median, most] = [0, 50, 100].map(|percent| took.percentile(percent));
    let spread = format!("{} ({} to {})", ms(median), ms(least), ms(most));
    let (time, memory) = (format!("{what}: time"), format!("{what}: most memory"));
    let peak = format!("{peak_kib} KiB");
    if bound {
        report.target(&time, spread, "each below 1 s", most < TIME);
        let met = peak_kib > 0 && peak_kib <= MEMORY_KIB;
        report.target(&memory, peak, "at most 40 MiB", met);
    } else {
        report.figure(&time, spread);
        report.figure(&memory, peak);
    }
    Ok(())
}

/// Makes the pods, as many in each namespace.
async fn seed(
    cluster: &TestCluster,
    settings: &Settings,
    node: &PretendNode,
) -> Result<Vec<PodId>> {
    let namespaces = usize::from(settings.namespaces);
    say(&format!(
        "making {} pods in {namespaces} namespaces",
        settings.pods
    ));
    let mut all = Vec::with_capacity(settings.pods);
    for at in 0..namespaces {
        let share = settings.pods / namespaces + usize::from(at < settings.pods % namespaces);
        let part = PretendNode {
            name: node.name.clone(),
            namespace: Namespace::create(cluster, &format!("{}-{at}", node.name)).await?,
        };
        all.extend(part.make_pods(share).await?);
    }
    Ok(all)
}

/// Marks the pods as the webhook does where an agent does not answer.
async fn mark(cluster: &TestCluster, node: &PretendNode, pods: &[PodId]) -> Result<()> {
    let webhook = tokens::client(cluster, tokens::WEBHOOK, None).await?;
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    stream::iter(notices(node, pods, now, TTL).into_iter().enumerate())
        .map(async |(at, notice)| {
            let mut known = notice.known;
            // In no order that any list has.
            let ago = Duration::from_secs((at * 7919 % PAST).try_into()?);
            known.interaction.time = now.checked_sub(ago)?;
            mark_one(&webhook, &Record::new(notice.pod, known)).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn mark_one(webhook: &Client, record: &Record) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(webhook.clone(), &record.pod.namespace);
    let patch = Patch::Merge(metadata::patch(
        &record.pod,
        &metadata::annotations(record, &[]),
        None,
    ));
    let params = PatchParams::default();
    let patched = pods.patch_metadata(&record.pod.name, &params, &patch);
    patched
        .await
        .map(drop)
        .with_context(|| format!("cannot mark {}", record.pod))
}

/// The plugin as people have it.
struct Plugin {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What one run of it was like.
struct Run {
    took: Duration,
    peak_kib: u64,
    output: String,
}

impl Plugin {
    async fn run(&self, words: &[&str]) -> Result<Run> {
        let began = Instant::now();
        let mut child = Command::new(&self.program)
            .args(words)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = child.id().context("it has no id")?;
        let mut printed = BufReader::new(child.stdout.take().context("it prints nowhere")?);
        let mut peak_kib = 0;
        let ended = async {
            let mut output = Vec::new();
            let mut read = pin!(printed.read_to_end(&mut output));
            // The kernel keeps the peak, and tells it only while the process lives.
            loop {
                tokio::select! {
                    read = &mut read => {
                        read?;
                        break;
                    }
                    () = tokio::time::sleep(LOOK) => {
                        peak_kib = Process::with_id(pid).peak_kib().unwrap_or(peak_kib);
                    }
                }
            }
            let status = child.wait().await?;
            ensure!(status.success(), "{words:?} ended with {status}");
            Ok(Run {
                took: began.elapsed(),
                peak_kib,
                output: String::from_utf8(output)?,
            })
        };
        timeout(LIMIT, ended)
            .await
            .with_context(|| format!("{words:?} did not end within {LIMIT:?}"))?
    }
}

/// How many lines are about our pods, and whether their eviction times ascend.
fn times(table: &str, prefix: &str) -> Result<(usize, bool)> {
    let ours = table.lines().filter(|line| line.starts_with(prefix));
    let times: Vec<Timestamp> = ours
        .map(|line| {
            let (_, cell) = line.rsplit_once("   ").unwrap_or_default();
            let (time, _) = cell.split_once(' ').unwrap_or_default();
            time.parse().with_context(|| format!("no time in {line}"))
        })
        .collect::<Result<_>>()?;
    Ok((times.len(), times.is_sorted()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_are_not_counted_and_an_order_is_seen() {
        let line = |namespace: &str, time: &str| {
            format!("{namespace}-1   pod-1   alice   59m40s   <none>   <none>   {time} (in 3s)\n")
        };
        let head = "NAMESPACE   POD-NAME   EVICTION-TIME\n".to_owned();
        let (a, b) = ("2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z");
        let table = head + &line("ours", a) + &line("other", b) + &line("ours", b);
        assert_eq!(times(&table, "ours").unwrap(), (2, true));
        let table = table + &line("ours", a);
        assert_eq!(times(&table, "ours").unwrap(), (3, false));
        assert!(times(&line("ours", "<none>"), "ours").is_err());
    }
}
