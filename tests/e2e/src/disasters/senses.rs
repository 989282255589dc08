//! What can be noticed of a disaster from outside: metrics, as Prometheus would scrape them, the lines that Curfew's
//! pods log, and the requests that the API server was asked. None of it needs the API server while it is away.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::{sleep, timeout};

use super::facts::Noise;
use crate::{TestCluster, agents::total, audit, disrupt};

const PARTS: [&str; 2] = ["agent", "webhook"];
/// Of each part.
const PODS: usize = 2;
/// How often everybody is looked at.
const PACE: Duration = Duration::from_secs(2);
/// As long as a scrape or the API server may take.
const LIMIT: Duration = Duration::from_secs(2);
/// What [`Noise::peak`] is counted over.
const WINDOW: i64 = 5;

/// How people can learn of a disaster.
#[derive(Debug, Clone, Copy)]
pub enum Sign {
    /// A metric of some pod of this part is higher than it was.
    Rose(&'static str, &'static str),
    /// A metric of some pod of this part is lower than it was.
    Fell(&'static str, &'static str),
    /// Some pod of this part cannot be scraped, which Prometheus tells as `up == 0`.
    Silent(&'static str),
    /// One of these is enough.
    Any(&'static [Sign]),
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rose(_, metric) => write!(f, "`{metric}` rises"),
            Self::Fell(_, metric) => write!(f, "`{metric}` falls"),
            Self::Silent(part) => write!(f, "`up` of the {part} is 0"),
            Self::Any(signs) => {
                let signs: Vec<_> = signs.iter().map(ToString::to_string).collect();
                f.write_str(&signs.join(" or "))
            }
        }
    }
}

/// The extremes of a metric of one pod.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: f64,
    low: f64,
    high: f64,
}

#[derive(Debug, Default)]
struct Seen {
    pods: BTreeMap<&'static str, Vec<Pod>>,
    /// By part, pod and metric.
    ranges: BTreeMap<(&'static str, String, &'static str), Range>,
    silent: BTreeMap<&'static str, usize>,
    /// Whether the first look is over: a pod that comes later began at nothing.
    begun: bool,
}

/// Looks all the while.
#[derive(Debug)]
pub struct Senses {
    seen: Mutex<Seen>,
    requests: audit::Mark,
    /// The sizes of the logs at the beginning.
    logs: BTreeMap<PathBuf, u64>,
    metrics: Vec<(&'static str, &'static str)>,
}

impl Senses {
    /// Begins, with an eye on these.
    pub async fn begin(cluster: &TestCluster, signs: &[Sign]) -> Result<Self> {
        let mut metrics = Vec::new();
        collect(signs, &mut metrics);
        let senses = Self {
            seen: Mutex::default(),
            requests: audit::now(cluster.machine.audit_log())?,
            logs: logs(cluster),
            metrics,
        };
        senses.look(cluster).await;
        senses.open().begun = true;
        Ok(senses)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again; it never ends.
    pub async fn watch(&self, cluster: &TestCluster) -> Infallible {
        loop {
            self.look(cluster).await;
            sleep(PACE).await;
        }
    }

    async fn look(&self, cluster: &TestCluster) {
        for part in PARTS {
            // While the API server is away those are looked at that were there before.
            if let Ok(Ok(pods)) = timeout(LIMIT, cluster.pods_of(part)).await {
                self.open().pods.insert(part, pods);
            }
            let pods = self.open().pods.get(part).cloned().unwrap_or_default();
            let scrapes = pods.iter().map(|pod| timeout(LIMIT, disrupt::metrics(pod)));
            let scrapes = futures::future::join_all(scrapes).await;
            for (pod, scraped) in pods.iter().zip(scrapes) {
                match scraped {
                    Ok(Ok(text)) => self.note(part, &pod.name_any(), &text),
                    Ok(Err(_)) | Err(_) => *self.open().silent.entry(part).or_default() += 1,
                }
            }
        }
    }

    fn note(&self, part: &'static str, pod: &str, text: &str) {
        let mut seen = self.open();
        let begun = seen.begun;
        for (of, metric) in &self.metrics {
            if *of != part || !text.contains(metric) {
                continue;
            }
            let value = total(text, metric);
            let range = seen
                .ranges
                .entry((part, pod.to_owned(), metric))
                .or_insert(Range {
                    first: if begun { 0.0 } else { value },
                    low: value,
                    high: value,
                });
            range.low = range.low.min(value);
            range.high = range.high.max(value);
            if value < range.first && begun {
                // A counter of a process that was started again begins anew.
                range.first = value;
            }
        }
    }

    /// Which of the signs were seen.
    pub fn told(&self, signs: &[Sign]) -> Vec<(String, bool)> {
        let seen = self.open();
        signs
            .iter()
            .map(|sign| (sign.to_string(), holds(&seen, sign)))
            .collect()
    }

    /// What each part did since the beginning.
    pub fn noise(&self, cluster: &TestCluster) -> Result<BTreeMap<&'static str, Noise>> {
        let now = logs(cluster);
        let mut noise = BTreeMap::new();
        for part in PARTS {
            let user = format!("system:serviceaccount:curfew:curfew-{part}");
            let times: Vec<_> = self
                .requests
                .since(&user)?
                .into_iter()
                .filter_map(|request| request.received)
                .collect();
            let of = format!("curfew_curfew-{part}-");
            let lines = now
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains(&of))
                .map(|(path, size)| lines(path, self.logs.get(path).copied(), *size))
                .sum();
            noise.insert(
                part,
                Noise {
                    requests: times.len(),
                    peak: peak(&times),
                    lines,
                    pods: PODS,
                },
            );
        }
        Ok(noise)
    }
}

fn collect(signs: &[Sign], metrics: &mut Vec<(&'static str, &'static str)>) {
    for sign in signs {
        match sign {
            Sign::Rose(part, metric) | Sign::Fell(part, metric) => metrics.push((part, metric)),
            Sign::Any(signs) => collect(signs, metrics),
            Sign::Silent(_) => {}
        }
    }
}

fn holds(seen: &Seen, sign: &Sign) -> bool {
    let ranges = |part: &str, metric: &str| -> Vec<Range> {
        let of = seen
            .ranges
            .iter()
            .filter(|((of, _, name), _)| *of == part && *name == metric);
        of.map(|(_, range)| *range).collect()
    };
    match sign {
        Sign::Rose(part, metric) => ranges(part, metric)
            .iter()
            .any(|range| range.high > range.first),
        Sign::Fell(part, metric) => {
            let ranges = ranges(part, metric);
            ranges.iter().any(|range| range.low < range.high)
        }
        Sign::Silent(part) => seen.silent.get(part).is_some_and(|count| *count > 0),
        Sign::Any(signs) => signs.iter().any(|sign| holds(seen, sign)),
    }
}

/// The most of these within a window.
fn peak(times: &[Timestamp]) -> usize {
    let mut seconds: Vec<_> = times.iter().map(|time| time.as_second()).collect();
    seconds.sort_unstable();
    let mut from = 0;
    let mut most = 0;
    for (at, second) in seconds.iter().enumerate() {
        while seconds[from] + WINDOW <= *second {
            from += 1;
        }
        most = most.max(at + 1 - from);
    }
    most
}

/// The logs of Curfew's containers on both nodes, with their sizes.
fn logs(cluster: &TestCluster) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for node in cluster.machine.machine_nodes() {
        let pods = node.dir().join("var-log/pods");
        for pod in entries(&pods) {
            let name = pod.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("curfew_") {
                continue;
            }
            for log in entries(&pod)
                .iter()
                .flat_map(|container| entries(container))
            {
                if let Ok(about) = log.metadata() {
                    found.insert(log, about.len());
                }
            }
        }
    }
    found
}

fn entries(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn lines(path: &Path, from: Option<u64>, to: u64) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    let from = from.unwrap_or(0).min(to) as usize;
    let bytes = bytes.get(from..).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_most_within_five_seconds_is_counted() {
        assert_eq!(peak(&[]), 0);
        assert_eq!(peak(&[at(9), at(1), at(2), at(3), at(6), at(20)]), 3);
        assert_eq!(peak(&[at(1); 7]), 7);
    }

    #[test]
    fn signs_are_seen_in_ranges() {
        let range = |first, low, high| Range { first, low, high };
        let seen = Seen {
            ranges: BTreeMap::from([
                (("agent", "a".to_owned(), "steady"), range(2.0, 2.0, 2.0)),
                (("agent", "a".to_owned(), "up"), range(2.0, 2.0, 3.0)),
                (("agent", "a".to_owned(), "down"), range(1.0, 0.0, 1.0)),
            ]),
            silent: BTreeMap::from([("webhook", 1)]),
            ..Seen::default()
        };
        assert!(holds(&seen, &Sign::Rose("agent", "up")));
        assert!(holds(&seen, &Sign::Fell("agent", "down")));
        for sign in [
            Sign::Rose("agent", "steady"),
            Sign::Fell("agent", "steady"),
            Sign::Rose("webhook", "up"),
            Sign::Silent("agent"),
        ] {
            assert!(!holds(&seen, &sign), "{sign}");
        }
        assert!(holds(&seen, &Sign::Silent("webhook")));
        let either = Sign::Any(&[Sign::Silent("agent"), Sign::Rose("agent", "up")]);
        assert!(holds(&seen, &either));
        assert_eq!(either.to_string(), "`up` of the agent is 0 or `up` rises");
    }
}
