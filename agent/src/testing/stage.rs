//! The agent's controller with all that it works on, in the runtime's time: a scripted API server, a store
//! in memory, and a clock on the wall that tests set. There is no thread, no socket and no file in it, so
//! what a test sees does not depend on how fast the machine is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use curfew_agent_state::{EvictionOutcome, Evidence, NodeSettings, NodeState};
use curfew_core::{Notice, PodId, RecordedInteraction};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    api::{self, ApiServer, Target},
    at,
    disk::Disk,
    dry_shell, shell,
};
use crate::{
    cluster::{self, acting_as::NodeUser, executor::Executor, pod_watch},
    controller::{
        self, ControllerHandle, ScheduledPod,
        run::{Clock, Controller, Parts},
    },
    events::{self, EventRecorder},
    evidence::{EvidenceHandle, PodsOnNode},
    metrics::Metrics,
    store::writer::StoreWriter,
};

pub(crate) const NODE: &str = "node-1";
const NAMESPACE: &str = "shop";

/// The clock on the wall: it shows [`at`]`(0)` when the stage is set, goes with the runtime's time, and
/// jumps when it is told to.
#[derive(Clone)]
pub(crate) struct WallClock {
    begun: Instant,
    jumped: Arc<AtomicI64>,
}

impl WallClock {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            jumped: Arc::default(),
        }
    }

    pub(crate) fn jump(&self, seconds: i64) {
        self.jumped.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        let jumped = SignedDuration::from_secs(self.jumped.load(Ordering::SeqCst));
        at(0) + self.begun.elapsed() + jumped
    }

    pub(crate) fn clock(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || this.now())
    }
}

/// A running agent without its ports.
pub(crate) struct Agent {
    pub(crate) controller: ControllerHandle,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    metrics: Metrics,
}

impl Agent {
    /// How many answers to evictions were counted, by their meaning, leaving out those that never came.
    pub(crate) fn results(&self) -> BTreeMap<&'static str, u64> {
        let count = |name| self.metrics.evictions.with_label_values(&[name]).get();
        let names = EvictionOutcome::results().map(|name| &*name.leak());
        let counts = names.map(|name| (name, count(name)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How many actions of this name panicked.
    pub(crate) fn panicked(&self, action: &str) -> f64 {
        self.counted("curfew_agent_actions_panicked_total", action)
    }

    /// The value of a counter whose only label has this value.
    fn counted(&self, name: &str, label: &str) -> f64 {
        let families = self.metrics.catalog().gather();
        let family = families.iter().find(|family| family.name() == name);
        let counts = family.unwrap().get_metric();
        let count = counts
            .iter()
            .find(|count| count.get_label()[0].value() == label);
        count.unwrap().get_counter().get_value()
    }

    /// Whether it says that the watch of its pods is complete and well, and how often it failed.
    pub(crate) async fn watch(&self) -> (bool, u64) {
        let summary = self.controller.summary().await.unwrap();
        let errors = self.counted("curfew_agent_watch_errors_total", "pods");
        (summary.watched, errors as u64)
    }

    /// The only pod of its schedule; none when that is empty.
    pub(crate) async fn only(&self) -> Option<ScheduledPod> {
        let mut records = self.controller.look().await.unwrap().records;
        assert!(records.len() < 2, "{records:#?}");
        records.pop()
    }

    /// Stops it as SIGTERM does, and waits until it has ended.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// The agent's world.
pub(crate) struct Stage {
    pub(crate) api: ApiServer,
    pub(crate) disk: Disk,
    pub(crate) wall: WallClock,
    /// As whom the agent reads and evicts pods.
    pub(crate) node_user: NodeUser,
    begun: Instant,
    most_evictions: usize,
}

impl Stage {
    /// An empty node; up to so many eviction requests may be open at a time.
    pub(crate) fn set(most_evictions: usize) -> Self {
        // Pauses that are cut by chance are the same in each run.
        fastrand::seed(1);
        Self {
            api: api::guarded(),
            disk: Disk::default(),
            wall: WallClock::new(),
            node_user: NodeUser::own_account(),
            begun: Instant::now(),
            most_evictions,
        }
    }

    /// Starts an agent, on what the one before left, and waits until it is ready.
    pub(crate) async fn start(&self) -> Agent {
        let metrics = Metrics::new().unwrap();
        let client = api::client(&self.api, metrics.watches.reach());
        let (controller, inbox) = controller::handle();
        let (observed, observations) = cluster::observations();
        let (recorder, events) = EventRecorder::new(NODE, metrics.clone());
        let task = Controller::new(Parts {
            node: NODE.to_owned(),
            clock: self.wall.clock(),
            state: NodeState::new(NodeSettings {
                max_evictions: self.most_evictions,
                blocked_after: Duration::from_secs(3600),
                evidence: Evidence::Off,
            }),
            writer: StoreWriter::new(self.disk.of_an_agent(), metrics.sync.clone()),
            executor: Executor::new(
                client.clone(),
                self.node_user.clone(),
                NODE,
                metrics.clone(),
                observed.clone(),
                EvidenceHandle::default(),
            ),
            recorder,
            evidence: EvidenceHandle::default(),
            inbox,
            observations,
        });
        let stop = CancellationToken::new();
        let reporter = "curfew-agent-x".to_owned();
        tokio::spawn(events::post_all(
            client.clone(),
            reporter,
            metrics.clone(),
            events,
        ));
        let watch = metrics.watches.open("pods");
        let pods = self.node_user.client(client);
        let watch = pod_watch::watch(
            watch,
            pods,
            NODE,
            observed,
            PodsOnNode::new(EvidenceHandle::default()),
        );
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch));
        let agent = Agent {
            task: tokio::spawn(task.run(stop.clone())),
            controller,
            stop,
            metrics,
        };
        while !agent.controller.look().await.unwrap().synced {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        agent
    }

    /// Makes a running pod with no grace.
    pub(crate) fn pod(&self, name: &str, priority: i32) {
        self.pod_with(name, priority, 0, true);
    }

    /// Makes a running pod that takes so many seconds to end.
    pub(crate) fn pod_with_grace(&self, name: &str, priority: i32, grace: u64) {
        self.pod_with(name, priority, grace, true);
    }

    /// Makes a running pod that is not ready.
    pub(crate) fn unready_pod(&self, name: &str) {
        self.pod_with(name, 0, 0, false);
    }

    fn pod_with(&self, name: &str, priority: i32, grace: u64, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let PodId {
            namespace,
            name,
            uid,
        } = id(name);
        self.api.put(
            "pods",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": namespace, "name": name, "uid": uid},
                "spec": {"nodeName": NODE, "priority": priority,
                         "terminationGracePeriodSeconds": grace},
                "status": {"phase": "Running",
                           "conditions": [{"type": "Ready", "status": ready}]},
            }),
        );
    }

    /// Makes the budget `web`, or changes it.
    pub(crate) fn budget(&self, generation: i64, policy: &str, allowed: i32) {
        self.api.put(
            "poddisruptionbudgets",
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"namespace": NAMESPACE, "name": "web", "generation": generation},
                "spec": {"minAvailable": 2, "unhealthyPodEvictionPolicy": policy},
                "status": {"observedGeneration": generation, "disruptionsAllowed": allowed,
                           "currentHealthy": 1 + allowed, "desiredHealthy": 2, "expectedPods": 3},
            }),
        );
    }

    /// Takes the budget `web` away.
    pub(crate) fn no_budget(&self) {
        self.remove("poddisruptionbudgets", "web");
    }

    /// Takes the pod away.
    pub(crate) fn gone(&self, name: &str) {
        self.remove("pods", name);
    }

    fn remove(&self, resource: &str, name: &str) {
        let target = Target::object(resource, NAMESPACE, name);
        self.api.remove(&target);
    }

    /// Somebody opens a shell in the pod now, by the webhook's clock, which never jumps; it gives the
    /// pod ten minutes. Returns when it is recorded.
    pub(crate) async fn exec(&self, agent: &Agent, pod: &str) {
        let second = self.begun.elapsed().as_secs() as i64;
        let recorded = agent.controller.record(notice(pod, shell(second))).await;
        recorded.unwrap();
    }

    /// The same on terms that are a dry run.
    pub(crate) async fn exec_dry(&self, agent: &Agent, pod: &str) {
        let second = self.begun.elapsed().as_secs() as i64;
        let recorded = agent.controller.record(notice(pod, dry_shell(second)));
        recorded.await.unwrap();
    }

    /// Seconds since the stage was set.
    pub(crate) fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Waits until so many seconds after the stage was set.
    pub(crate) async fn until(&self, seconds: f64) {
        tokio::time::sleep_until(self.begun + Duration::from_secs_f64(seconds)).await;
    }
}

/// The webhook's notice that this was done to a pod.
pub(crate) fn notice(pod: &str, known: RecordedInteraction) -> Notice {
    Notice {
        version: curfew_core::notice::VERSION,
        node: NODE.to_owned(),
        pod: id(pod),
        known,
        sent: None,
    }
}

/// The pod of that name.
fn id(name: &str) -> PodId {
    PodId {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}
