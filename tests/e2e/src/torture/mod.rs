//! The crash harness: everything is killed again and again while people reach into pods, and then it is
//! reckoned up whether anything was lost, was evicted early or twice, or was evicted for nothing.
//!
//! The [`plan`] comes from a seed. [`chaos`] carries it out, [`clients`] reach into pods, [`world`]
//! watches (with nothing that would have to survive the API server) and keeps pods there, and the
//! [`verdict`] is reckoned from the [`book`] that they all write in.

pub mod book;
pub mod chaos;
pub mod clients;
pub mod plan;
pub mod verdict;
pub mod world;

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{Namespace, disrupt, eventually, evictions::Mark};

use book::Book;
use plan::Plan;
pub use verdict::Verdict;

/// How much there is to be.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Where the plan comes from.
    pub seed: u64,
    /// How many kills.
    pub kills: usize,
    /// How many execs have to be admitted at least.
    pub execs: usize,
    /// Whether to tell what happens as it happens.
    pub talkative: bool,
}

/// How long the cluster may take to be whole again: what was killed most is started again last, and
/// controllers whose watches broke with the API server take their time.
const HEALED: Duration = Duration::from_secs(420);

/// When a run that does not get on is given up.
fn patience(settings: &Settings) -> Duration {
    Duration::from_secs(60 + 15 * settings.kills as u64 + settings.execs as u64)
}

/// Shows a line, even where a test's output is captured.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// Kills as planned, makes the cluster whole again, and reckons up.
///
/// # Errors
/// When the run could not be carried out. Whether Curfew passed is for the verdict to say.
pub async fn run(namespace: &Namespace, settings: Settings) -> Result<Verdict> {
    let cluster = &namespace.cluster;
    disrupt::heal(cluster).await?;
    let plan = Plan::new(settings.seed, settings.kills);
    say(&format!(
        "seed {}: --seed {0} --kills {} --execs {} repeats this plan",
        settings.seed, settings.kills, settings.execs
    ));
    if settings.talkative {
        plan.blows.iter().for_each(|blow| say(&format!("  {blow}")));
    }
    let audit = Mark::now(cluster.machine.audit_log())?;
    let ttl = disrupt::time_to_live(cluster).await?;
    let book = Book::default();
    let (calm, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let began = Instant::now();
    let (worked, ()) = tokio::join!(
        async {
            let worked = work(namespace, &settings, &plan, &book).await;
            calm.store(true, Ordering::Relaxed);
            let healed =
                eventually(
                    HEALED,
                    "the cluster is whole again",
                    async || match disrupt::heal(cluster).await {
                        Ok(()) => Ok(Some(())),
                        Err(error) => {
                            say(&format!("cannot start the controllers again: {error:#}"));
                            disrupt::restart_controllers(cluster).await?;
                            Err(error)
                        }
                    },
                )
                .await;
            let settled = match worked.and(healed) {
                Ok(()) => verdict::settle(namespace, &book, ttl).await,
                Err(error) => Err(error),
            };
            over.store(true, Ordering::Relaxed);
            settled
        },
        world::keep(namespace, &book, &calm, &over),
    );
    let remembered = worked?;
    let granted = audit.granted(&namespace.name)?;
    let verdict = verdict::reckon(&book, &remembered, &granted, ttl, began.elapsed());
    say(&format!("seed {}: {verdict}", settings.seed));
    Ok(verdict)
}

/// Kills and execs, until there was enough of both.
async fn work(namespace: &Namespace, settings: &Settings, plan: &Plan, book: &Book) -> Result<()> {
    let killed = AtomicBool::new(false);
    let all = async {
        world::populated(book).await?;
        let (chaos, clients) = tokio::join!(
            async {
                let chaos = chaos::strike_all(namespace, plan, book, settings.talkative).await;
                killed.store(true, Ordering::Relaxed);
                chaos
            },
            clients::work(namespace, settings, book, &killed),
        );
        chaos.and(clients)
    };
    tokio::time::timeout(patience(settings), all)
        .await
        .context("it does not get on")??;
    ensure!(book.admitted() >= settings.execs, "too few execs");
    Ok(())
}
