//! What a real exec costs with Curfew and without: its time at the clients, and the time of the processors, process by
//! process.
//!
//! The same execs go in turns to two namespaces with as many pods: in one, Curfew records them; the other is exempt. What
//! Curfew does after an exec has returned, such as the marks and the Event, is in the time of the processors, too.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_core::duration;
use curfew_e2e::{
    NODES, Namespace, TestCluster, Workload, agents::sample, disrupt, footprint::processes,
    policies::long_ttl,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::Api;
use tokio::time::sleep;

use crate::{
    api_server::Clock,
    bystanders::order,
    report::{Report, median_of, ms, signed_ms},
    say,
    tidy::{remove, tidily, unique},
    touch,
};

/// How many times as long as without Curfew the execs may take.
const TIMES: f64 = 1.25;
/// As the kernel names them, cut to 15 bytes. Those that run only for an exec, such as runc, are not among them.
const PROCESSES: [&str; 7] = [
    "kube-apiserver",
    "etcd",
    "kubelet",
    "containerd",
    "containerd-shim",
    "curfew-webhook",
    "curfew-agent",
];
const RECORDED: &str = "curfew_webhook_recorded_total{where=\"agent\"}";

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many execs each turn has, each into a pod of its own
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=250))]
    execs: u32,
    /// How many clients exec at the same time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// How many turns there are with Curfew, and as many without
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// How long to wait after each turn, until marks and Events are written
    #[arg(long, default_value = "4s", value_parser = duration::parse)]
    rest: Duration,
}

/// What the execs of one turn took.
#[derive(Debug, Default)]
struct Turn {
    took: Duration,
    busy_ms: BTreeMap<&'static str, u64>,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let [curfewed, exempt] = ["exec", "exec-exempt"].map(unique);
    let work = async {
        let curfewed = Namespace::create(cluster, &curfewed).await?;
        let exempt = Namespace::create(cluster, &exempt).await?;
        let label = ["label", "namespace", &exempt.name, "curfew.dev/exempt=true"];
        exempt.kubectl.ok(&label).await?;
        long_ttl(&curfewed).await?;
        measure(settings, [&curfewed, &exempt]).await
    };
    let clean = async {
        say("cleaning up");
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        let (one, other) = tokio::join!(
            remove(namespaces.clone(), &curfewed),
            remove(namespaces, &exempt),
        );
        one.and(other)
    };
    tidily(work, clean).await
}

async fn measure(settings: &Settings, sides: [&Namespace; 2]) -> Result<Report> {
    say(&format!("starting {} pods", settings.execs * 2));
    let pods: Vec<_> = (0..settings.execs as usize)
        .map(|at| Workload::new(&name(at)).on(NODES[at % NODES.len()]))
        .collect();
    for namespace in sides {
        namespace.run_pods(&pods).await?;
    }
    sleep(settings.rest).await;
    say("once without being counted");
    for namespace in sides {
        turn(settings, namespace).await?;
    }
    let before = recorded(&sides[0].cluster).await?;
    let mut pairs = Vec::new();
    for at in 0..settings.pairs {
        let mut pair = [None, None];
        for with in order(at) {
            let side = usize::from(!with);
            let took = turn(settings, sides[side]).await?;
            say(&format!("recorded ({with}): {}", ms(took.took)));
            pair[side] = Some(took);
        }
        if let [Some(with), Some(without)] = pair {
            pairs.push([with, without]);
        }
    }
    // That those of one side were recorded, and those of the other not, is what makes the figures mean anything.
    let recorded = recorded(&sides[0].cluster).await? - before;
    let expected = f64::from(settings.execs * settings.pairs);
    ensure!(
        recorded == expected,
        "of {expected} execs, {recorded} were recorded by agents"
    );
    report(settings, &pairs)
}

fn name(at: usize) -> String {
    format!("pod-{at}")
}

async fn turn(settings: &Settings, namespace: &Namespace) -> Result<Turn> {
    let mut clocks = Vec::new();
    for name in PROCESSES {
        for process in processes(name)? {
            clocks.push((name, Clock::start(process)?));
        }
    }
    let pods = namespace.pods();
    let began = Instant::now();
    stream::iter(0..settings.execs as usize)
        .map(async |at| touch::exec(&pods, &name(at)).await)
        .buffer_unordered(settings.clients as usize)
        .try_collect::<()>()
        .await?;
    let took = began.elapsed();
    sleep(settings.rest).await;
    let mut turn = Turn {
        took,
        ..Turn::default()
    };
    for (name, clock) in clocks {
        let ms = clock.ms().with_context(|| format!("a {name} has ended"))?;
        *turn.busy_ms.entry(name).or_default() += ms;
    }
    ensure!(
        turn.busy_ms.get(PROCESSES[0]).is_some_and(|ms| *ms > 0),
        "the API server does not run on this machine"
    );
    Ok(turn)
}

/// How many interactions the agents have recorded.
async fn recorded(cluster: &TestCluster) -> Result<f64> {
    let mut recorded = 0.0;
    for pod in cluster.pods_of("webhook").await? {
        let metrics = disrupt::metrics(&pod).await?;
        recorded += sample(&metrics, RECORDED).context("no count of what was recorded")?;
    }
    Ok(recorded)
}

fn report(settings: &Settings, pairs: &[[Turn; 2]]) -> Result<Report> {
    let mut report = Report::default();
    let turns = format!(
        "{} pairs of {} execs by {} clients",
        pairs.len(),
        settings.execs,
        settings.clients
    );
    report.figure("turns", turns);
    let times: Vec<f64> = pairs
        .iter()
        .map(|[with, without]| with.took.as_secs_f64() / without.took.as_secs_f64())
        .collect();
    let middle = median_of(&times).context("nothing was measured")?;
    let all: Vec<_> = pairs
        .iter()
        .map(|[with, without]| format!("{} and {}", ms(with.took), ms(without.took)))
        .collect();
    let figure = format!("{middle:.2} times as long ({})", all.join(", "));
    report.target(
        "execs with Curfew and without",
        figure,
        "at most 1.25 times as long",
        middle <= TIMES,
    );
    let execs = f64::from(settings.execs) * pairs.len() as f64;
    let mut sums = [0.0, 0.0];
    for name in PROCESSES {
        let each = [0, 1].map(|side| {
            let busy = pairs.iter().map(|pair| pair[side].busy_ms.get(name));
            let busy: u64 = busy.flatten().sum();
            busy as f64 / 1000.0 / execs
        });
        for (sum, each) in sums.iter_mut().zip(each) {
            *sum += each;
        }
        tell(&mut report, &format!("{name}, for each"), each);
    }
    tell(&mut report, "all of these, for each", sums);
    Ok(report)
}

fn tell(report: &mut Report, name: &str, [with, without]: [f64; 2]) {
    let figure = format!(
        "{}, without Curfew {}: {} more",
        signed_ms(with),
        signed_ms(without),
        signed_ms(with - without)
    );
    report.figure(name, figure);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_takes_too_long_misses_the_target() {
        let settings = Settings {
            execs: 10,
            clients: 2,
            pairs: 1,
            rest: Duration::ZERO,
        };
        let turn = |ms| Turn {
            took: Duration::from_millis(ms),
            busy_ms: BTreeMap::from([("etcd", ms)]),
        };
        assert!(
            report(&settings, &[[turn(120), turn(100)]])
                .unwrap()
                .holds()
        );
        let missed = report(&settings, &[[turn(130), turn(100)]]).unwrap();
        assert!(!missed.holds());
        let text = missed.to_string();
        assert!(
            text.contains("13.0 ms, without Curfew 10.0 ms: 3.0 ms more"),
            "{text}"
        );
        assert!(report(&settings, &[]).is_err());
    }
}
