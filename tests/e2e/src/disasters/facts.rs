//! What is known of a disaster when it is over, and the verdict on it: a pure function, so that it is tested
//! without a cluster.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// How long after the deadline, or after the return of what was away, a pod may be evicted.
pub const LATEST: SignedDuration = SignedDuration::from_secs(15);
/// How soon after its creation a policy has to be in force.
pub const IN_FORCE: Duration = Duration::from_secs(2);
/// What all pods of one part of Curfew may ask of the API server within five seconds.
pub const MOST_REQUESTS: usize = 150;
/// How many lines a pod of Curfew may log in a minute, on average.
pub const MOST_LINES: f64 = 120.0;

/// A pod with a deadline.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its name.
    pub pod: String,
    /// When its time ends.
    pub deadline: Timestamp,
    /// When its eviction by an agent was granted.
    pub evicted: Vec<Timestamp>,
    /// Whether it is no more.
    pub gone: bool,
    /// Whether an Event tells of the interaction.
    pub interaction_told: bool,
    /// Whether an Event tells of the eviction.
    pub eviction_told: bool,
    /// Whether somebody else takes it away, so that no agent need evict it and its Events may go with it.
    pub leaving: bool,
}

/// How often a pod was reached into, and how much of that is known.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Its name.
    pub pod: String,
    /// Execs that were admitted.
    pub admitted: u32,
    /// What the store or the pod says, whichever is more.
    pub recorded: u32,
}

/// What one of the pods that a new policy is about was told.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Its name.
    pub pod: String,
    /// The time to live that it got; none when no exec was admitted.
    pub ttl: Option<String>,
}

/// What a part of Curfew did all the while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noise {
    /// Requests to the API server.
    pub requests: usize,
    /// The most of them within five seconds.
    pub peak: usize,
    /// Lines in the logs of its pods.
    pub lines: usize,
    /// How many pods of it there are.
    pub pods: usize,
}

/// All that is judged.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// When what was away was back.
    pub back: Option<Timestamp>,
    /// The pods that were to be evicted.
    pub due: Vec<Due>,
    /// Pods that nobody reached into and that are gone.
    pub missing: Vec<String>,
    /// The pods that were reached into all the while.
    pub counted: Vec<Counted>,
    /// The pods that a policy is about that was made after the return.
    pub fresh: Vec<Fresh>,
    /// The time to live that the policy says.
    pub fresh_ttl: String,
    /// When all replicas of the webhook counted the new policy; none when they never did.
    pub in_force: Option<Duration>,
    /// How people could learn of the disaster, and whether that was seen.
    pub told: Vec<(String, bool)>,
    /// What `agent` and `webhook` did.
    pub noise: BTreeMap<&'static str, Noise>,
    /// How long all of it took.
    pub took: Duration,
    /// What only this disaster's own checks found.
    pub found: Vec<String>,
}

/// What should not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// An interaction is recorded nowhere, or its pod was never evicted.
    Lost,
    /// A pod was evicted before its deadline.
    Early,
    /// A pod was evicted too long after its deadline.
    Late,
    /// A pod was evicted twice.
    Twice,
    /// A pod is gone that nobody had reached into.
    WrongPod,
    /// A policy was not in force in time.
    Policy,
    /// Nobody was told.
    Untold,
    /// Too many requests or lines.
    Storm,
    /// Something of this disaster alone.
    Own,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Early => "early",
            Self::Late => "late",
            Self::Twice => "twice",
            Self::WrongPod => "wrong pod",
            Self::Policy => "policy",
            Self::Untold => "not told",
            Self::Storm => "storm",
            Self::Own => "other",
        })
    }
}

/// Everything that should not have been.
pub fn judge(facts: &Facts) -> Vec<(Violation, String)> {
    let mut found = Vec::new();
    for due in &facts.due {
        judge_due(facts, due, &mut found);
    }
    for pod in &facts.missing {
        found.push((
            Violation::WrongPod,
            format!("{pod} is gone, and nobody reached into it"),
        ));
    }
    for counted in &facts.counted {
        if counted.recorded < counted.admitted {
            let Counted {
                pod,
                admitted,
                recorded,
            } = counted;
            let told = format!("{pod}: {admitted} execs were admitted and {recorded} recorded");
            found.push((Violation::Lost, told));
        }
    }
    judge_policy(facts, &mut found);
    for (what, seen) in &facts.told {
        if !seen {
            found.push((Violation::Untold, what.clone()));
        }
    }
    for (part, noise) in &facts.noise {
        if noise.peak > MOST_REQUESTS {
            let told = format!("{part}: {} requests within five seconds", noise.peak);
            found.push((Violation::Storm, told));
        }
        let rate = lines_a_minute(noise, facts.took);
        if rate > MOST_LINES {
            found.push((
                Violation::Storm,
                format!("{part}: {rate:.0} lines a minute and pod"),
            ));
        }
    }
    found.extend(
        facts
            .found
            .iter()
            .map(|text| (Violation::Own, text.clone())),
    );
    found.sort();
    found
}

fn judge_due(facts: &Facts, due: &Due, found: &mut Vec<(Violation, String)>) {
    let pod = &due.pod;
    let latest = due.deadline.max(facts.back.unwrap_or(due.deadline)) + LATEST;
    if !due.gone {
        found.push((
            Violation::Lost,
            format!("{pod} was due at {} and still lives", due.deadline),
        ));
    }
    if due.leaving {
        return;
    }
    if due.evicted.len() > 1 {
        found.push((Violation::Twice, format!("{pod}: {:?}", due.evicted)));
    }
    match due.evicted.first() {
        None if due.gone => {
            found.push((
                Violation::Lost,
                format!("{pod} is gone, but no agent evicted it"),
            ));
        }
        Some(at) if *at < due.deadline => {
            let early = due.deadline.duration_since(*at);
            found.push((Violation::Early, format!("{pod} by {early:#}")));
        }
        Some(at) if *at > latest => {
            let late = at.duration_since(latest - LATEST);
            found.push((Violation::Late, format!("{pod} by {late:#}")));
        }
        _ => {}
    }
    for (reason, told) in [
        ("PodInteraction", due.interaction_told),
        ("PodInteractionEvicted", due.eviction_told),
    ] {
        if !told {
            found.push((Violation::Untold, format!("{pod} has no Event {reason}")));
        }
    }
}

fn judge_policy(facts: &Facts, found: &mut Vec<(Violation, String)>) {
    for fresh in &facts.fresh {
        let Fresh { pod, ttl } = fresh;
        match ttl {
            Some(ttl) if *ttl == facts.fresh_ttl => {}
            Some(ttl) => {
                let told = format!("{pod} got {ttl} instead of {}", facts.fresh_ttl);
                found.push((Violation::Policy, told));
            }
            None => found.push((
                Violation::Policy,
                format!("no exec into {pod} was admitted"),
            )),
        }
    }
    if !facts.fresh.is_empty() {
        match facts.in_force {
            Some(after) if after <= IN_FORCE => {}
            Some(after) => found.push((
                Violation::Policy,
                format!("in force after {:.1} s", after.as_secs_f64()),
            )),
            None => found.push((Violation::Policy, "never in force".to_owned())),
        }
    }
}

/// How many lines a pod logged in a minute.
pub fn lines_a_minute(noise: &Noise, took: Duration) -> f64 {
    let minutes = (took.as_secs_f64() / 60.0).max(1.0);
    noise.lines as f64 / minutes / noise.pods.max(1) as f64
}

/// How long after it could be first, the last pod was evicted.
pub fn latest(facts: &Facts) -> Option<SignedDuration> {
    let late = facts.due.iter().filter_map(|due| {
        let from = due.deadline.max(facts.back.unwrap_or(due.deadline));
        Some(due.evicted.first()?.duration_since(from))
    });
    late.max()
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
