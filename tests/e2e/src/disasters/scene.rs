//! The scene of a disaster: pods with known deadlines, pods that people reach into all the while, pods that a policy is
//! about that is made afterwards, and bystanders that nothing may happen to.

mod renewal;

use std::{
    convert::Infallible,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use curfew_core::metadata;
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::facts::{Counted, Due, Facts, Fresh};
use crate::{
    Agents, NODES, Namespace, Workload, agents, disrupt, eventually, evictions, holdings, marks,
    namespace::uid, policies::Policies,
};

/// The time to live that the policy says that is made after the return.
const FRESH_TTL: &str = "27s";
/// As long as one request may take: an API server that was stopped leaves connections that never answer.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How often somebody reaches into a pod all the while.
const KNOCK: Duration = Duration::from_millis(1500);
/// How much longer than the limit is waited, to tell how late it was.
const PATIENCE: Duration = Duration::from_secs(75);
/// How much of what kubectl says is shown.
const SHOWN: usize = 300;

const DUE: [&str; 4] = ["due-0", "due-1", "due-2", "due-3"];
const LATER: [&str; 2] = ["later-0", "later-1"];
const DOORS: [&str; 2] = ["door-0", "door-1"];
const FRESH: [&str; 4] = ["fresh-0", "fresh-1", "fresh-2", "fresh-3"];
const BYSTANDERS: [&str; 2] = ["bystander-0", "bystander-1"];

/// A pod with a deadline, as the agent said it.
#[derive(Debug, Clone)]
struct Touched {
    pod: String,
    uid: String,
    node: String,
    deadline: Timestamp,
    /// Whether somebody else takes it away.
    leaving: bool,
}

#[derive(Debug, Default)]
struct Notes {
    touched: Vec<Touched>,
    /// Admitted execs, by door.
    admitted: [u32; DOORS.len()],
    /// What kubectl said of the others.
    refused: Vec<String>,
    back: Option<Timestamp>,
    /// Whether what stands for nothing may be taken away by somebody else.
    leaving: bool,
    /// Whether Curfew may take what happens for its removal, which stops nobody.
    removal: bool,
    /// Whether Events are lost that were made before the return.
    events_lost: bool,
    found: Vec<String>,
    figures: Vec<String>,
}

/// The scene.
#[derive(Debug)]
pub struct Scene {
    /// Where the pods are.
    pub namespace: Namespace,
    audit: evictions::Mark,
    began: Instant,
    execs: AtomicUsize,
    notes: Mutex<Notes>,
}

fn labelled(group: &str) -> Value {
    json!({"matchLabels": {"group": group}})
}

impl Scene {
    /// Sets it: all pods run, and nobody has reached into any. Those due later have so many seconds to live.
    pub async fn set(namespace: &Namespace, later: u32) -> Result<Self> {
        let groups = [
            ("due", &DUE[..]),
            ("later", &LATER),
            ("door", &DOORS),
            ("fresh", &FRESH),
            ("bystander", &BYSTANDERS),
        ];
        let policies = Policies::new(namespace).await?;
        let later = json!({"podSelector": labelled("later"), "ttl": format!("{later}s")});
        let doors = json!({"podSelector": labelled("door"), "ttl": "30m"});
        policies.apply("later", later).await?;
        policies.apply("door", doors).await?;
        let workloads: Vec<_> = groups
            .iter()
            .flat_map(|(group, names)| {
                names.iter().enumerate().map(|(at, name)| {
                    let node = NODES[at % NODES.len()];
                    Workload::new(name).on(node).in_group(group)
                })
            })
            .collect();
        namespace.run_pods(&workloads).await?;
        Ok(Self {
            namespace: namespace.clone(),
            audit: evictions::Mark::now(namespace.cluster.machine.audit_log())?,
            began: Instant::now(),
            execs: AtomicUsize::new(0),
            notes: Mutex::default(),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that should not be.
    pub fn find(&self, text: impl Into<String>) {
        self.notes().found.push(text.into());
    }

    /// What happens now looks like the removal of Curfew: execs are admitted that nobody records.
    pub fn removal(&self) {
        self.notes().removal = true;
    }

    fn is_removal(&self) -> bool {
        self.notes().removal
    }

    /// Something that was measured.
    pub fn figure(&self, text: impl Into<String>) {
        self.notes().figures.push(text.into());
    }

    /// What was measured.
    pub fn figures(&self) -> String {
        let notes = self.notes();
        let mut figures = notes.figures.clone();
        let admitted: u32 = notes.admitted.iter().sum();
        let refused = notes.refused.len();
        figures.push(format!(
            "{admitted} execs admitted meanwhile, {refused} refused"
        ));
        if let Some(why) = notes.refused.first() {
            let why: String = why.chars().take(SHOWN).collect();
            figures.push(format!("the first with `{}`", why.replace('|', "/")));
        }
        figures.join("; ")
    }

    /// From now on the API server can be asked again and nothing is kept away any more.
    pub fn returned(&self) {
        self.notes().back = Some(Timestamp::now());
    }

    /// Those pods that were reached into on this node, or on any, are taken away by somebody else.
    pub fn leaves(&self, node: Option<&str>) {
        let mut notes = self.notes();
        notes.leaving = true;
        for touched in &mut notes.touched {
            touched.leaving |= node.is_none_or(|node| touched.node == node);
        }
    }

    /// The Events of the interactions are lost with everything else that etcd forgets.
    pub fn loses_events(&self) {
        self.notes().events_lost = true;
    }

    /// Waits until no agent knows any of the pods.
    pub async fn forgotten(&self, within: Duration) -> Result<()> {
        let touched = self.notes().touched.clone();
        eventually(within, "the agents forget the pods", async || {
            let agents = Agents::connect(&self.namespace.cluster).await?;
            for one in &touched {
                let records = agents.records(&one.uid).await?;
                ensure!(records.is_empty(), "{} is still known", one.pod);
            }
            Ok(Some(()))
        })
        .await
    }

    /// Reaches into a pod with a command that nobody else uses; when it is not let through, what kubectl says.
    async fn exec(&self, pod: &str) -> Result<(), String> {
        let number = self.execs.fetch_add(1, Ordering::Relaxed);
        let command = format!("deed-{number}");
        let args = ["exec", pod, "--", "sh", "-c", "true", &command];
        match timeout(LIMIT * 2, self.namespace.kubectl.run(&args)).await {
            Ok(Ok(said)) if said.code == Some(0) => Ok(()),
            Ok(Ok(said)) => Err(said.stderr.trim().replace('\n', " ")),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("no answer within {:?}", LIMIT * 2)),
        }
    }

    /// Reaches into all pods that are to be evicted, and asks their agents when that will be.
    pub async fn touch(&self) -> Result<()> {
        let names: Vec<_> = DUE.iter().chain(&LATER).copied().collect();
        self.touch_these(&names).await
    }

    /// The same, but asks the pods: their agents may have no store.
    pub async fn touch_by_marks(&self) -> Result<()> {
        let made = Instant::now();
        let touched = DUE.iter().map(|name| self.reach(name, made));
        for (fresh, _) in join_all(touched).await {
            ensure!(fresh.ttl.is_some(), "{} was not marked", fresh.pod);
        }
        Ok(())
    }

    /// The same for these.
    async fn touch_these(&self, names: &[&str]) -> Result<()> {
        // A machine with too much to do may miss the second that Curfew has for each.
        let touched = names.iter().map(|name| {
            eventually(LIMIT * 2, "an exec is admitted", async move || {
                let refused = |why| anyhow!("the exec into {name} was refused: {why}");
                self.exec(name).await.map_err(refused).map(Some)
            })
        });
        try_join_all(touched).await?;
        let agents = Agents::connect(&self.namespace.cluster).await?;
        for name in names {
            let pod = self.namespace.pods().get(name).await?;
            let uid = uid(&pod)?;
            let node = disrupt::node_of(&pod).context("the pod has no node")?;
            let record = agents.of(node)?.record(&uid).await?;
            let record = record.with_context(|| format!("the exec into {name} is not recorded"))?;
            self.notes().touched.push(Touched {
                pod: (*name).to_owned(),
                uid,
                node: node.to_owned(),
                deadline: record.deadline()?,
                leaving: false,
            });
        }
        Ok(())
    }

    /// When the first of them is due.
    pub fn first_deadline(&self) -> Option<Timestamp> {
        let notes = self.notes();
        notes.touched.iter().map(|touched| touched.deadline).min()
    }

    /// Waits until the marks stand on all of them.
    pub async fn marked(&self, within: Duration) -> Result<()> {
        let pods = self.notes().touched.clone();
        eventually(within, "all are marked", async || {
            for touched in &pods {
                let pod = timeout(LIMIT, self.namespace.pods().get_opt(&touched.pod)).await??;
                let Some(pod) = pod.filter(|pod| pod.uid().as_ref() == Some(&touched.uid)) else {
                    continue;
                };
                let marked = pod.annotations().contains_key(metadata::EVICTION_TIME);
                ensure!(marked, "{} is not marked", touched.pod);
            }
            Ok(Some(()))
        })
        .await
    }

    /// Reaches into the doors again and again; it never ends.
    pub async fn knock(&self) -> Infallible {
        let mut next = (0..DOORS.len()).cycle();
        loop {
            let at = next.next().unwrap_or_default();
            let admitted = self.exec(DOORS[at]).await;
            match admitted {
                Ok(()) => self.notes().admitted[at] += 1,
                Err(why) => self.notes().refused.push(why),
            }
            sleep(KNOCK).await;
        }
    }

    /// Waits until all that were due are gone, or should long be, and tells what is known.
    pub async fn settle(&self, fresh: Vec<Fresh>, in_force: Option<Duration>) -> Result<Facts> {
        let (touched, back, leaving, events_lost) = {
            let notes = self.notes();
            let touched = notes.touched.clone();
            (touched, notes.back, notes.leaving, notes.events_lost)
        };
        let last = touched.iter().map(|touched| touched.deadline).max();
        let end = last.max(back).context("nothing was done")?;
        let left = end.duration_since(Timestamp::now());
        let patience = Duration::try_from(left).unwrap_or_default() + PATIENCE;
        let living = async || -> Result<Vec<String>> {
            let pods = timeout(LIMIT, self.namespace.pods().list(&Default::default())).await??;
            Ok(pods.items.iter().filter_map(ResourceExt::uid).collect())
        };
        // Whoever is left is told by name.
        let waited = eventually(patience, "all are gone", async || {
            let living = living().await?;
            let left = touched.iter().any(|one| living.contains(&one.uid));
            Ok((!left).then_some(()))
        });
        drop(waited.await);
        let living = living().await?;
        let granted = self.audit.granted(&self.namespace.name)?;
        let mut due = Vec::new();
        for one in &touched {
            let evicted = granted
                .iter()
                .filter(|eviction| eviction.pod == one.pod && eviction.user == agents::ACCOUNT);
            due.push(Due {
                pod: one.pod.clone(),
                deadline: one.deadline,
                evicted: evicted.map(|eviction| eviction.asked).collect(),
                gone: !living.contains(&one.uid),
                interaction_told: events_lost || self.told(one, "PodInteraction").await,
                eviction_told: one.leaving || self.told(one, "PodInteractionEvicted").await,
                leaving: one.leaving,
            });
        }
        Ok(Facts {
            back,
            due,
            missing: self.missing(leaving).await?,
            counted: if leaving {
                Vec::new()
            } else {
                self.counted().await?
            },
            fresh,
            fresh_ttl: FRESH_TTL.to_owned(),
            in_force,
            took: self.began.elapsed(),
            found: self.notes().found.clone(),
            ..Facts::default()
        })
    }

    /// Whether an Event says so, which may come a moment later.
    async fn told(&self, pod: &Touched, reason: &str) -> bool {
        eventually(LIMIT / 2, reason, async || {
            let events = marks::events(&self.namespace, &pod.uid, reason).await?;
            Ok((!events.is_empty()).then_some(()))
        })
        .await
        .is_ok()
    }

    async fn missing(&self, leaving: bool) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        // With the CRD the doors' policy is deleted, and the flags give them less time.
        let doors = DOORS.into_iter().filter(|_| !self.is_removal());
        for name in BYSTANDERS.into_iter().chain(doors) {
            if !leaving && self.namespace.pods().get_opt(name).await?.is_none() {
                missing.push(name.to_owned());
            }
        }
        Ok(missing)
    }

    /// What is known of the doors, in the stores or on the pods.
    async fn counted(&self) -> Result<Vec<Counted>> {
        let records = eventually(LIMIT * 2, "the stores tell", async || {
            holdings::all(&self.namespace.cluster).await.map(Some)
        })
        .await;
        let records = records.unwrap_or_else(|error| {
            self.find(format!("a store cannot be asked: {error:#}"));
            Vec::new()
        });
        let mut counted = Vec::new();
        for (at, name) in DOORS.iter().enumerate() {
            let Some(pod) = self.namespace.pods().get_opt(name).await? else {
                continue;
            };
            let marked = pod.annotations().get(metadata::INTERACTIONS);
            let marked = marked.and_then(|count| count.parse().ok()).unwrap_or(0);
            let uid = uid(&pod)?;
            let stored = records.iter().find(|record| record.pod.uid == uid);
            let stored = stored.map_or(0, |record| record.interactions());
            let admitted = self.notes().admitted[at];
            let recorded = stored.max(marked);
            if self.is_removal() {
                let missing = admitted.saturating_sub(recorded);
                self.figure(format!(
                    "{missing} of {admitted} execs into {name} were not recorded, while Curfew's accounts, rights or \
                     replicas were deleted, as in its removal"
                ));
                continue;
            }
            counted.push(Counted {
                pod: (*name).to_owned(),
                admitted,
                recorded,
            });
        }
        Ok(counted)
    }
}
