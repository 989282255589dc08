//! What recording adds to an admission, next to a webhook that answers at once.
//!
//! Execs without an upgrade header pass admission and then stop with 400, so that nothing but the way to
//! there is measured. They go in turn to two namespaces alike: in one, Curfew records them; the other is
//! exempt, and the [other webhook](crate::instant) admits them. Both are asked at random moments of the
//! same slots of time, so that whatever else goes on (marks and Events of the recorded ones included)
//! meets both alike. Other rates and [bursts](pace::burst) follow, and [counts] tells where the time goes.

mod counts;
mod pace;

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result};
use curfew_core::duration;
use curfew_e2e::{
    Namespace, TestCluster, Workload, eventually, figures::Distribution, knock::knock,
    policies::long_ttl,
};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, apps::v1::StatefulSet,
    core::v1::Namespace as Object,
};
use kube::{Api, api::PostParams};
use serde_json::json;

use self::{
    counts::{Counts, Steps},
    pace::{Answers, Pods},
};
use crate::{
    instant::Instant,
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
const MEDIAN: f64 = 0.006;
const P99: f64 = 0.030;
const LIMIT: Duration = Duration::from_secs(10);
/// How often each burst is repeated.
const BURSTS: u32 = 3;

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many execs a second go to Curfew, and as many to the other webhook
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// For how many seconds
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// At which other rates to measure, without targets; `--rates=` measures none
    #[arg(long, default_value = "1,10,50,200")]
    rates: Numbers,
    /// For how many seconds at each of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    each: u32,
    /// How many execs at the same moment to measure; `--bursts=` measures none
    #[arg(long, default_value = "50,200")]
    bursts: Numbers,
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
    /// For how long the API server has to be quiet before it is measured
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    rest: Duration,
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

/// Numbers between commas, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbers(Vec<u32>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(',').filter(|number| !number.is_empty());
        let numbers = numbers.map(|number| match number.trim().parse() {
            Ok(number @ 1..=500) => Ok(number),
            _ => Err(format!("{number:?} is not a number from 1 to 500")),
        });
        Ok(Self(numbers.collect::<Result<_, _>>()?))
    }
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let [curfewed, exempt] = ["recorded", "exempt"].map(unique);
    let work = async {
        let curfewed = Namespace::create(cluster, &curfewed).await?;
        let exempt = Namespace::create(cluster, &exempt).await?;
        compare(cluster, settings, &curfewed, &exempt).await
    };
    let clean = async {
        say("cleaning up");
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        let (configuration, one, other) = tokio::join!(
            remove(configurations, &exempt),
            remove(namespaces.clone(), &curfewed),
            remove(namespaces, &exempt),
        );
        configuration.and(one).and(other)
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
    long_ttl(curfewed).await?;
    say("starting pods");
    for namespace in [curfewed, exempt] {
        start(namespace, settings.pods).await?;
    }
    let at_once = Instant::start(cluster).await?;
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

    let pods = Pods {
        client: &cluster.client,
        curfewed: &curfewed.name,
        exempt: &exempt.name,
        count: settings.pods,
    };
    let bench = Bench {
        cluster,
        rest: settings.rest,
        pods,
        at_once: &at_once,
    };
    let measured = async || bench.at_rate(settings.rate, settings.seconds).await;
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

    let mut report = Report::default();
    alone.report(
        &mut report,
        |what| format!("{} a second: {what}", settings.rate),
        true,
    )?;
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
    for rate in &settings.rates.0 {
        let measured = bench.at_rate(*rate, settings.each).await;
        let name = format!("{rate} a second");
        tell(&mut report, &name, measured);
    }
    for size in &settings.bursts.0 {
        let measured = bench.in_bursts(*size).await;
        let name = format!("burst of {size}");
        tell(&mut report, &name, measured);
    }
    Ok(report)
}

/// Tells what was measured, or why it was not: the machine may be too small for what has no target.
fn tell(report: &mut Report, name: &str, measured: Result<Measured>) {
    let told = measured
        .and_then(|measured| measured.report(report, |what| format!("{name}: {what}"), false));
    if let Err(error) = told {
        report.figure(name, format!("could not be measured: {error:#}"));
    }
}

/// Where it is measured.
struct Bench<'a> {
    cluster: &'a TestCluster,
    /// For how long the API server has to be quiet before.
    rest: Duration,
    pods: Pods<'a>,
    at_once: &'a Instant,
}

impl Bench<'_> {
    /// For so many seconds, so many execs a second to each of the two.
    async fn at_rate(&self, rate: u32, seconds: u32) -> Result<Measured> {
        quiet::settled(self.cluster, self.rest).await?;
        say(&format!(
            "for {seconds} s, {rate} execs a second to each of two webhooks"
        ));
        let before = Counts::read(self.cluster, self.at_once).await?;
        let answers = pace::steadily(&self.pods, rate, seconds).await?;
        self.measured(&before, answers, pace::sent(rate, seconds))
            .await
    }

    /// So many execs at the same moment, to one and then to the other.
    async fn in_bursts(&self, size: u32) -> Result<Measured> {
        quiet::settled(self.cluster, self.rest).await?;
        say(&format!("{size} execs at once to each of two webhooks"));
        let before = Counts::read(self.cluster, self.at_once).await?;
        let answers = pace::burst(&self.pods, size, BURSTS).await?;
        self.measured(&before, answers, size * BURSTS).await
    }

    async fn measured(&self, before: &Counts, answers: Answers, sent: u32) -> Result<Measured> {
        let after = Counts::read(self.cluster, self.at_once).await?;
        // That all of them were recorded, and none of the others, is what makes the figures mean anything.
        let steps = after.since(before, sent.into(), self.pods.curfewed)?;
        Ok(Measured { answers, steps })
    }
}

/// What was measured in one period or several.
#[derive(Debug, Default)]
struct Measured {
    answers: Answers,
    steps: Steps,
}

impl Measured {
    fn extend(&mut self, more: Self) {
        self.answers.recorded.extend(more.answers.recorded);
        self.answers.at_once.extend(more.answers.at_once);
        self.steps = self.steps.and(more.steps);
    }

    fn distributions(&self) -> Result<[Distribution; 2]> {
        let of = |durations: &Vec<Duration>| Distribution::of(durations.clone());
        let both = of(&self.answers.recorded).zip(of(&self.answers.at_once));
        let (recorded, at_once) = both.context("nothing was measured")?;
        Ok([recorded, at_once])
    }

    /// Tells all of it, and compares it with the targets where it has some.
    fn report(
        &self,
        report: &mut Report,
        name: impl Fn(&str) -> String,
        targets: bool,
    ) -> Result<()> {
        self.percentiles(report, &name, targets)?;
        self.steps.report(report, &name)
    }

    fn percentiles(
        &self,
        report: &mut Report,
        name: impl Fn(&str) -> String,
        targets: bool,
    ) -> Result<()> {
        let both = self.distributions()?;
        report.figure(&name("execs to each webhook"), both[0].count());
        for percent in [50, 90, 99, 100] {
            let [with, without] = both.each_ref().map(|of| of.percentile(percent));
            let more = more(&both, percent);
            let what = match percent {
                100 => "max".to_owned(),
                _ => format!("p{percent}"),
            };
            let figure = format!(
                "{}, at once {}: {} more",
                ms(with),
                ms(without),
                signed_ms(more)
            );
            let target = match percent {
                50 => Some(MEDIAN),
                99 => Some(P99),
                _ => None,
            };
            match target.filter(|_| targets) {
                Some(most) => {
                    let text = format!("at most {} more", signed_ms(most));
                    report.target(&name(&what), figure, text, more <= most);
                }
                None => report.figure(&name(&what), figure),
            }
        }
        Ok(())
    }
}

/// How much more the first took at this percentile than the second, in seconds.
fn more([with, without]: &[Distribution; 2], percent: usize) -> f64 {
    let seconds = |of: &Distribution| of.percentile(percent).as_secs_f64();
    seconds(with) - seconds(without)
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

/// Compares what was measured with policies and profiles with what was measured without them.
fn crowd(
    report: &mut Report,
    settings: &Settings,
    alone: &Measured,
    crowded: &Measured,
) -> Result<()> {
    let (policies, profiles) = (settings.policies, settings.profiles);
    let of = format!("with {policies} policies and {profiles} profiles");
    report.figure(&format!("execs {of}"), crowded.answers.recorded.len());
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
    let (with, without) = (crowded.steps.curfew.mean()?, alone.steps.curfew.mean()?);
    let figure = format!("{}, without them {}", signed_ms(with), signed_ms(without));
    report.figure(&format!("the API server's mean {of}"), figure);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_between_commas() {
        assert_eq!("1,10, 50".parse(), Ok(Numbers(vec![1, 10, 50])));
        assert_eq!("".parse(), Ok(Numbers(Vec::new())));
        for wrong in ["0", "501", "1,x"] {
            assert!(wrong.parse::<Numbers>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_could_not_be_measured_is_told() {
        let mut report = Report::default();
        let failed = Err(anyhow::anyhow!("too fast"));
        tell(&mut report, "200 a second", failed);
        assert_eq!(
            report.to_string(),
            "  200 a second  could not be measured: too fast\n"
        );
    }
}
