//! What must survive: pods that people interacted with in every way before the change, and all that was known of them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_core::{
    Record, duration,
    metadata::{
        EVICTION_TIME, EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER, MAX_ANNOTATIONS,
        PREFIX,
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::PostParams};
use serde_json::{Value, json};

use super::{AWAY, evicted::DuePod, readiness::Readiness, stream};
use crate::{
    Agents, NODES, Namespace, Scheduled, Workload, eventually, evictions::Mark, holdings, marks,
    namespace::uid, policies::Policies, workload::IMAGE,
};

/// With [`FALLBACK`], what is due after the change.
const MINUTES: &str = "minutes";
const EXTENDED: &str = "extended";
const HELD: &str = "held";
const HARMLESS: &str = "harmless";
const ATTACHED: &str = "attached";
const DEBUGGED: &str = "debugged";
const FULL: &str = "full";
/// Touched while its node has no agent.
const FALLBACK: &str = "fallback";

/// The names of the pods, their groups, which have a policy each, and their nodes.
const PODS: [(&str, &str, &str); 9] = [
    ("minutes-1", MINUTES, NODES[0]),
    ("minutes-2", MINUTES, NODES[1]),
    (EXTENDED, EXTENDED, NODES[1]),
    (HELD, HELD, NODES[0]),
    (HARMLESS, HARMLESS, NODES[1]),
    (ATTACHED, MINUTES, NODES[0]),
    (DEBUGGED, MINUTES, NODES[1]),
    (FULL, MINUTES, NODES[1]),
    (FALLBACK, MINUTES, AWAY),
];

const SETTLED: Duration = Duration::from_secs(20);
const TICKS: &str = "while true; do echo tick; sleep 1; done";

/// What was known of a pod before the change.
#[derive(Debug, Clone)]
struct Kept {
    name: &'static str,
    node: &'static str,
    uid: String,
    marks: BTreeMap<String, String>,
    events: usize,
    /// None of [`FALLBACK`]: no agent ran on its node.
    known: Option<(Scheduled, Record)>,
}

impl Kept {
    /// When it is to be evicted, if ever.
    fn deadline(&self) -> Result<Option<Timestamp>> {
        match &self.known {
            Some((scheduled, _)) => Ok(scheduled.eviction_time),
            None => {
                let told = self.marks.get(EVICTION_TIME);
                Ok(told.map(|told| told.parse()).transpose()?)
            }
        }
    }
}

/// All pods.
#[derive(Debug, Clone)]
pub struct Survivors {
    kept: Vec<Kept>,
    /// How long most of them live after their interaction; one of them with an extension.
    life: Duration,
}

impl Survivors {
    /// Starts the pods, interacts with all but one, and notes what is known then. Most of them are due after `life`,
    /// in whole seconds.
    pub async fn prepare(namespace: &Namespace, life: Duration) -> Result<Self> {
        apply_policies(namespace, life).await?;
        for (name, group, node) in PODS {
            let mut pod = Workload::new(name).in_group(group).on(node);
            if name == ATTACHED {
                pod = pod.script(TICKS);
            }
            let mut pod = pod.pod()?;
            if name == FULL {
                const FILLER: &str = "example.com/filler";
                let filler = "x".repeat(MAX_ANNOTATIONS - FILLER.len());
                pod.metadata.annotations = Some([(FILLER.to_owned(), filler)].into());
            }
            namespace
                .pods()
                .create(&PostParams::default(), &pod)
                .await?;
        }
        for (name, ..) in PODS {
            namespace.ready(name).await?;
        }
        interact(namespace, life).await?;
        let mut kept = Vec::new();
        for (name, _, node) in PODS {
            if name != FALLBACK {
                let what = format!("{name} is recorded as it should be");
                let of = eventually(SETTLED, &what, async || {
                    known_of(namespace, name, node, life).await.map(Some)
                });
                kept.push(of.await?);
            }
        }
        Ok(Self { kept, life })
    }

    /// Interacts with the pod whose node has no agent.
    pub async fn touch_without_agent(&mut self, namespace: &Namespace) -> Result<()> {
        exec(namespace, FALLBACK, "alone").await?;
        let pod = namespace.pods().get(FALLBACK).await?;
        let marks = marks_of(&pod);
        ensure!(
            marks.contains_key(EVICTION_TIME),
            "the webhook did not record on the pod: {marks:?}"
        );
        self.kept.push(Kept {
            name: FALLBACK,
            node: AWAY,
            uid: uid(&pod)?,
            marks,
            events: 0,
            known: None,
        });
        Ok(())
    }

    /// That none of them is due yet.
    ///
    /// # Errors
    /// When the change took too long.
    pub fn in_time(&self) -> Result<String> {
        for kept in self.kept.iter().filter(|kept| kept.name != HELD) {
            let deadline = kept.deadline()?;
            ensure!(
                deadline.is_none_or(|deadline| deadline > Timestamp::now()),
                "the change took so long that {} is due: repeat it with a longer --life than {}",
                kept.name,
                duration::format(self.life)
            );
        }
        Ok(format!(
            "{} after the interactions",
            duration::format(self.life)
        ))
    }

    /// That the pods carry what they carried, but for what the version does not know that writes it again.
    ///
    /// # Errors
    /// Shows the first difference.
    pub async fn marks_unchanged(
        &self,
        namespace: &Namespace,
        unknown: &[String],
    ) -> Result<String> {
        let known = |value: &String| {
            without(
                unknown,
                serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into()),
            )
        };
        let mut count = 0;
        for kept in &self.kept {
            let pod = namespace.pods().get(kept.name).await;
            let found = marks_of(&pod.with_context(|| format!("{} is gone", kept.name))?);
            for (key, value) in &kept.marks {
                let found = found.get(key);
                let name = kept.name;
                ensure!(
                    found.map(known) == Some(known(value)),
                    "{name}: {key} is {found:?} and was {value:?}"
                );
            }
            count += kept.marks.len();
        }
        Ok(format!("{count} on {} pods, as before", self.kept.len()))
    }

    /// That the agents' schedules tell of the pods what they told.
    ///
    /// # Errors
    /// Shows the first difference.
    pub async fn schedule_unchanged(&self, namespace: &Namespace) -> Result<String> {
        let agents = Agents::connect(&namespace.cluster).await?;
        let mut count = 0;
        for kept in &self.kept {
            let Some((before, _)) = &kept.known else {
                continue;
            };
            let after = agents.record_only_on(kept.node, &kept.uid).await?;
            ensure!(
                &after == before,
                "{}: {after:?} and was {before:?}",
                kept.name
            );
            count += 1;
        }
        Ok(format!(
            "{count} pods: state, deadline, count, first and last interaction as before"
        ))
    }

    /// That the agents' stores have the interactions, extensions and holds that they had, but for what the version
    /// does not know that writes them again.
    ///
    /// # Errors
    /// Shows the first difference.
    pub async fn records_unchanged(
        &self,
        namespace: &Namespace,
        unknown: &[String],
    ) -> Result<String> {
        let distinct = |record: &Record| -> Result<Vec<Value>> {
            let all = record.distinct().map(serde_json::to_value);
            all.map(|known| Ok(without(unknown, known?))).collect()
        };
        let stored = holdings::all(&namespace.cluster).await?;
        let mut count = 0;
        for kept in &self.kept {
            let Some((_, before)) = &kept.known else {
                continue;
            };
            let after = stored.iter().find(|record| record.pod.uid == kept.uid);
            let after = after.with_context(|| format!("no store has {}", kept.name))?;
            let same = after.pod == before.pod
                && distinct(after)? == distinct(before)?
                && after.interactions() == before.interactions()
                && (&after.extension, &after.hold) == (&before.extension, &before.hold)
                && after.deadline() == before.deadline()
                && after.eviction_time() == before.eviction_time();
            ensure!(same, "{}: {after:?} and was {before:?}", kept.name);
            count += 1;
        }
        Ok(format!(
            "{count} records: interactions, terms, extension, hold and deadline as before"
        ))
    }

    /// That the agent has taken over what only the pod told.
    ///
    /// # Errors
    /// Shows the first difference.
    pub async fn adopted(&self, namespace: &Namespace) -> Result<String> {
        let kept = self.of(FALLBACK)?;
        let pod = namespace.pods().get(FALLBACK).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let record = agents.record_only_on(AWAY, &kept.uid).await?;
        marks::check(&pod, &record)?;
        ensure!(
            Some(&record.deadline()?.to_string()) == kept.marks.get(EVICTION_TIME),
            "{record:?} and the pod told {:?}",
            kept.marks
        );
        Ok(format!("the agent of {AWAY} has it, with its deadline"))
    }

    /// That people were not told again.
    ///
    /// # Errors
    /// Names the first pod that has more Events.
    pub async fn events_unchanged(&self, namespace: &Namespace) -> Result<String> {
        let mut count = 0;
        // On a pod whose annotations are full an agent cannot note that it has told, so it tells again after each start.
        let told = |kept: &&Kept| kept.known.is_some() && kept.name != FULL;
        for kept in self.kept.iter().filter(told) {
            let events = marks::events(namespace, &kept.uid, "PodInteraction").await?;
            ensure!(
                events.len() == kept.events,
                "{}: {} Events, and {} before",
                kept.name,
                events.len(),
                kept.events
            );
            count += events.len();
        }
        Ok(format!("{count} PodInteraction, none repeated"))
    }

    /// The pods that are due after the change.
    ///
    /// # Errors
    /// When one of them has no deadline.
    pub fn due(&self, readiness: &Readiness) -> Result<Vec<DuePod>> {
        let due = self
            .kept
            .iter()
            .filter(|kept| ![HELD, HARMLESS].contains(&kept.name));
        due.map(|kept| {
            let deadline = kept.deadline()?.context("no time of eviction")?;
            Ok(DuePod {
                name: kept.name.to_owned(),
                earliest: deadline,
                latest: readiness.latest_eviction(kept.node, deadline),
            })
        })
        .collect()
    }

    /// The names of those that are not due at all: held, harmless, and of the stream.
    pub fn staying(&self) -> Vec<String> {
        let mut names = stream::pods();
        names.extend([HELD, HARMLESS].map(str::to_owned));
        names
    }

    /// Releases the hold, after which the pod is evicted: its deadline has passed.
    ///
    /// # Errors
    /// When it is not.
    pub async fn release(&self, namespace: &Namespace, audit: &Mark) -> Result<String> {
        let (hold, requester) = (format!("{HOLD}-"), format!("{HOLD_REQUESTER}-"));
        let released = Timestamp::now();
        let args = ["annotate", "pod", HELD, &hold, &requester];
        namespace.kubectl.ok(&args).await?;
        let asked = eventually(SETTLED, "the released pod is evicted", async || {
            let granted = audit.granted(&namespace.name)?;
            Ok(granted.into_iter().find(|eviction| eviction.pod == HELD))
        })
        .await?
        .asked;
        let after = asked.duration_since(released);
        Ok(format!(
            "evicted {:.1} s after its release",
            after.as_secs_f64()
        ))
    }

    fn of(&self, name: &str) -> Result<&Kept> {
        let found = self.kept.iter().find(|kept| kept.name == name);
        found.with_context(|| format!("{name} was not touched"))
    }
}

/// In whole seconds.
fn half(life: Duration) -> Duration {
    Duration::from_secs(life.as_secs() / 2)
}

/// An object without these fields.
fn without(unknown: &[String], mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|field, _| !unknown.contains(field));
    }
    value
}

async fn apply_policies(namespace: &Namespace, life: Duration) -> Result<()> {
    let (ttl, half) = (duration::format(life), duration::format(half(life)));
    let policy = |group: &str, mut spec: serde_json::Value| {
        spec["podSelector"] = json!({"matchLabels": {"group": group}});
        spec
    };
    let policies = Policies::new(namespace).await?;
    let extended = json!({"ttl": half, "maxExtension": "1h"});
    let harmless = json!({"ttl": half, "harmlessCommands": [["date"]]});
    policies
        .hold(&[
            (stream::GROUP, policy(stream::GROUP, json!({"ttl": "1h"}))),
            (MINUTES, policy(MINUTES, json!({"ttl": ttl}))),
            (EXTENDED, policy(EXTENDED, extended)),
            (HELD, policy(HELD, json!({"ttl": half, "maxHold": "1h"}))),
            (HARMLESS, policy(HARMLESS, harmless)),
        ])
        .await
}

async fn exec(namespace: &Namespace, pod: &str, word: &str) -> Result<()> {
    let args = ["exec", pod, "--", "sh", "-c", "true", word];
    namespace.kubectl.ok(&args).await.map(drop)
}

async fn interact(namespace: &Namespace, life: Duration) -> Result<()> {
    for pod in ["minutes-1", "minutes-2", EXTENDED, HELD, FULL] {
        exec(namespace, pod, "first").await?;
    }
    for word in ["second", "third"] {
        exec(namespace, "minutes-2", word).await?;
    }
    namespace
        .kubectl
        .ok(&["exec", HARMLESS, "--", "date"])
        .await?;
    let mut attached = namespace.kubectl.start(&["attach", ATTACHED])?;
    ensure!(attached.line().await? == "tick", "attach shows nothing");
    let image = format!("--image={IMAGE}");
    let lens = ["--target=main", "--container=lens"];
    let debug = [&["debug", DEBUGGED, &image][..], &lens, &["--", "true"]].concat();
    namespace.kubectl.ok(&debug).await?;

    let extension = duration::format(life - half(life));
    let me = namespace.cluster.administrator().await?;
    annotate(
        namespace,
        EXTENDED,
        &[(EXTENSION, extension.as_str()), (EXTENSION_REQUESTER, &me)],
    )
    .await?;
    annotate(
        namespace,
        HELD,
        &[(HOLD, "evidence"), (HOLD_REQUESTER, &me)],
    )
    .await
}

/// Annotates a pod that may only just be marked.
async fn annotate(namespace: &Namespace, pod: &str, pairs: &[(&str, &str)]) -> Result<()> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pairs = pairs.iter().map(String::as_str);
    let args: Vec<_> = ["annotate", "pod", pod].into_iter().chain(pairs).collect();
    eventually(SETTLED, &format!("{pod} is annotated"), async || {
        namespace.kubectl.ok(&args).await.map(Some)
    })
    .await
    .map(drop)
}

fn marks_of(pod: &Pod) -> BTreeMap<String, String> {
    let all = pod.labels().iter().chain(pod.annotations());
    all.filter(|(key, _)| key.starts_with(PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What is known of a pod.
///
/// # Errors
/// When it is not (yet) what its interactions call for.
async fn known_of(
    namespace: &Namespace,
    name: &'static str,
    node: &'static str,
    life: Duration,
) -> Result<Kept> {
    let pod = namespace.pods().get(name).await?;
    let uid = uid(&pod)?;
    let agents = Agents::connect(&namespace.cluster).await?;
    let scheduled = agents.record_only_on(node, &uid).await?;
    let events = marks::events(namespace, &uid, "PodInteraction")
        .await?
        .len();
    ensure!(events > 0, "no Event");
    if name != FULL {
        marks::check(&pod, &scheduled)?;
    }
    let lives = scheduled
        .eviction_time
        .map(|time| time.duration_since(scheduled.decisive.time).unsigned_abs());
    match name {
        HARMLESS => ensure!(lives.is_none(), "a timer was started: {scheduled:?}"),
        HELD => ensure!(scheduled.state == "held", "not held: {scheduled:?}"),
        _ => ensure!(lives == Some(life), "{scheduled:?}"),
    }
    let interactions = if name == "minutes-2" { 3 } else { 1 };
    ensure!(scheduled.interactions == interactions, "{scheduled:?}");
    let stored = holdings::all(&namespace.cluster).await?;
    let record = stored.into_iter().find(|record| record.pod.uid == uid);
    let record = record.context("the store has no record")?;
    Ok(Kept {
        name,
        node,
        uid,
        marks: marks_of(&pod),
        events,
        known: Some((scheduled, record)),
    })
}
