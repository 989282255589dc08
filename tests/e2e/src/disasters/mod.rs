//! The harness for `make disasters`. It runs one disaster after the other and checks after each that no record is
//! lost, that deadlines are kept, that policies are in force, and that Events and metrics report what happened.
//!
//! A [`Scenario`] describes a disaster. The [`scene`] contains the pods. The [`senses`] observe metrics, logs and
//! the audit log during the disaster. The [verdict](facts::judge) is computed from the [`facts`]. In the first
//! scenario nothing happens: it shows that the checks pass without a disaster.

pub mod facts;
pub mod scenarios;
pub mod scene;
pub mod senses;
pub mod tools;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{FutureExt, future::LocalBoxFuture};
use tokio::time::timeout;

use crate::{Namespace, TestCluster, disrupt, eventually};

use facts::{Violation, judge, latest, lines_a_minute};
use scene::Scene;
use senses::{Senses, Sign};

/// How long the cluster may take to be whole again.
const HEALED: Duration = Duration::from_secs(300);
/// When a disaster that does not end is given up.
const LONGEST: Duration = Duration::from_secs(420);

/// What happens, from the moment at which all pods run to the return of what was away.
pub type Strike = for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, Result<()>>;

/// A disaster.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, for people.
    pub what: &'static str,
    /// How many seconds the pods have that are due later.
    pub later: u32,
    /// How people can learn of it.
    pub told: &'static [Sign],
    /// What happens.
    pub strike: Strike,
    /// Whether a policy is made afterwards; not where the namespace is no more.
    pub renews: bool,
}

/// What came of one.
#[derive(Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub name: &'static str,
    /// The line of the table.
    pub row: String,
    /// What should not have been.
    pub violations: Vec<(Violation, String)>,
    /// Whether the cluster could not be made whole.
    pub broken: bool,
}

/// Shows a line, even where a test's output is captured.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Has all of these happen, and shows what came of each.
///
/// # Errors
/// When there is no cluster that is whole.
pub async fn run(scenarios: &[&Scenario]) -> Result<Vec<Outcome>> {
    let cluster = TestCluster::connect().await?;
    // A run that was broken off may have left something.
    whole(&cluster).await?;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        say(&format!("{}: {}", scenario.name, scenario.what));
        let outcome = one(&cluster, scenario).await;
        for (sort, text) in &outcome.violations {
            say(&format!("  {sort}: {text}"));
        }
        say(&format!("  {}", outcome.row));
        let broken = outcome.broken;
        outcomes.push(outcome);
        if broken {
            say("THE CLUSTER IS NOT WHOLE. Run `make down` before you use it again.");
            break;
        }
    }
    Ok(outcomes)
}

async fn one(cluster: &TestCluster, scenario: &Scenario) -> Outcome {
    let began = Instant::now();
    let happened = timeout(LONGEST, happen(cluster, scenario)).await;
    let happened = happened.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not end")));
    let healing = Instant::now();
    let healed = whole(cluster).await;
    let healed = match healed {
        Ok(()) => Ok(healing.elapsed()),
        Err(error) => Err(error),
    };
    let (mut violations, cells) = happened.unwrap_or_else(|error| {
        let violations = vec![(Violation::Own, format!("not carried out: {error:#}"))];
        (violations, "| | ".to_owned())
    });
    if let Err(error) = &healed {
        violations.push((
            Violation::Own,
            format!("the cluster is not whole: {error:#}"),
        ));
    }
    let mut short = String::new();
    for (sort, text) in &violations {
        // Writing to a string does not fail.
        let _ = write!(short, "{sort}: {text}<br>");
    }
    if short.is_empty() {
        short.push_str("nothing");
    }
    let row = format!(
        "| `{}` | {} {cells}| {short} | {} |",
        scenario.name,
        scenario.what,
        began.elapsed().as_secs()
    );
    Outcome {
        name: scenario.name,
        row,
        violations,
        broken: healed.is_err(),
    }
}

/// Lets it happen in a namespace of its own; returns what is wrong and the cells with what was measured.
async fn happen(
    cluster: &TestCluster,
    scenario: &Scenario,
) -> Result<(Vec<(Violation, String)>, String)> {
    let name = format!("disaster-{}-{:04x}", scenario.name, fastrand::u16(..));
    let namespace = Namespace::create(cluster, &name).await?;
    let outcome = judged(&namespace, scenario).await;
    let failed = outcome
        .as_ref()
        .map_or(true, |(found, _)| !found.is_empty());
    if failed {
        let place = timeout(LONGEST, namespace.dump()).await;
        if let Ok(place) = place {
            say(&format!("  what could be known is in {}", place.display()));
        }
    }
    if scenario.renews {
        timeout(scene::LIMIT, namespace.remove()).await??;
    }
    outcome
}

async fn judged(
    namespace: &Namespace,
    scenario: &Scenario,
) -> Result<(Vec<(Violation, String)>, String)> {
    let cluster = &namespace.cluster;
    let scene = Scene::set(namespace, scenario.later).await?;
    let senses = Senses::begin(cluster, scenario.told).await?;
    let befall = async {
        (scenario.strike)(&scene).await.context("the disaster")?;
        if !scenario.renews {
            return Ok((Vec::new(), None));
        }
        scene.renew().await.context("a policy after the return")
    };
    let all = async {
        let (fresh, in_force) = tokio::select! {
            done = befall => done?,
            never = scene.knock() => match never {},
        };
        scene.settle(fresh, in_force).await.context("settling")
    };
    let mut facts = tokio::select! {
        facts = all => facts?,
        never = senses.watch(cluster) => match never {},
    };
    facts.told = senses.told(scenario.told);
    facts.noise = senses.noise(cluster)?;
    let last = latest(&facts).map_or("none".to_owned(), |late| {
        format!("{:.1} s", late.as_secs_f64())
    });
    let known = facts.in_force.map_or("–".to_owned(), |after| {
        format!("{:.1} s", after.as_secs_f64())
    });
    let noise: Vec<_> = facts
        .noise
        .iter()
        .map(|(part, noise)| {
            let lines = lines_a_minute(noise, facts.took);
            format!(
                "{part}: {} requests (most in 5 s: {}), {lines:.0} lines a minute",
                noise.requests, noise.peak
            )
        })
        .collect();
    let signs: Vec<_> = facts.told.iter().map(|(sign, _)| sign.clone()).collect();
    let cells = format!(
        "| {last} | {known} | {} | {} | {} ",
        signs.join(", "),
        noise.join("; "),
        scene.figures()
    );
    Ok((judge(&facts), cells))
}

/// Makes the cluster whole, whatever was done to it.
async fn whole(cluster: &TestCluster) -> Result<()> {
    tools::restore(cluster).await?;
    eventually(HEALED, "the cluster is whole again", async || {
        let healed = timeout(HEALED, disrupt::heal(cluster)).await;
        match healed.unwrap_or_else(|_| Err(anyhow::anyhow!("it takes too long"))) {
            Ok(()) => Ok(Some(())),
            Err(error) => {
                say(&format!("  cannot start the controllers again: {error:#}"));
                disrupt::restart_controllers(cluster).await?;
                Err(error)
            }
        }
    })
    .await?;
    tools::registered(cluster).await
}

/// The head of the table.
pub const HEAD: &str = "\
| name | what happens | last eviction, after deadline or end of the disaster | policy in force after | visible in | load | other results | not met | seconds |
|---|---|---|---|---|---|---|---|---|";

/// Boxes what happens.
pub fn boxed<'a>(strike: impl Future<Output = Result<()>> + 'a) -> LocalBoxFuture<'a, Result<()>> {
    strike.boxed_local()
}
