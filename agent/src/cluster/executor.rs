//! Carries out what was decided: each effect is a task of its own that reports back to the
//! controller, so nothing waits for the API server.

use std::{collections::BTreeMap, sync::Arc};

use curfew_agent_state::{BudgetId, Effect};
use curfew_core::PodId;
use curfew_runtime::api;
use jiff::Timestamp;
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster::{acting_as::NodeUser, budget_watch, evict, patch, pod_watch::WatchedPod},
    controller::{ControllerHandle, LookUp},
    events::{Told, log},
    metrics::Metrics,
};

/// How many patches and look-ups may be open at a time.
const OPEN_REQUESTS: usize = 8;

/// How many announcements may wait for the API server; what comes on top is logged and counted only.
const ANNOUNCEMENTS: usize = 1024;

/// The hands of the controller.
pub(crate) struct Effects {
    client: Client,
    user: NodeUser,
    controller: ControllerHandle,
    open: Arc<Semaphore>,
    announcements: mpsc::Sender<Told>,
    node: Arc<str>,
    /// The budgets that are watched, for as long as the handles are kept.
    watches: BTreeMap<BudgetId, AbortOnDropHandle<()>>,
    pub(crate) metrics: Metrics,
}

impl Effects {
    /// The hands, and what the task that posts Events is to read.
    pub(crate) fn new(
        client: Client,
        user: NodeUser,
        node: &str,
        controller: ControllerHandle,
        metrics: Metrics,
    ) -> (Self, mpsc::Receiver<Told>) {
        let (announcements, told) = mpsc::channel(ANNOUNCEMENTS);
        let effects = Self {
            client,
            user,
            controller,
            open: Arc::new(Semaphore::new(OPEN_REQUESTS)),
            announcements,
            node: node.into(),
            watches: BTreeMap::new(),
            metrics,
        };
        (effects, told)
    }

    /// Starts an effect.
    pub(crate) fn start(&mut self, effect: Effect, now: Timestamp) {
        let (client, controller) = (self.client.clone(), self.controller.clone());
        let (open, node) = (self.open.clone(), self.node.clone());
        match effect {
            Effect::Announce(announcement) => {
                log::announcement(&node, &announcement);
                self.metrics.count(&announcement, now);
                if self.announcements.try_send((announcement, now)).is_err() {
                    self.metrics.events_dropped.inc();
                }
            }
            Effect::Evict { pod, id, seen } => {
                let (user, evictions) = (self.user.clone(), self.metrics.evictions.clone());
                tokio::spawn(async move {
                    let outcome = evict::evict(&client, &user, &pod, seen.as_ref(), now).await;
                    tracing::debug!(
                        node = &*node, %pod, uid = pod.uid, id, outcome = outcome.as_str(),
                        answer = outcome.message(), "asked for an eviction"
                    );
                    evictions.with_label_values(&[outcome.as_str()]).inc();
                    let _ = controller.evicted(pod.uid, outcome).await;
                });
            }
            Effect::Mark(change) => {
                tokio::spawn(async move {
                    let Ok(_permit) = open.acquire().await else {
                        return;
                    };
                    let (outcome, pod) = patch::apply(client, &node, &change).await;
                    let _ = controller.marked(change.pod.uid, outcome, pod).await;
                });
            }
            Effect::LogEnd { pod, id, ids } => {
                let uid = &pod.uid;
                tracing::info!(node = &*node, %pod, uid, id, ids, "gone");
            }
            Effect::LookUp(pod) => {
                tokio::spawn(async move {
                    let Ok(_permit) = open.acquire().await else {
                        return;
                    };
                    let found = look_up(client, &node, &pod).await;
                    let _ = controller.looked_up(pod, found).await;
                });
            }
            Effect::WatchBudget(id) => {
                let watch = self.metrics.watches.open("budgets");
                let watch =
                    tokio::spawn(budget_watch::watch(watch, client, id.clone(), controller));
                self.watches.insert(id, AbortOnDropHandle::new(watch));
            }
            Effect::UnwatchBudget(id) => {
                self.watches.remove(&id);
            }
        }
    }
}

/// What the API server has under the pod's name. A pod never changes its node: one of another node is
/// none of ours.
async fn look_up(client: Client, node: &str, pod: &PodId) -> LookUp {
    let pods: Api<WatchedPod> = Api::namespaced(client, &pod.namespace);
    match api::call(pods.get_opt(&pod.name)).await {
        Ok(Some(found)) if found.is_on(node) => LookUp::Found(Box::new(found.into())),
        Ok(Some(_) | None) => LookUp::Gone,
        // It is asked again after a while.
        Err(_) => LookUp::Unknown,
    }
}
