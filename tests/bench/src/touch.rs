//! Many pods of two real nodes that are exec'd into at once, from the exec to the eviction.
//!
//! The execs are real: WebSockets without a process of kubectl for each. Four witnesses: the agents' own counts, asked
//! when an exec has returned; the API server's audit log, for what the webhook said of each exec, when the API server
//! got it, and what Curfew asked; and a [watch](shown) of the pods, for when the marks and the ends were seen.

mod shown;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_core::duration;
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload,
    agents::{Agent, sample},
    audit, disrupt, eventually,
    figures::Distribution,
    installation::EVIDENCE_ROLE,
    policies::Policies,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace as Object, Pod},
    rbac::v1::ClusterRole,
};
use kube::{Api, ResourceExt, api::AttachParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use self::shown::{Showing, Shown};
use crate::{
    api_server::Asked,
    report::{Report, ms},
    say,
    tidy::{remove, tidily, unique},
};

const RECORDS: &str = "curfew_agent_records";
const IN_METADATA: &str = "curfew_webhook_recorded_total{where=\"metadata\"}";
/// What the API server's audit log has of an interaction.
const RECORDED: &str = "interaction.curfew.dev/recorded";
const MARKED: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_millis(1500);
/// How many requests to the API server an interaction takes, from the admission to the eviction.
const REQUESTS: usize = 6;
/// Where agents cannot act as their nodes, the webhook reads the pod once more, to check the eviction.
const CHECK: usize = 1;
/// Where agents look into containers, the pod also tells what was found in it.
const LOOK: usize = 1;
/// One exec, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// What is later than this after the last deadline is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(120);

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods, half of them on each node; one measurement for each number
    #[arg(long, value_delimiter = ',', default_values_t = [40, 200], value_parser = clap::value_parser!(u32).range(2..=500))]
    pods: Vec<u32>,
    /// How many clients exec at the same time
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    clients: u32,
    /// How many seconds from an exec to the eviction: all execs have to be over by then
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..))]
    ttl: u64,
    /// For how many seconds it is looked what is asked while nothing happens
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// How long to wait until the kubelets have the processors no longer, and until the last Events and answers are there
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    rest: Duration,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let mut report = Report::default();
    for pods in &settings.pods {
        let name = unique("touch");
        let work = async {
            let namespace = Namespace::create(cluster, &name).await?;
            let policies = Policies::new(&namespace).await?;
            let ttl = json!({"ttl": format!("{}s", settings.ttl)});
            policies.hold(&[("ttl", ttl)]).await?;
            measure(&mut report, &namespace, settings, *pods as usize).await
        };
        let clean = async {
            say("cleaning up");
            let namespaces: Api<Object> = Api::all(cluster.client.clone());
            remove(namespaces, &name).await
        };
        tidily(work, clean).await?;
    }
    tidily(idle(&mut report, cluster, settings), async { Ok(()) }).await?;
    Ok(report)
}

/// What is measured of a number of pods.
struct Course<'a> {
    namespace: &'a Namespace,
    agents: &'a Agents,
    /// How many execs have returned, by node.
    returned: BTreeMap<&'static str, AtomicUsize>,
    /// How many of them were not recorded by then.
    unrecorded: AtomicUsize,
}

async fn measure(
    report: &mut Report,
    namespace: &Namespace,
    settings: &Settings,
    count: usize,
) -> Result<()> {
    let cluster = &namespace.cluster;
    let agents = Agents::connect(cluster).await?;
    without_records(&agents).await?;
    say(&format!("starting {count} pods"));
    let workloads: Vec<_> = (0..count)
        .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % NODES.len()]))
        .collect();
    let pods = namespace.run_pods(&workloads).await?;
    // The kubelets have the processors for a while.
    sleep(settings.rest).await;
    let metadata = in_metadata(cluster).await?;
    let watch = Showing::start(namespace.pods()).await?;
    let mark = audit::now(cluster.machine.audit_log())?;

    let clients = settings.clients;
    say(&format!("{clients} clients exec into {count} pods"));
    let course = Course {
        namespace,
        agents: &agents,
        returned: NODES.map(|node| (node, AtomicUsize::new(0))).into(),
        unrecorded: AtomicUsize::new(0),
    };
    let began = Instant::now();
    let took: Vec<Duration> = stream::iter(&pods)
        .map(|pod| course.touch(pod))
        .buffer_unordered(clients as usize)
        .try_collect()
        .await?;
    let all = began.elapsed();
    ensure!(
        all < Duration::from_secs(settings.ttl),
        "the execs take {all:?}, and the first pods are evicted meanwhile; --ttl gives more time"
    );
    let unrecorded = course.unrecorded.load(Ordering::Relaxed);
    let deadlines = deadlines(&agents, namespace).await?;
    ensure!(
        deadlines.len() == count,
        "the agents have {} of {count} pods",
        deadlines.len()
    );
    let last = deadlines.values().max().copied().unwrap_or_default();
    say(&format!("all are evicted until {last}"));
    let shown = watch.all_gone(count, last.checked_add(PATIENCE)?).await?;
    sleep(settings.rest).await;

    let administrator = cluster.administrator().await?;
    let execs = execs(&mark.since(&administrator)?, &namespace.name);
    ensure!(
        execs.len() == count,
        "the audit log has {} of {count} execs",
        execs.len()
    );
    let asked = Asked::since(&mark, Some(&namespace.name))?;
    let kept = in_metadata(cluster).await? - metadata;
    let took = Distribution::of(took).context("nothing was measured")?;
    let name = |what: &str| format!("{count} pods: {what}");
    report.figure(
        &name("execs"),
        format!(
            "in {:.1} s by {clients} clients, p50 {}, p99 {}",
            all.as_secs_f64(),
            ms(took.percentile(50)),
            ms(took.percentile(99))
        ),
    );
    report.target(
        &name("not recorded when the exec returned"),
        unrecorded,
        "none",
        unrecorded == 0,
    );
    let by_agent = execs.values().filter(|exec| exec.by_agent).count();
    report.figure(
        &name("recorded, as the audit log has it"),
        format!("{by_agent} by the agent, {kept} in the pod's metadata"),
    );
    timeliness(report, &name, &execs, &deadlines, &shown)?;
    let (each, most) = (asked.per(count)?, requests(cluster).await?);
    report.target(
        &name("requests of Curfew to the API server for each"),
        format!("{each:.2}"),
        format!("at most {most}"),
        each <= most as f64,
    );
    report.figure(&name("requests"), &asked);
    report.target(
        &name("requests throttled"),
        asked.throttled,
        "none",
        asked.throttled == 0,
    );
    Ok(())
}

/// How many requests an interaction may take, as Curfew is installed.
async fn requests(cluster: &TestCluster) -> Result<usize> {
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let looks = roles.get_metadata_opt(EVIDENCE_ROLE).await?.is_some();
    let acts_as_node = cluster.kubernetes().await?.agents_act_as_nodes();
    Ok(REQUESTS + LOOK * usize::from(looks) + CHECK * usize::from(!acts_as_node))
}

impl Course<'_> {
    /// An exec into a pod, and right after it a question to the agent of its node. Returns how long the exec took.
    async fn touch(&self, pod: &Pod) -> Result<Duration> {
        let name = pod.name_any();
        let began = Instant::now();
        exec(&self.namespace.pods(), &name).await?;
        let took = began.elapsed();
        let node = disrupt::node_of(pod).with_context(|| format!("{name} has no node"))?;
        let returned = self.returned.get(node);
        let returned = returned.with_context(|| format!("there is no {node}"))?;
        // None is evicted before all have returned, so an agent has no fewer.
        let returned = returned.fetch_add(1, Ordering::SeqCst) + 1;
        if records(self.agents.of(node)?).await? < returned as f64 {
            self.unrecorded.fetch_add(1, Ordering::SeqCst);
        }
        Ok(took)
    }
}

/// Runs `true` in a pod, as a client does that speaks WebSocket.
pub(crate) async fn exec(pods: &Api<Pod>, name: &str) -> Result<()> {
    let params = AttachParams::default()
        .container("main")
        .stdout(true)
        .stderr(false);
    let ran = async {
        let mut process = pods.exec(name, ["true"], &params).await?;
        let status = process.take_status().context("no status is sent")?;
        let status = status.await.context("it ended without a status")?;
        process.join().await?;
        ensure!(status.status.as_deref() == Some("Success"), "{status:?}");
        anyhow::Ok(())
    };
    timeout(LIMIT, ran)
        .await
        .with_context(|| format!("no end within {LIMIT:?}"))?
        .with_context(|| format!("exec in {name}"))
}

/// An exec, as the audit log has it.
struct Exec {
    received: Timestamp,
    by_agent: bool,
}

/// The execs of a namespace, by pod.
fn execs(requests: &[audit::Request], namespace: &str) -> BTreeMap<String, Exec> {
    let mut execs = BTreeMap::new();
    for request in requests {
        let Some((about, received)) = request.object_ref.as_ref().zip(request.received) else {
            continue;
        };
        if about.namespace == namespace && about.subresource == "exec" {
            // One line when it begins and one when it ends; both have the same.
            let recorded = request.annotations.get(RECORDED);
            let exec = execs.entry(about.name.clone()).or_insert(Exec {
                received,
                by_agent: false,
            });
            exec.received = exec.received.min(received);
            exec.by_agent |= recorded.is_some_and(|place| place == "agent");
        }
    }
    execs
}

/// How soon marks were seen, and how late evictions.
fn timeliness(
    report: &mut Report,
    name: &impl Fn(&str) -> String,
    execs: &BTreeMap<String, Exec>,
    deadlines: &BTreeMap<String, Timestamp>,
    shown: &BTreeMap<String, Shown>,
) -> Result<()> {
    let (mut marked, mut late, mut early) = (Vec::new(), Vec::new(), 0);
    for (pod, exec) in execs {
        let seen = shown.get(pod);
        let seen = seen.with_context(|| format!("{pod} was never seen"))?;
        let mark = seen.marked.with_context(|| format!("{pod} had no mark"))?;
        marked.push(mark.duration_since(exec.received).unsigned_abs());
        let going = seen.going.with_context(|| format!("{pod} stayed"))?;
        let deadline = deadlines.get(pod);
        let deadline = deadline.with_context(|| format!("{pod} had no deadline"))?;
        let by = going.duration_since(*deadline);
        early += usize::from(by.is_negative());
        late.push(by.try_into().unwrap_or_default());
    }
    for (what, times, most) in [
        ("exec received to mark seen", marked, MARKED),
        ("evicted after the deadline", late, LATE),
    ] {
        let times = Distribution::of(times).context("nothing was measured")?;
        let [p50, p99, max] = [50, 99, 100].map(|rank| times.percentile(rank));
        let figure = format!("p50 {}, p99 {}, max {}", ms(p50), ms(p99), ms(max));
        let target = format!("p99 at most {}", ms(most));
        report.target(&name(what), figure, target, p99 <= most);
    }
    report.target(
        &name("evicted before the deadline"),
        early,
        "none",
        early == 0,
    );
    Ok(())
}

/// What is asked, and what it costs, while nobody reaches into anything.
async fn idle(report: &mut Report, cluster: &TestCluster, settings: &Settings) -> Result<()> {
    without_records(&Agents::connect(cluster).await?).await?;
    sleep(settings.rest).await;
    say(&format!("nothing for {} s", settings.idle));
    let mark = audit::now(cluster.machine.audit_log())?;
    sleep(Duration::from_secs(settings.idle)).await;
    let asked = Asked::since(&mark, None)?;
    report.target(
        &format!("idle: requests of Curfew in {} s", settings.idle),
        &asked,
        "none",
        asked.count() == 0,
    );
    report.figure(
        "idle: besides, in an hour",
        format!(
            "{} watches opened or ended, {} dry runs by which the webhook checks that it is asked",
            asked.watches as u64 * 3600 / settings.idle,
            asked.self_checks as u64 * 3600 / settings.idle
        ),
    );
    Ok(())
}

async fn records(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics().await?;
    sample(&metrics, RECORDS).with_context(|| format!("no {RECORDS}"))
}

/// Waits until what others did has come to its end.
async fn without_records(agents: &Agents) -> Result<()> {
    eventually(QUIET, "no agent has a record", async || {
        sleep(Duration::from_millis(500)).await;
        for agent in agents.iter() {
            let has = records(agent).await?;
            ensure!(has == 0.0, "the agent of {} has {has}", agent.node);
        }
        Ok(Some(()))
    })
    .await
}

/// When the pods of a namespace are evicted, by name, as the agents have it.
async fn deadlines(agents: &Agents, namespace: &Namespace) -> Result<BTreeMap<String, Timestamp>> {
    let mut deadlines = BTreeMap::new();
    for agent in agents.iter() {
        for record in agent.schedule().await?.records {
            if record.namespace == namespace.name {
                let deadline = record.deadline()?;
                deadlines.insert(record.name, deadline);
            }
        }
    }
    Ok(deadlines)
}

/// How many interactions the webhooks have recorded in the pods' metadata.
async fn in_metadata(cluster: &TestCluster) -> Result<f64> {
    let mut recorded = 0.0;
    for pod in cluster.pods_of("webhook").await? {
        let metrics = disrupt::metrics(&pod).await?;
        recorded += sample(&metrics, IN_METADATA).context("no count of what was recorded")?;
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn line(name: &str, subresource: &str, second: u32, annotations: &Value) -> audit::Request {
        serde_json::from_value(json!({
            "verb": "create", "requestURI": "/", "user": {"username": "admin"},
            "objectRef": {"namespace": "n", "name": name, "subresource": subresource},
            "annotations": annotations,
            "requestReceivedTimestamp": format!("2026-01-01T00:00:{second:02}.5Z"),
        }))
        .unwrap()
    }

    #[test]
    fn an_exec_has_two_lines_and_counts_once() {
        let agent = json!({RECORDED: "agent"});
        let lines = [
            line("a", "exec", 1, &agent),
            line("a", "exec", 1, &agent),
            line("b", "exec", 2, &json!({RECORDED: "metadata"})),
            line("c", "log", 3, &json!({})),
        ];
        let found = execs(&lines, "n");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(found["a"].by_agent && !found["b"].by_agent);
        assert!(execs(&lines, "other").is_empty());
    }

    #[test]
    fn an_early_eviction_misses_the_target() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let exec = Exec {
            received: at(0),
            by_agent: true,
        };
        let execs = BTreeMap::from([("a".to_owned(), exec)]);
        let deadlines = BTreeMap::from([("a".to_owned(), at(40))]);
        for (going, holds) in [(39, false), (41, true), (42, false)] {
            let shown = Shown {
                marked: Some(at(1)),
                going: Some(at(going)),
            };
            let shown = BTreeMap::from([("a".to_owned(), shown)]);
            let mut report = Report::default();
            timeliness(&mut report, &str::to_owned, &execs, &deadlines, &shown).unwrap();
            assert_eq!(report.holds(), holds, "{going}");
        }
    }
}
