//! Reckons up.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};

use super::{
    book::{Book, Pages},
    say, world,
};
use crate::{Namespace, agents, disrupt, eventually, evictions::Eviction, figures, holdings};

/// How many violations are told one by one.
const TOLD: usize = 20;

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Kills by sort.
    pub kills: BTreeMap<&'static str, usize>,
    /// Execs that were tried.
    pub tried: usize,
    /// Execs that were let through.
    pub admitted: usize,
    /// Pods that were reached into.
    pub touched: usize,
    /// Pods that were evicted.
    pub evicted: usize,
    /// How long after their deadlines at the latest.
    pub late: Vec<Duration>,
    /// How long it took.
    pub took: Duration,
    /// Everything that should not have been, by its sort.
    pub violations: Vec<(Violation, String)>,
}

/// What should not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A pod that was reached into was not evicted, or an exec is recorded nowhere.
    Lost,
    /// It was evicted before any deadline that it could have.
    Early,
    /// It was evicted twice.
    Twice,
    /// It was evicted although nobody had reached into it.
    WrongPod,
}

impl Verdict {
    /// Whether all was as it should be.
    ///
    /// # Errors
    /// Tells what was not.
    pub fn passed(&self) -> Result<()> {
        ensure!(self.violations.is_empty(), "{self}");
        Ok(())
    }

    fn count(&self, sort: Violation) -> usize {
        let of = self.violations.iter().filter(|(one, _)| *one == sort);
        of.count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: usize = self.kills.values().sum();
        let sorts: Vec<_> = self
            .kills
            .iter()
            .map(|(sort, count)| format!("{count} {sort}"))
            .collect();
        write!(
            f,
            "{kills} kills ({}) in {} s; {} of {} execs admitted into {} pods, {} evicted; \
             {} lost, {} early, {} twice, {} wrong pod; after the deadline: {}",
            sorts.join(", "),
            self.took.as_secs(),
            self.admitted,
            self.tried,
            self.touched,
            self.evicted,
            self.count(Violation::Lost),
            self.count(Violation::Early),
            self.count(Violation::Twice),
            self.count(Violation::WrongPod),
            figures::distribution(self.late.clone()),
        )?;
        for (sort, told) in self.violations.iter().take(TOLD) {
            write!(f, "\n  {sort:?}: {told}")?;
        }
        Ok(())
    }
}

/// What the agents' stores held of each pod once all was calm, and of which pods there had to be
/// something.
#[derive(Debug, Default)]
pub struct Remembered {
    counts: BTreeMap<String, u32>,
    expected: Vec<String>,
}

/// Looks what the stores hold of the pods that still live, and waits until all that were reached into
/// are gone, or should long be.
pub async fn settle(namespace: &Namespace, book: &Book, ttl: SignedDuration) -> Result<Remembered> {
    let cluster = &namespace.cluster;
    let records = eventually(Duration::from_secs(20), "the stores tell", async || {
        holdings::all(cluster).await.map(Some)
    })
    .await?;
    world::look(namespace, book).await?;
    let touched = |pages: &Pages| -> Vec<String> {
        let living = pages
            .lives
            .iter()
            .filter(|(uid, life)| life.gone.is_none() && pages.reached(uid) > 0);
        living.map(|(uid, _)| uid.clone()).collect()
    };
    let remembered = Remembered {
        counts: records
            .iter()
            .map(|record| (record.pod.uid.clone(), record.interactions()))
            .collect(),
        expected: touched(&book.open()),
    };
    let patience = ttl.unsigned_abs() + Duration::from_secs(20);
    let gone = eventually(patience, "all are evicted", async || {
        let left = touched(&book.open());
        ensure!(left.is_empty(), "{} are left", left.len());
        Ok(Some(()))
    })
    .await;
    if let Err(error) = gone {
        // The reckoning says which.
        say(&format!("{error:#}"));
    }
    // Whatever wrongly is to be evicted had its time, too.
    disrupt::rolled_out(cluster, disrupt::DAEMONSET).await?;
    world::look(namespace, book).await?;
    Ok(remembered)
}

/// Compares what was done with what was seen.
pub fn reckon(
    book: &Book,
    remembered: &Remembered,
    granted: &[Eviction],
    ttl: SignedDuration,
    took: Duration,
) -> Verdict {
    let pages = book.open();
    let mut verdict = Verdict {
        kills: pages.kills.clone(),
        tried: pages.attempts.len(),
        admitted: pages.attempts.iter().filter(|one| one.admitted()).count(),
        took,
        ..Verdict::default()
    };
    let mut found = Vec::new();
    let asked = assign(&pages, granted, &mut found);
    for (uid, life) in &pages.lives {
        let who = format!("{} ({uid})", life.name);
        let reached = pages.reached(uid);
        let asked = asked.get(uid).map(Vec::as_slice).unwrap_or_default();
        // The API server may have been killed before it wrote the line of an eviction.
        let ended = asked
            .first()
            .copied()
            .or(life.gone.filter(|_| !life.deleted));
        verdict.touched += usize::from(reached > 0);
        verdict.evicted += usize::from(ended.is_some());
        if asked.len() > 1 {
            found.push((Violation::Twice, format!("{who}: {asked:?}")));
        }
        if reached > 0 && life.gone.is_none() {
            found.push((Violation::Lost, format!("{who} still lives: {life:?}")));
        }
        let counted = remembered.counts.get(uid).copied().unwrap_or_default();
        if remembered.expected.contains(uid) && counted.max(life.told) < reached {
            let told = format!("{who}: {counted} in the store, {life:?}, {reached} execs");
            found.push((Violation::Lost, told));
        }
        match (ended, pages.first_touch(life)) {
            (Some(ended), None) => {
                found.push((Violation::WrongPod, format!("{who} at {ended}: {life:?}")));
            }
            (Some(ended), Some(touch)) => {
                let earliest = deadline(touch, ttl);
                if ended < earliest {
                    let told = format!("{who} at {ended}, not before {earliest}");
                    found.push((Violation::Early, told));
                }
                verdict
                    .late
                    .push(ended.duration_since(earliest).unsigned_abs());
            }
            (None, _) => {}
        }
    }
    for attempt in &pages.attempts {
        if let Some(uid) = attempt.reached.as_ref()
            && !pages.lives.contains_key(uid)
        {
            found.push((
                Violation::Lost,
                format!("a pod that was never seen: {attempt:?}"),
            ));
        }
    }
    found.sort();
    verdict.violations = found;
    verdict
}

/// The first deadline that a pod can have that was first reached into at that time.
fn deadline(touch: Timestamp, ttl: SignedDuration) -> Timestamp {
    Timestamp::from_second(touch.as_second()).unwrap_or(touch) + ttl
}

/// Whom each granted eviction was about. Pods of one name follow each other: it was the first of them
/// that was not gone yet.
fn assign(
    pages: &Pages,
    granted: &[Eviction],
    found: &mut Vec<(Violation, String)>,
) -> BTreeMap<String, Vec<Timestamp>> {
    let mut asked = BTreeMap::<String, Vec<Timestamp>>::new();
    for eviction in granted {
        let about = pages
            .lives
            .iter()
            .filter(|(_, life)| life.name == eviction.pod)
            .filter(|(_, life)| life.gone.is_none_or(|gone| gone >= eviction.asked))
            .min_by_key(|(_, life)| life.created);
        match about {
            Some((uid, _)) if eviction.user == agents::ACCOUNT => {
                asked.entry(uid.clone()).or_default().push(eviction.asked);
            }
            _ => found.push((Violation::WrongPod, format!("{eviction:?}"))),
        }
    }
    asked
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
