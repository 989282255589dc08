//! Carries out the decisions. Each action is a task, so the controller does not wait for the API server.
//!
//! The executor owns the tasks and notices the end of each. If an action panics, it is counted and reported as a
//! failed action, so the controller retries it like any other. If a watch panics, it is started again.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use curfew_agent_state::{
    AgentAction, BudgetId, EvictionAnswer, EvictionOutcome, PatchOutcome, PodPatch, PodView,
};
use curfew_core::PodId;
use curfew_runtime::api;
use jiff::Timestamp;
use kube::Client;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::sleep,
};

use super::{
    Observation,
    acting_as::NodeUser,
    budget_watch, evict, patch,
    read::{self, PodRead},
};
use crate::{evidence::EvidenceHandle, metrics::Metrics};

/// How many patches and look-ups may be open at a time.
const OPEN_REQUESTS: usize = 8;

/// How many reports are taken at once.
const AT_ONCE: usize = 64;

/// How long after a panic a watch is begun again.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// What came of an action.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    /// A patch of a pod's metadata was answered, if need be with the pod.
    Patched(PodPatch, PatchOutcome, Option<Box<PodView>>),
    /// A request to evict the pod was answered.
    Evicted(EvictionAnswer),
    /// A pod was looked up.
    LookedUp(PodId, LookUp),
    /// The watch of a budget has ended.
    Unwatched(BudgetId),
}

impl Report {
    /// The name of the action, as it is counted.
    fn action(&self) -> &'static str {
        match self {
            Report::Patched(..) => "patch",
            Report::Evicted(_) => "evict",
            Report::LookedUp(..) => "look_up",
            Report::Unwatched(_) => "watch_budget",
        }
    }
}

/// What a look-up of a pod brought to light.
#[derive(Debug, Clone)]
pub(crate) enum LookUp {
    Found(Box<PodView>),
    Gone,
    Unknown,
}

/// Owns the actions in flight.
pub(crate) struct Executor {
    /// Acts as the agent's own account.
    client: Client,
    user: NodeUser,
    /// Reads and evicts pods as the user.
    pods: Client,
    node: Arc<str>,
    metrics: Metrics,
    observations: mpsc::Sender<Observation>,
    evidence: EvidenceHandle,
    open: Arc<Semaphore>,
    tasks: JoinSet<Report>,
    /// What is reported of a task that panics.
    failures: HashMap<Id, Report>,
    /// The budgets that are watched.
    watches: BTreeMap<BudgetId, AbortHandle>,
}

impl Executor {
    /// An executor whose watches report there.
    pub(crate) fn new(
        client: Client,
        user: NodeUser,
        node: &str,
        metrics: Metrics,
        observations: mpsc::Sender<Observation>,
        evidence: EvidenceHandle,
    ) -> Self {
        Self {
            pods: user.client(client.clone()),
            client,
            user,
            node: node.into(),
            metrics,
            observations,
            evidence,
            open: Arc::new(Semaphore::new(OPEN_REQUESTS)),
            tasks: JoinSet::new(),
            failures: HashMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// Starts an action, which was decided now.
    pub(crate) fn start(&mut self, action: AgentAction, now: Timestamp) {
        let (client, pods, node) = (self.client.clone(), self.pods.clone(), self.node.clone());
        match action {
            AgentAction::Evict(request) => {
                let panicked = EvictionOutcome::Transient {
                    why: "the request panicked".to_owned(),
                    wait: None,
                };
                let failure = Report::Evicted(request.clone().answered(panicked));
                let user = self.user.clone();
                self.spawn(failure, async move {
                    let outcome = evict::evict(&pods, &user, &node, &request, now).await;
                    Report::Evicted(request.answered(outcome))
                });
            }
            AgentAction::Patch(change) => {
                let why = "the request panicked".to_owned();
                let failure = Report::Patched(change.clone(), PatchOutcome::Failed(why), None);
                self.spawn_in_turn(failure, || async move {
                    let (outcome, pod) = patch::apply(client, &pods, &node, &change).await;
                    Report::Patched(change, outcome, pod.map(Box::new))
                });
            }
            AgentAction::LookUp(pod) => {
                let failure = Report::LookedUp(pod.clone(), LookUp::Unknown);
                self.spawn_in_turn(failure, || async move {
                    let found = look_up(&pods, &node, &pod).await;
                    Report::LookedUp(pod, found)
                });
            }
            AgentAction::WatchBudget(id) => self.watch(id, Duration::ZERO),
            // The answer comes like what the watches see.
            AgentAction::Look { pod, since } => self.evidence.look(&pod, since),
            AgentAction::UnwatchBudget(id) => {
                if let Some(watch) = self.watches.remove(&id) {
                    watch.abort();
                }
            }
        }
    }

    fn watch(&mut self, id: BudgetId, pause: Duration) {
        let watch = self.metrics.watches.open("budgets");
        let (client, observations) = (self.client.clone(), self.observations.clone());
        let budget = id.clone();
        let handle = self.spawn(Report::Unwatched(id.clone()), async move {
            sleep(pause).await;
            budget_watch::watch(watch, client, budget.clone(), observations).await;
            Report::Unwatched(budget)
        });
        if let Some(former) = self.watches.insert(id, handle) {
            former.abort();
        }
    }

    /// Spawns what only so many may do at a time. A task that waits for its turn holds no room for its request.
    fn spawn_in_turn<F: Future<Output = Report> + Send>(
        &mut self,
        failure: Report,
        begin: impl FnOnce() -> F + Send + 'static,
    ) {
        let open = self.open.clone();
        self.spawn(failure, async move {
            let _permit = open.acquire().await;
            Box::pin(begin()).await
        });
    }

    fn spawn(
        &mut self,
        failure: Report,
        task: impl Future<Output = Report> + Send + 'static,
    ) -> AbortHandle {
        let handle = self.tasks.spawn(task);
        self.failures.insert(handle.id(), failure);
        handle
    }

    /// Waits until an action has ended, and reports it; for ever when none is in flight.
    pub(crate) async fn ended(&mut self, reports: &mut Vec<Report>) {
        while reports.is_empty() {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.take(ended, reports),
                None => pending().await,
            }
        }
    }

    /// Reports the actions that have ended by now.
    pub(crate) fn take_ended(&mut self, reports: &mut Vec<Report>) {
        while reports.len() < AT_ONCE
            && let Some(ended) = self.tasks.try_join_next_with_id()
        {
            self.take(ended, reports);
        }
    }

    fn take(&mut self, ended: Result<(Id, Report), JoinError>, reports: &mut Vec<Report>) {
        let report = match ended {
            Ok((id, report)) => {
                self.failures.remove(&id);
                report
            }
            Err(error) => {
                let Some(failure) = self.failures.remove(&error.id()) else {
                    return;
                };
                // A watch of a budget that nobody waits for any more.
                if error.is_cancelled() {
                    return;
                }
                let action = failure.action();
                self.metrics.panicked(action);
                tracing::error!(
                    event = "action-panicked", node = &*self.node, action, error = %error,
                    "an action panicked; it is tried again"
                );
                failure
            }
        };
        match report {
            Report::Unwatched(id) => {
                if self.watches.contains_key(&id) {
                    self.watch(id, WATCH_PAUSE);
                }
            }
            report => reports.push(report),
        }
    }
}

/// What the API server has under the pod's name.
async fn look_up(pods: &Client, node: &str, pod: &PodId) -> LookUp {
    match api::call(read::pod(pods, node, pod)).await {
        Ok(PodRead::Found(found)) => LookUp::Found(Box::new(found.into())),
        Ok(PodRead::Nothing) => LookUp::Gone,
        // It is asked again after a while.
        Ok(PodRead::Refused(_)) | Err(_) => LookUp::Unknown,
    }
}
