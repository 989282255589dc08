//! What Curfew costs those who never exec: pods are created, changed, reported on and deleted while its admission
//! policies are bound, and while they are not.
//!
//! The requests are the same both times, and go in turns: with, without, without, with, and so on, so that what
//! the machine does besides, and what the API server has gathered, meets both alike. The processors' time is that of
//! the API server's process; the kernel counts it in hundredths of a second.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{TestCluster, Workload, figures::Distribution, footprint::Process};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    api_server::{self, Clock},
    bindings::{self, Bindings},
    node::{PretendNode, running, within_node_and},
    report::{Report, median_of, ms, percent, signed_ms},
    say,
};

/// How much more it may be, of one.
const MORE: f64 = 0.02;
/// What the API server does about the last requests when they are answered, such as telling watchers.
const REST: Duration = Duration::from_millis(500);
/// About as many as pods of a cluster in use have.
const LABELS: usize = 6;

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods each turn creates, changes, reports on and deletes
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
    /// How many turns there are with the policies bound, and as many without
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..))]
    pairs: u32,
    /// How many requests are open at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
}

/// What is done with each pod, in this order.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create,
    Change,
    Report,
    Delete,
}

const STEPS: [(Step, &str); 4] = [
    (Step::Create, "create"),
    (Step::Change, "patch an annotation"),
    (Step::Report, "patch pods/status"),
    (Step::Delete, "delete"),
];

/// What one turn took, step by step.
#[derive(Debug, Default, Clone)]
struct Turn {
    took: [Vec<Duration>; STEPS.len()],
    /// The API server's time of the processors, the rest included.
    busy_ms: u64,
    steps_ms: [u64; STEPS.len()],
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let work = async |node: &PretendNode| {
        let bindings = Bindings::save(cluster).await?;
        measure(cluster, settings, node, &bindings).await
    };
    // Also when it fails: without the bindings nothing is guarded.
    within_node_and(cluster, "bystanders", work, bindings::restore(cluster)).await
}

async fn measure(
    cluster: &TestCluster,
    settings: &Settings,
    node: &PretendNode,
    bindings: &Bindings,
) -> Result<Report> {
    let server = api_server::process(cluster)?;
    say("once without being counted");
    turn(settings, node, server, 0).await?;
    let mut pairs = Vec::new();
    for at in 0..settings.pairs {
        let mut pair = [None, None];
        for bound in order(at) {
            bindings.bind(bound, &node.namespace).await?;
            let took = turn(settings, node, server, at + 1).await?;
            // Nobody else has bound or unbound them meanwhile.
            ensure!(
                bindings::in_force(&node.namespace).await? == bound,
                "the bindings have changed while it was measured"
            );
            say(&format!(
                "turn {} with the policies bound ({bound}): {} ms of the API server",
                at + 1,
                took.busy_ms
            ));
            pair[usize::from(!bound)] = Some(took);
        }
        let [Some(with), Some(without)] = pair else {
            continue;
        };
        pairs.push([with, without]);
    }
    report(settings, bindings, &pairs)
}

/// In which order a pair is measured. That of two neighbours differs, so that every second time nothing has to change.
pub(crate) fn order(at: u32) -> [bool; 2] {
    let first = at.is_multiple_of(2);
    [first, !first]
}

async fn turn(
    settings: &Settings,
    node: &PretendNode,
    server: Process,
    number: u32,
) -> Result<Turn> {
    let mut turn = Turn::default();
    let whole = Clock::start(server)?;
    for (at, (step, name)) in STEPS.into_iter().enumerate() {
        let clock = Clock::start(server)?;
        let took = stream::iter(0..settings.pods)
            .map(async |pod| {
                let began = Instant::now();
                let done = perform(step, node, &format!("pod-{number}-{pod}")).await;
                done.with_context(|| format!("cannot {name}"))?;
                anyhow::Ok(began.elapsed())
            })
            .buffer_unordered(settings.clients as usize);
        turn.took[at] = took.try_collect().await?;
        turn.steps_ms[at] = clock.ms()?;
    }
    tokio::time::sleep(REST).await;
    turn.busy_ms = whole.ms()?;
    ensure!(
        turn.busy_ms > 0,
        "the process that was looked at does nothing: it is not the API server"
    );
    Ok(turn)
}

async fn perform(step: Step, node: &PretendNode, name: &str) -> Result<()> {
    let pods = node.namespace.pods();
    let params = PatchParams::default();
    match step {
        Step::Create => {
            pods.create(&PostParams::default(), &pod(node, name)?)
                .await?;
        }
        Step::Change => {
            // As a controller does. What changes labels or annotations is what the policies look at most.
            let revision = Timestamp::now().to_string();
            let change = json!({"metadata": {"annotations": {"example.com/revision": revision}}});
            pods.patch(name, &params, &Patch::Merge(change)).await?;
        }
        Step::Report => {
            let status = running(&pod(node, name)?);
            pods.patch_status(name, &params, &Patch::Strategic(status))
                .await?;
        }
        Step::Delete => {
            pods.delete(name, &DeleteParams::default().grace_period(0))
                .await?;
        }
    }
    Ok(())
}

/// A pod of the node, with labels and annotations as others have.
fn pod(node: &PretendNode, name: &str) -> Result<Pod> {
    let mut pod = Workload::new(name).pod()?;
    let some = |of: &str| -> Value {
        let all =
            (0..LABELS).map(|at| (format!("example.com/{of}-{at}"), json!(format!("v-{at}"))));
        Value::Object(all.collect())
    };
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_value(some("label"))?;
    pod.metadata.labels.get_or_insert_default().extend(labels);
    pod.metadata.annotations = Some(serde_json::from_value(some("annotation"))?);
    let spec = pod.spec.as_mut().context("a pod without a spec")?;
    spec.node_name = Some(node.name.clone());
    spec.tolerations = Some(vec![Toleration {
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    }]);
    Ok(pod)
}

fn report(settings: &Settings, bindings: &Bindings, pairs: &[[Turn; 2]]) -> Result<Report> {
    let mut report = Report::default();
    let requests = settings.pods as usize * STEPS.len();
    report.figure("bindings of Curfew's policies", bindings.count());
    report.figure(
        "turns with the policies bound, and as many without",
        format!("{} of {requests} requests", pairs.len()),
    );
    for (at, (_, name)) in STEPS.into_iter().enumerate() {
        let of = |side: usize| -> Result<(Distribution, f64)> {
            let took = pairs.iter().flat_map(|pair| pair[side].took[at].clone());
            let took = Distribution::of(took.collect()).context("nothing was measured")?;
            let busy: u64 = pairs.iter().map(|pair| pair[side].steps_ms[at]).sum();
            let each = busy as f64 / took.count() as f64;
            Ok((took, each))
        };
        let ((with, busy), (without, idle)) = (of(0)?, of(1)?);
        let figure = [50, 99].map(|rank| {
            let [with, without] = [&with, &without].map(|of| ms(of.percentile(rank)));
            format!("p{rank} {with}, without {without}")
        });
        report.figure(&format!("{name}: at the client"), figure.join("; "));
        let figure = format!(
            "{} a request, without {}",
            signed_ms(busy / 1000.0),
            signed_ms(idle / 1000.0)
        );
        report.figure(&format!("{name}: the API server's processors"), figure);
    }
    let busy = |turn: &Turn| turn.busy_ms as f64;
    let waited = |turn: &Turn| -> f64 {
        let all = turn.took.iter().flatten();
        all.map(Duration::as_secs_f64).sum()
    };
    compare(
        &mut report,
        "the API server's processors",
        &more(pairs, busy)?,
    );
    compare(
        &mut report,
        "time at the client, all requests",
        &more(pairs, waited)?,
    );
    let alone: Vec<f64> = pairs.iter().map(|[_, without]| busy(without)).collect();
    let middle = median_of(&alone).context("nothing was measured")?;
    let off = alone.iter().map(|turn| turn / middle - 1.0);
    let (least, most) = ends(off);
    report.figure(
        "how far turns without are from their own median",
        format!("{} to {}", percent(least), percent(most)),
    );
    Ok(report)
}

fn compare(report: &mut Report, name: &str, more: &[f64]) {
    let (least, most) = ends(more.iter().copied());
    let middle = median_of(more).unwrap_or(f64::NAN);
    let figure = format!(
        "{} more, the pairs {} to {}",
        percent(middle),
        percent(least),
        percent(most)
    );
    report.target(name, figure, "at most 2 % more", middle <= MORE);
}

/// How much more the first of each pair has, of one.
fn more(pairs: &[[Turn; 2]], of: impl Fn(&Turn) -> f64) -> Result<Vec<f64>> {
    let more = pairs.iter().map(|[with, without]| {
        let base = of(without);
        ensure!(base > 0.0, "nothing was measured");
        Ok(of(with) / base - 1.0)
    });
    more.collect()
}

fn ends(all: impl Iterator<Item = f64>) -> (f64, f64) {
    all.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| {
        (least.min(one), most.max(one))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_what_is_bound() {
        assert_eq!(order(0), [true, false]);
        assert_eq!(order(0)[1], order(1)[0]);
        assert_eq!(order(1)[1], order(2)[0]);
    }

    #[test]
    fn each_pair_is_compared_by_itself() {
        let turn = |busy_ms| Turn {
            busy_ms,
            ..Turn::default()
        };
        let pairs = [[turn(102), turn(100)], [turn(220), turn(200)]];
        let more = more(&pairs, |turn| turn.busy_ms as f64).unwrap();
        assert!((more[0] - 0.02).abs() < 1e-9 && (more[1] - 0.1).abs() < 1e-9);
        assert_eq!(ends(more.iter().copied()), (more[0], more[1]));
        let nothing = [[turn(1), turn(0)]];
        assert!(super::more(&nothing, |turn| turn.busy_ms as f64).is_err());
    }
}
