//! Watches of pods, as agents have them and as one central program would, and writes for them to see.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_core::PodId;
use curfew_e2e::{eventually, figures::Distribution};
use curfew_runtime::{
    metrics::Catalog,
    watch::{Watch, Watches},
};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher::Event,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{fleet::Fleet, member::Member};

/// How long lists may take.
const LISTED: Duration = Duration::from_secs(60);
/// How long the last events may be on their way.
const SEEN: Duration = Duration::from_secs(30);

/// A pod of which almost nothing is kept, as agents do it.
#[derive(Debug, Clone, Serialize, Deserialize, Resource)]
#[resource(inherit = "Pod")]
struct ListedPod {
    metadata: ObjectMeta,
}

/// Open watches, until they are dropped.
pub(super) struct Watchers {
    /// How long each took until it had its list.
    listed: Vec<Duration>,
    seen: Arc<AtomicU64>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

impl Watchers {
    /// One for each agent, all begun at the same time.
    pub(super) async fn of_nodes(crew: &[Member]) -> Result<Self> {
        let of = crew.iter().map(|member| {
            let of_node = format!("spec.nodeName={}", member.node);
            (
                member.client.clone(),
                ListParams::default().fields(&of_node),
            )
        });
        Self::begin(of.collect()).await
    }

    /// One of all pods of the nodes.
    pub(super) async fn of_all(fleet: &Fleet, nodes: usize) -> Result<Self> {
        ensure!(nodes > 0, "there are no nodes");
        let client = fleet.cluster.client.clone();
        Self::begin(vec![(client, ListParams::default())]).await
    }

    async fn begin(all: Vec<(Client, ListParams)>) -> Result<Self> {
        let watches = Watches::new("bench", &["pods"], &mut Catalog::default())?;
        let seen = Arc::new(AtomicU64::new(0));
        let (tell, mut told) = mpsc::channel(all.len().max(1));
        let count = all.len();
        let began = Instant::now();
        let running = all.into_iter().map(|(client, which)| {
            let (watch, tell) = (watches.open("pods"), tell.clone());
            let following = follow(watch, client, which, Arc::clone(&seen), tell);
            AbortOnDropHandle::new(tokio::spawn(following))
        });
        let running: Vec<_> = running.collect();
        let mut listed = Vec::with_capacity(count);
        while listed.len() < count {
            let next = timeout(LISTED, told.recv()).await;
            next.with_context(|| format!("{} of {count} watches have a list", listed.len()))?
                .context("the watches ended")?;
            listed.push(began.elapsed());
        }
        Ok(Self {
            listed,
            seen,
            _watches: running,
        })
    }

    /// How soon half of them, and almost all, had their lists.
    pub(super) fn listed(&self) -> Result<(Duration, Duration)> {
        let listed = Distribution::of(self.listed.clone()).context("there are no watches")?;
        Ok((listed.percentile(50), listed.percentile(99)))
    }

    /// Waits until so many changes were seen: else the watches were not open, and cost nothing.
    pub(super) async fn has_seen(&self, changes: u64) -> Result<()> {
        eventually(SEEN, "the watches have seen all changes", async || {
            let seen = self.seen.load(Ordering::Relaxed);
            ensure!(seen >= changes, "{seen} of {changes}");
            Ok(Some(()))
        })
        .await
    }
}

/// Counts what a watch shows, and tells when it has its first list.
async fn follow(
    watch: Watch,
    client: Client,
    which: ListParams,
    seen: Arc<AtomicU64>,
    tell: mpsc::Sender<()>,
) {
    let mut events = pin!(watch.events(Api::<ListedPod>::all(client), which));
    let mut tell = Some(tell);
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitDone)) => {
                if let Some(tell) = tell.take() {
                    // Nobody waits any more where it came too late.
                    let _ = tell.send(()).await;
                }
            }
            Ok(Some(Event::Apply(_))) => {
                seen.fetch_add(1, Ordering::Relaxed);
            }
            // What fails is tried again; what was missed then is missing in the count.
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => return,
        }
    }
}

/// Writes the status of one pod after the other, so many times a second, and returns how many times.
pub(super) async fn write(fleet: &Fleet, pods: &[PodId], rate: u32, seconds: u32) -> Result<u64> {
    let slot = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let all = fleet.namespace.pods();
    let mut written = JoinSet::new();
    for (at, pod) in (0..rate * seconds).zip(pods.iter().cycle()) {
        sleep_until((start + slot * at).into()).await;
        let (all, name) = (all.clone(), pod.name.clone());
        written.spawn(async move {
            // Each is another: what changes nothing is no event.
            let message = format!("{at} at {}", Timestamp::now());
            let status = json!({"status": {"message": message}});
            let params = PatchParams::default();
            all.patch_status(&name, &params, &Patch::Merge(status))
                .await
        });
    }
    let mut count = 0;
    while let Some(answered) = written.join_next().await {
        answered??;
        count += 1;
    }
    Ok(count)
}
