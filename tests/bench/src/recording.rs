//! What recording adds to an admission, next to a webhook that answers at once.
//!
//! Execs without an upgrade header pass admission and then stop with 400, so that nothing but the way to
//! there is measured. They go in turn to two namespaces alike: in one, Curfew records them; the other is
//! exempt, and the [other webhook](crate::instant) admits them. Both are asked at random moments of the
//! same slots of time, so that whatever else goes on (marks and Events of the recorded ones included)
//! meets both alike.

use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, ensure};
use curfew_core::duration;
use curfew_e2e::{
    Namespace, TestCluster, Workload,
    agents::{sample, total},
    disrupt, eventually,
    figures::Distribution,
    knock::knock,
};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, apps::v1::StatefulSet,
    core::v1::Namespace as Object,
};
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    instant::{self, Instant},
    policies, profiles, quiet,
    report::{Report, ms, signed_ms},
    say,
    tidy::{remove, tidily, unique},
};

/// What policies and profiles that do not concern an interaction may add to the median of its admission.
const POLICIES: f64 = 0.0005;
const PROFILES: f64 = 0.001;
/// The StatefulSet of the pods.
const WORKLOAD: &str = "pod";
const WORKLOAD_PROFILE: &str = "statefulset.pod";
const WEBHOOK_KIB: u64 = 24 * 1024;
const MEDIAN: f64 = 0.008;
const P99: f64 = 0.040;
/// The name by which the API server measures Curfew.
const CURFEW: &str = "interaction.curfew.dev";
/// The pods are to stay for as long as they are needed.
const TTL: &str = "1h0m0s";
const TTL_VARIABLE: &str = "CURFEW_DEFAULT_TTL";
const RECORDED: &str = "curfew_webhook_recorded_total{where=\"agent\"}";
const DURATION: &str = "apiserver_admission_webhook_admission_duration_seconds";
const LIMIT: Duration = Duration::from_secs(10);
/// The first requests open connections; they are made and not counted.
const WARM_UP: Duration = Duration::from_secs(3);

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many execs a second go to Curfew, and as many to the other webhook
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many pods take turns, in each of the two namespaces
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
    /// Measure also with so many policies of all kinds of conditions, of which none applies
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    policies: u16,
    /// Measure also with so many profiles of 5,000 learned criteria, while a policy asks what is usual
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    profiles: u16,
    /// How often to measure with policies and profiles; before and after each time, it is measured without them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
}

impl Settings {
    fn crowded(&self) -> bool {
        self.policies > 0 || self.profiles > 0
    }

    /// How often policies and profiles are made.
    fn turns(&self) -> u8 {
        if self.crowded() { self.rounds } else { 0 }
    }

    /// How much more the median may be with the policies and profiles, in seconds.
    fn allowed(&self) -> f64 {
        let of = |count, seconds| if count > 0 { seconds } else { 0.0 };
        of(self.policies, POLICIES) + of(self.profiles, PROFILES)
    }
}

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Curfew,
    AtOnce,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let [curfewed, exempt] = ["recorded", "exempt"].map(unique);
    let ttl = disrupt::time_to_live(cluster).await?;
    let ttl = duration::format(ttl.unsigned_abs());
    let work = async {
        let curfewed = Namespace::create(cluster, &curfewed).await?;
        let exempt = Namespace::create(cluster, &exempt).await?;
        compare(cluster, settings, &curfewed, &exempt).await
    };
    let clean = async {
        say("cleaning up");
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        let (configuration, one, other, ttl) = tokio::join!(
            remove(configurations, &exempt),
            remove(namespaces.clone(), &curfewed),
            remove(namespaces, &exempt),
            disrupt::set_webhook_env(cluster, TTL_VARIABLE, Some(&ttl)),
        );
        configuration.and(one).and(other).and(ttl)
    };
    tidily(work, clean).await
}

async fn compare(
    cluster: &TestCluster,
    settings: &Settings,
    curfewed: &Namespace,
    exempt: &Namespace,
) -> Result<Report> {
    let label = ["label", "namespace", &exempt.name, "curfew.dev/exempt=true"];
    exempt.kubectl.ok(&label).await?;
    say("starting pods, and giving them time to live");
    for namespace in [curfewed, exempt] {
        start(namespace, settings.pods).await?;
    }
    disrupt::set_webhook_env(cluster, TTL_VARIABLE, Some(TTL)).await?;
    let at_once = Instant::start().await?;
    at_once
        .register(cluster, &exempt.name, &exempt.name)
        .await?;
    eventually(
        LIMIT,
        "the webhook that answers at once is asked",
        async || {
            knock(&cluster.client, &exempt.name, "pod-0", "probe").await?;
            Ok((at_once.answered() > 0).then_some(()))
        },
    )
    .await?;

    let measured = async || measured(cluster, settings, curfewed, exempt, &at_once).await;
    let mut alone = measured().await?;
    let mut crowded = Measured::default();
    let mut memory = profiles::memory(curfewed).await?;
    // In turns, because what the machine does besides changes while it is measured.
    for _ in 0..settings.turns() {
        say("making policies and profiles");
        policies::make(curfewed, settings.policies).await?;
        profiles::make(curfewed, WORKLOAD_PROFILE, settings.profiles).await?;
        crowded.extend(measured().await?);
        memory = memory.max(profiles::memory(curfewed).await?);
        say("removing them");
        policies::remove(curfewed).await?;
        profiles::remove(curfewed, settings.profiles).await?;
        alone.extend(measured().await?);
    }

    let mut report = report(&alone)?;
    if settings.crowded() {
        crowd(&mut report, settings, &alone, &crowded)?;
    }
    let (anonymous, peak) = memory;
    let figure = format!("{anonymous} KiB, at most {peak} KiB resident");
    report.target(
        "anonymous memory of a webhook",
        figure,
        "at most 24 MiB",
        anonymous <= WEBHOOK_KIB,
    );
    Ok(report)
}

/// What was measured in one period or several.
#[derive(Debug, Default)]
struct Measured {
    recorded: Vec<Duration>,
    at_once: Vec<Duration>,
    /// What the API server has waited for the two webhooks.
    curfew: Spent,
    other: Spent,
}

impl Measured {
    fn extend(&mut self, more: Self) {
        self.recorded.extend(more.recorded);
        self.at_once.extend(more.at_once);
        self.curfew = self.curfew.and(more.curfew);
        self.other = self.other.and(more.other);
    }

    fn distributions(&self) -> Result<[Distribution; 2]> {
        let of = |durations: &Vec<Duration>| Distribution::of(durations.clone());
        let both = of(&self.recorded).zip(of(&self.at_once));
        let (recorded, at_once) = both.context("nothing was measured")?;
        Ok([recorded, at_once])
    }
}

/// How much more the first took at this percentile than the second, in seconds.
fn more([with, without]: &[Distribution; 2], percent: usize) -> f64 {
    let seconds = |of: &Distribution| of.percentile(percent).as_secs_f64();
    seconds(with) - seconds(without)
}

/// Measures for as long as the settings say.
async fn measured(
    cluster: &TestCluster,
    settings: &Settings,
    curfewed: &Namespace,
    exempt: &Namespace,
    at_once: &Instant,
) -> Result<Measured> {
    quiet::settled(cluster).await?;
    let before = Counts::read(cluster, at_once).await?;
    say(&format!(
        "for {} s, {} execs a second to each of two webhooks",
        settings.seconds, settings.rate
    ));
    let mut measured = measure(cluster, settings, curfewed, exempt).await?;
    let after = Counts::read(cluster, at_once).await?;
    // That all of them were recorded, and none of the others, is what makes the figures mean anything.
    let sent = sent(settings);
    let seen = (
        after.recorded - before.recorded,
        after.answered - before.answered,
    );
    ensure!(
        seen == (sent, sent),
        "of {sent} execs each, Curfew has recorded {} and the other webhook was asked {}",
        seen.0,
        seen.1
    );
    measured.curfew = after.curfew.since(before.curfew);
    measured.other = after.other.since(before.other);
    Ok(measured)
}

/// Starts pods whose names are `pod-0` and so on, of one workload.
async fn start(namespace: &Namespace, pods: u32) -> Result<()> {
    let more = json!({
        "replicas": pods, "serviceName": WORKLOAD, "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": WORKLOAD}},
    });
    let object: StatefulSet = Workload::new(WORKLOAD).spread().controlled_by(more)?;
    let sets: Api<StatefulSet> = Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    sets.create(&PostParams::default(), &object).await?;
    namespace.ready_of(WORKLOAD, pods as usize).await?;
    Ok(())
}

fn report(measured: &Measured) -> Result<Report> {
    let mut report = Report::default();
    let both = measured.distributions()?;
    report.figure("execs to each webhook", both[0].count());
    for percent in [50, 90, 99, 100] {
        let [with, without] = both.each_ref().map(|of| of.percentile(percent));
        let more = more(&both, percent);
        let name = match percent {
            100 => "max".to_owned(),
            _ => format!("p{percent}"),
        };
        let figure = format!(
            "{}, at once {}: {} more",
            ms(with),
            ms(without),
            signed_ms(more)
        );
        match percent {
            50 => report.target(&name, figure, "at most 8 ms more", more <= MEDIAN),
            99 => report.target(&name, figure, "at most 40 ms more", more <= P99),
            _ => report.figure(&name, figure),
        }
    }
    let (curfew, other) = (measured.curfew.mean()?, measured.other.mean()?);
    let figure = format!("{}, at once {}", signed_ms(curfew), signed_ms(other));
    report.figure("the API server's mean of the webhook", figure);
    Ok(report)
}

/// Compares what was measured with policies and profiles with what was measured without them.
fn crowd(
    report: &mut Report,
    settings: &Settings,
    alone: &Measured,
    crowded: &Measured,
) -> Result<()> {
    let (policies, profiles) = (settings.policies, settings.profiles);
    let of = format!("with {policies} policies and {profiles} profiles");
    report.figure(&format!("execs {of}"), crowded.recorded.len());
    let median = |of: &Measured| Ok::<_, anyhow::Error>(more(&of.distributions()?, 50));
    let (with, without) = (median(crowded)?, median(alone)?);
    let allowed = settings.allowed();
    let figure = format!(
        "{} more than at once, without them {}",
        signed_ms(with),
        signed_ms(without)
    );
    let target = format!("at most {} more", signed_ms(allowed));
    report.target(
        &format!("p50 {of}"),
        figure,
        target,
        with - without <= allowed,
    );
    let (with, without) = (crowded.curfew.mean()?, alone.curfew.mean()?);
    let figure = format!("{}, without them {}", signed_ms(with), signed_ms(without));
    report.figure(&format!("the API server's mean {of}"), figure);
    Ok(())
}

/// How many execs go to each of the two.
fn sent(settings: &Settings) -> u64 {
    u64::from(settings.rate) * (WARM_UP.as_secs() + u64::from(settings.seconds))
}

/// Asks at the given rate and returns how long the answers took.
async fn measure(
    cluster: &TestCluster,
    settings: &Settings,
    curfewed: &Namespace,
    exempt: &Namespace,
) -> Result<Measured> {
    let slot = Duration::from_secs(1) / settings.rate;
    let start = Clock::now();
    let mut asked = JoinSet::new();
    for at in 0..sent(settings) {
        let begin = start + slot * u32::try_from(at)?;
        for (offset, side) in moments(slot) {
            sleep_until((begin + offset).into()).await;
            let namespace = match side {
                Side::Curfew => curfewed.name.clone(),
                Side::AtOnce => exempt.name.clone(),
            };
            // Each command is another, because the same within two seconds would be one interaction.
            let pod = format!("pod-{}", at % u64::from(settings.pods));
            let client = cluster.client.clone();
            let counts = slot * u32::try_from(at)? >= WARM_UP;
            asked.spawn(async move {
                let took = knock(&client, &namespace, &pod, &at.to_string()).await?;
                anyhow::Ok((side, counts, took))
            });
        }
    }
    let mut measured = Measured::default();
    while let Some(answered) = asked.join_next().await {
        match answered?? {
            (_, false, _) => {}
            (Side::Curfew, true, took) => measured.recorded.push(took),
            (Side::AtOnce, true, took) => measured.at_once.push(took),
        }
    }
    Ok(measured)
}

/// When, within a slot of time, each of the two is asked.
fn moments(slot: Duration) -> [(Duration, Side); 2] {
    let mut moments =
        [Side::Curfew, Side::AtOnce].map(|side| (slot.mul_f64(fastrand::f64()), side));
    moments.sort_unstable();
    moments
}

/// How often the API server has asked a webhook, and for how long it has waited.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Spent {
    seconds: f64,
    requests: f64,
}

impl Spent {
    fn read(metrics: &str, webhook: &str) -> Self {
        let label = format!("name=\"{webhook}\"");
        let of: Vec<_> = metrics
            .lines()
            .filter(|line| line.contains(&label))
            .collect();
        let of = of.join("\n");
        Self {
            seconds: total(&of, &format!("{DURATION}_sum")),
            requests: total(&of, &format!("{DURATION}_count")),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            requests: self.requests - before.requests,
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            seconds: self.seconds + more.seconds,
            requests: self.requests + more.requests,
        }
    }

    /// Seconds a request.
    fn mean(self) -> Result<f64> {
        ensure!(self.requests > 0.0, "the API server has measured nothing");
        Ok(self.seconds / self.requests)
    }
}

/// What all concerned have counted so far.
#[derive(Debug)]
struct Counts {
    recorded: u64,
    answered: u64,
    curfew: Spent,
    other: Spent,
}

impl Counts {
    async fn read(cluster: &TestCluster, at_once: &Instant) -> Result<Self> {
        let mut recorded = 0;
        for pod in cluster.pods_of("webhook").await? {
            let metrics = disrupt::metrics(&pod).await?;
            recorded += sample(&metrics, RECORDED).context("no count of what was recorded")? as u64;
        }
        let metrics = quiet::metrics(cluster).await?;
        Ok(Self {
            recorded,
            answered: at_once.answered(),
            curfew: Spent::read(&metrics, CURFEW),
            other: Spent::read(&metrics, instant::NAME),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_asked_once_in_each_slot() {
        let slot = Duration::from_millis(50);
        let mut first = [0, 0];
        for _ in 0..200 {
            let [(early, one), (late, other)] = moments(slot);
            assert!(early <= late && late < slot);
            assert_ne!(one, other);
            first[one as usize] += 1;
        }
        assert!(first[0] > 50 && first[1] > 50, "{first:?}");
    }

    #[test]
    fn the_mean_is_of_one_webhook() {
        let metrics = |sum: f64, count: u32| {
            format!(
                "{DURATION}_sum{{name=\"{CURFEW}\",operation=\"CONNECT\"}} {sum}\n\
                 {DURATION}_count{{name=\"{CURFEW}\",operation=\"CONNECT\"}} {count}\n\
                 {DURATION}_sum{{name=\"else\",operation=\"CONNECT\"}} {count}\n"
            )
        };
        let before = Spent::read(&metrics(1.0, 10), CURFEW);
        let after = Spent::read(&metrics(1.5, 60), CURFEW);
        assert!((after.since(before).mean().unwrap() - 0.01).abs() < 1e-9);
        assert!(after.since(after).mean().is_err());
    }
}
