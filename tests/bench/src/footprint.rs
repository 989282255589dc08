//! What each part of Curfew needs: memory, time of the processors, threads, descriptors, disk, its image and the time
//! that it takes to start.
//!
//! An agent of its own on a node without a kubelet is looked at without a record, with each of several numbers of
//! pending pods, after a restart with them, and while it takes many more interactions: then nothing may grow. The parts that the
//! cluster runs are looked at as they are. The plugin has a [measurement](crate::plugin) of its own.

mod installed;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_core::{Command, Notice, PodId, duration};
use curfew_e2e::{
    TestCluster,
    agents::{sample, total},
    footprint::Process,
};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::{
    agent::{Agent, Setup},
    node::{PretendNode, within_node},
    report::{Report, mib, ms},
    restart::notices,
    say,
};

/// With so many pending pods, an agent is to need no more than this.
const PENDING: usize = 250;
const PENDING_KIB: u64 = 6 * 1024;
/// How much more anonymous memory is no growth: an allocator keeps some room.
const ROOM_KIB: u64 = 1024;
/// The interactions are told in so many parts, and the first and the last are compared.
const PARTS: usize = 10;
/// How long the agent may take to notice that a client is gone.
const CLOSED: Duration = Duration::from_secs(1);
/// Long after the measurement.
const TTL: Duration = Duration::from_secs(24 * 3600);
const INTERACTIONS: &str = "curfew_agent_interactions_total";

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods are pending, in ascending order; one measurement for each number
    #[arg(long, value_delimiter = ',', default_values_t = [PENDING])]
    pods: Vec<usize>,
    /// How many more interactions one agent then gets
    #[arg(long, default_value_t = 100_000)]
    interactions: usize,
    /// How long to wait until an agent is idle
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    rest: Duration,
    /// For how long to look what an idle process takes of the processors
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    watch: Duration,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    ensure!(
        settings.pods.is_sorted() && settings.pods.first().is_some_and(|least| *least > 0),
        "--pods must be numbers in ascending order"
    );
    within_node(cluster, "footprint", async |node| {
        let mut report = Report::default();
        of_an_agent(&mut report, cluster, settings, node).await?;
        installed::report(&mut report, cluster, settings.watch).await?;
        Ok(report)
    })
    .await
}

/// What a process needs at a moment, and what it takes of the processors while nothing happens.
struct Need {
    anonymous_kib: u64,
    text: String,
}

impl Need {
    async fn of(process: Process, watch: Duration) -> Result<Self> {
        let before = process.busy_ms()?;
        sleep(watch).await;
        let busy = process.busy_ms()?.saturating_sub(before);
        let anonymous_kib = process.anonymous_kib()?;
        let text = format!(
            "{} anonymous, {} resident (at most {}), {} threads, {} descriptors, {busy} ms busy in {}",
            mib(anonymous_kib),
            mib(process.resident_kib()?),
            mib(process.peak_kib()?),
            process.threads()?,
            process.descriptors()?,
            duration::format(watch),
        );
        Ok(Self {
            anonymous_kib,
            text,
        })
    }
}

async fn of_an_agent(
    report: &mut Report,
    cluster: &TestCluster,
    settings: &Settings,
    node: &PretendNode,
) -> Result<()> {
    let setup = Setup::new(cluster, node).await?;
    let mut agent = setup.start().await?;
    sleep(settings.rest).await;
    let name = |what: &str| format!("an agent, {what}");
    report.figure(&name("started without a record"), ms(agent.ready));
    let need = Need::of(agent.process()?, settings.watch).await?;
    report.figure(&name("without a record"), need.text);

    let mut pods: Vec<PodId> = Vec::new();
    for count in &settings.pods {
        say(&format!("{count} pods pending"));
        let new = node.make_more_pods(pods.len()..*count).await?;
        sleep(settings.rest).await;
        agent.tell(notices(node, &new, now()?, TTL)).await?;
        pods.extend(new);
        node.marked(*count, patience(*count)).await?;
        sleep(settings.rest).await;
        has(&agent, *count).await?;
        let name = |what: &str| format!("an agent, {count} pending{what}");
        let need = Need::of(agent.process()?, settings.watch).await?;
        match *count {
            PENDING => report.target(
                &name(""),
                &need.text,
                "at most 6 MiB anonymous",
                need.anonymous_kib <= PENDING_KIB,
            ),
            _ => report.figure(&name(""), &need.text),
        }
        report.figure(&name(": its store"), mib(size_kib(&setup.store())?));
        agent.stop().await?;
        agent = setup.start().await?;
        let ready = agent.ready;
        has(&agent, *count).await?;
        sleep(settings.rest).await;
        let need = Need::of(agent.process()?, settings.watch).await?;
        report.figure(&name(": started again"), ms(ready));
        report.figure(&name(", after a restart"), need.text);
    }
    if settings.interactions > 0 {
        growth(report, settings, node, &pods, &agent, &setup).await?;
    }
    agent.stop().await?;
    Ok(())
}

/// Tells the agent of many interactions with the same pods.
async fn growth(
    report: &mut Report,
    settings: &Settings,
    node: &PretendNode,
    pods: &[PodId],
    agent: &Agent<'_>,
    setup: &Setup,
) -> Result<()> {
    let process = agent.process()?;
    let taken = async || anyhow::Ok(total(&agent.metrics().await?, INTERACTIONS));
    let before = taken().await?;
    let busy = process.busy_ms()?;
    let mut seen = Vec::new();
    let mut took = Duration::ZERO;
    let mut told = 0;
    for part in 1..=PARTS {
        let until = settings.interactions * part / PARTS;
        let notices = many(node, pods, told..until)?;
        let began = Instant::now();
        agent.tell(notices).await?;
        took += began.elapsed();
        // The connections on which they were told are closed by then.
        sleep(CLOSED).await;
        told = until;
        let now = (
            process.anonymous_kib()?,
            process.threads()?,
            process.descriptors()?,
            size_kib(&setup.store())?,
        );
        say(&format!("{told} interactions: {}", mib(now.0)));
        seen.push(now);
    }
    let counted = taken().await? - before;
    ensure!(
        counted == told as f64,
        "of {told} interactions, the agent has counted {counted}"
    );
    sleep(settings.rest).await;
    let busy = process.busy_ms()?.saturating_sub(busy);
    has(agent, pods.len()).await?;
    let (first, last) = (seen.first(), seen.last());
    let (first, last) = first.zip(last).context("nothing was measured")?;
    let name = |what: &str| format!("an agent, {told} interactions: {what}");
    report.figure(
        &name("taken in"),
        format!(
            "{:.1} s, {:.0} a second; {:.2} ms of the processors each",
            took.as_secs_f64(),
            told as f64 / took.as_secs_f64(),
            busy as f64 / told as f64
        ),
    );
    let part = told / PARTS;
    report.target(
        &name("anonymous memory"),
        format!("{}, after {part} {}", mib(last.0), mib(first.0)),
        format!("at most {} more", mib(ROOM_KIB)),
        last.0 <= first.0 + ROOM_KIB,
    );
    for (what, first, last) in [
        ("threads", first.1, last.1),
        ("descriptors", first.2, last.2),
    ] {
        let figure = format!("{last}, after {part} {first}");
        // A connection may just have been opened.
        report.target(&name(what), figure, "at most 2 more", last <= first + 2);
    }
    let figure = format!("{}, after {part} {}", mib(last.3), mib(first.3));
    report.figure(&name("its store"), figure);
    Ok(())
}

/// The interactions of these numbers, each with the next of the pods, and no two alike.
fn many(
    node: &PretendNode,
    pods: &[PodId],
    numbers: std::ops::Range<usize>,
) -> Result<Vec<Notice>> {
    ensure!(!pods.is_empty(), "there are no pods");
    let of: Vec<_> = numbers
        .clone()
        .map(|at| pods[at % pods.len()].clone())
        .collect();
    let mut notices = notices(node, &of, now()?, TTL);
    for (notice, at) in notices.iter_mut().zip(numbers) {
        let interaction = &mut notice.known.interaction;
        interaction.request = format!("bench-{at}");
        interaction.command =
            Command::new(["sh", "-c", &format!("echo debug={at} >>/etc/app.conf")]);
    }
    Ok(notices)
}

fn now() -> Result<Timestamp> {
    Ok(Timestamp::from_second(Timestamp::now().as_second())?)
}

/// How long marking so many pods may take.
fn patience(pods: usize) -> Duration {
    Duration::from_secs(120 + pods as u64 / 20)
}

/// Whether the agent knows as much as it should.
async fn has(agent: &Agent<'_>, records: usize) -> Result<()> {
    let metrics = agent.metrics().await?;
    let has = sample(&metrics, "curfew_agent_records").context("no count of records")?;
    ensure!(
        has == records as f64,
        "the agent has {has} records instead of {records}"
    );
    Ok(())
}

/// What lies below this path takes of the disk.
fn size_kib(path: &Path) -> Result<u64> {
    fn bytes(path: &Path) -> Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            sum += match metadata.is_dir() {
                true => bytes(&entry.path())?,
                false => metadata.len(),
            };
        }
        Ok(sum)
    }
    let bytes = bytes(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_count_with_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/a"), vec![0; 1025]).unwrap();
        fs::write(folder.path().join("b"), vec![0; 1023]).unwrap();
        assert_eq!(size_kib(folder.path()).unwrap(), 2);
        assert!(size_kib(&folder.path().join("none")).is_err());
    }
}
