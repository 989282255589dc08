//! The one task that owns the state of the node and the store.
//!
//! Everything else talks to it by message through a [`ControllerHandle`]. The task itself never waits for the
//! API server or the disk: effects run as tasks of their own and report back as messages, and so does
//! the writer of the store.

mod error;
pub mod recent_evictions;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use curfew_agent_state::{
    Announcement, BudgetId, BudgetView, Effect, NodeState, Outcome, PodView, StoreLoss, Summary,
};
use curfew_core::{Notice, PodId, Receipt, Record, notice};
use curfew_runtime::time::until;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::error::{Ended, NotRecorded};
use crate::{
    cluster::{executor::Effects, patch},
    controller::recent_evictions::History,
    events,
    server::debug::{NodeSchedule, StoreHealth, Watch, WatchError},
    store::{
        StoreError,
        inspect::Holdings,
        recovery::Opened,
        writer::{StoreWriter, Waiting, Written},
    },
};

/// How many messages may wait for the task. At a start the pods of the whole node come faster than the
/// store opens: they wait with the API server rather than here, in memory that never comes back.
const QUEUE: usize = 64;

/// How many of them are taken at once, so that interactions of the same moment share one sync.
const AT_ONCE: usize = 64;

/// The longest sleep while a deadline lies ahead: a wall clock that jumps is noticed after it.
const LONGEST_NAP: Duration = Duration::from_secs(5);

/// How long messages are still answered after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// The time of day, which tests set.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the task is told or asked.
#[derive(Debug)]
pub(crate) enum Message {
    Notice(Box<Notice>, oneshot::Sender<Result<Receipt, NotRecorded>>),
    PodSeen(PodView),
    PodGone(String),
    ListBegins,
    PodsListed(BTreeSet<String>),
    WatchFailed(String),
    Marked(String, PatchOutcome, Option<PodView>),
    Evicted(String, Outcome),
    BudgetSeen(BudgetId, Option<BudgetView>),
    LookedUp(PodId, LookUp),
    Look(oneshot::Sender<NodeSchedule>),
    Sum(oneshot::Sender<Summary>),
    Dump(oneshot::Sender<Holdings>),
}

impl Message {
    /// Whether the watch of the node's pods showed something by it.
    fn is_of_the_watch(&self) -> bool {
        matches!(
            self,
            Message::PodSeen(_) | Message::PodGone(_) | Message::PodsListed(_)
        )
    }
}

/// What a look-up of a pod brought to light.
#[derive(Debug)]
pub(crate) enum LookUp {
    Found(Box<PodView>),
    Gone,
    Unknown,
}

/// How others reach the controller.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    messages: mpsc::Sender<Message>,
}

impl ControllerHandle {
    async fn tell(&self, message: Message) -> Result<(), Ended> {
        self.messages.send(message).await.map_err(|_| Ended)
    }

    /// Records an interaction; answers once it is on disk.
    ///
    /// # Errors
    /// When it may not be on disk.
    pub async fn record(&self, notice: Notice) -> Result<Receipt, NotRecorded> {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Notice(Box::new(notice), answer)).await?;
        answered.await.map_err(|_| Ended)?
    }

    /// The watch saw a pod.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn pod_seen(&self, pod: PodView) -> Result<(), Ended> {
        self.tell(Message::PodSeen(pod)).await
    }

    /// The watch saw that the pod of that UID is gone.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn pod_gone(&self, uid: String) -> Result<(), Ended> {
        self.tell(Message::PodGone(uid)).await
    }

    /// The watch is about to list the pods of the node.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn list_begins(&self) -> Result<(), Ended> {
        self.tell(Message::ListBegins).await
    }

    /// The watch has listed all pods of the node; these are their UIDs.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn pods_listed(&self, uids: BTreeSet<String>) -> Result<(), Ended> {
        self.tell(Message::PodsListed(uids)).await
    }

    /// The watch of the node's pods failed, and tries again.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn watch_failed(&self, why: String) -> Result<(), Ended> {
        self.tell(Message::WatchFailed(why)).await
    }

    /// A patch of the pod's metadata was answered.
    pub(crate) async fn marked(
        &self,
        uid: String,
        outcome: PatchOutcome,
        pod: Option<PodView>,
    ) -> Result<(), Ended> {
        self.tell(Message::Marked(uid, outcome, pod)).await
    }

    /// A request to evict the pod was answered.
    pub(crate) async fn evicted(&self, uid: String, outcome: Outcome) -> Result<(), Ended> {
        self.tell(Message::Evicted(uid, outcome)).await
    }

    /// The watch of a budget saw it, or that it is gone.
    pub(crate) async fn budget_seen(
        &self,
        id: BudgetId,
        view: Option<BudgetView>,
    ) -> Result<(), Ended> {
        self.tell(Message::BudgetSeen(id, view)).await
    }

    /// A look-up of the pod was answered.
    pub(crate) async fn looked_up(&self, pod: PodId, found: LookUp) -> Result<(), Ended> {
        self.tell(Message::LookedUp(pod, found)).await
    }

    /// What the store holds.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn dump(&self) -> Result<Holdings, Ended> {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Dump(answer)).await?;
        answered.await.map_err(|_| Ended)
    }

    /// The node in numbers.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn summary(&self) -> Result<Summary, Ended> {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Sum(answer)).await?;
        answered.await.map_err(|_| Ended)
    }

    /// The schedule as it stands.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn look(&self) -> Result<NodeSchedule, Ended> {
        let (answer, answered) = oneshot::channel();
        self.tell(Message::Look(answer)).await?;
        answered.await.map_err(|_| Ended)
    }
}

/// The controller.
pub(crate) struct Controller {
    node: String,
    clock: Clock,
    writer: StoreWriter,
    node_state: NodeState,
    effects: Effects,
    inbox: mpsc::Receiver<Message>,
    /// Whether the watch told of an error last. It lists the pods after each, so it shows something once it goes on.
    watch_fails: bool,
    /// What the watch told of last.
    watch_error: Option<WatchError>,
    /// UIDs of records in the store that cannot be read.
    set_aside: Vec<String>,
    history: History,
    /// Whether the process is to end: the successor evicts.
    stopping: bool,
}

/// The channel to the task, and its inbox.
pub(crate) fn channel() -> (ControllerHandle, mpsc::Receiver<Message>) {
    let (messages, inbox) = mpsc::channel(QUEUE);
    (ControllerHandle { messages }, inbox)
}

impl Controller {
    pub(crate) fn new(
        node: String,
        clock: Clock,
        writer: StoreWriter,
        node_state: NodeState,
        effects: Effects,
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            node,
            clock,
            writer,
            node_state,
            effects,
            inbox,
            watch_fails: false,
            watch_error: None,
            set_aside: Vec::new(),
            history: History::default(),
            stopping: false,
        }
    }

    /// Runs until `stop`, and then for as long as it takes to finish what is in hand.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut messages = Vec::with_capacity(AT_ONCE);
        let mut stopping = None;
        // The first batch is empty and opens the store: nothing else is done before that is tried.
        self.writer.begin(&mut self.node_state);
        let opened = self.writer.written().await?;
        self.written(opened)?;
        loop {
            let nap = self.nap();
            tokio::select! {
                // Whoever was told to stop begins nothing more, whatever else has happened meanwhile.
                biased;
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now() + DRAIN);
                    self.stopping = true;
                }
                () = until(stopping) => break,
                written = self.writer.written() => self.written(written?)?,
                _ = self.inbox.recv_many(&mut messages, AT_ONCE) => {}
                () = tokio::time::sleep(nap) => {}
            }
            let now = (self.clock)();
            let mut out = Vec::new();
            for message in messages.drain(..) {
                self.handle(message, now, &mut out);
            }
            self.node_state.tick(now, &mut out);
            self.writer.begin(&mut self.node_state);
            self.start(out, now);
        }
        if self.writer.is_writing() {
            let written = self.writer.written().await?;
            self.written(written)?;
        }
        Ok(())
    }

    fn start(&mut self, effects: Vec<Effect>, now: Timestamp) {
        for effect in effects {
            if self.stopping && matches!(effect, Effect::Evict { .. }) {
                continue;
            }
            if let Effect::Announce(Announcement::Evicted {
                pod,
                decisive,
                eviction_time,
                ..
            }) = &effect
            {
                let did = &decisive.interaction;
                self.history
                    .add(pod, did, Some(*eviction_time), &Outcome::Accepted, now);
            }
            self.effects.start(effect, now);
        }
    }

    fn handle(&mut self, message: Message, now: Timestamp, out: &mut Vec<Effect>) {
        if message.is_of_the_watch() {
            self.watch_fails = false;
        }
        match message {
            Message::Notice(notice, answer)
                if self.writer.takes(&notice.pod.uid, &self.node_state) =>
            {
                self.writer.add(Waiting { notice, answer });
            }
            Message::Notice(_, answer) => drop(answer.send(Err(NotRecorded::Unseen))),
            Message::PodSeen(pod) => self.node_state.seen(pod, now, out),
            Message::PodGone(uid) => self.node_state.gone(&uid, out),
            Message::ListBegins => self.node_state.list_begins(),
            Message::PodsListed(uids) => self.node_state.listed(&uids, now, out),
            Message::WatchFailed(message) => {
                self.watch_fails = true;
                self.watch_error = Some(WatchError { time: now, message });
            }
            Message::Marked(uid, outcome, pod) => {
                if let Some(pod) = pod {
                    self.node_state.answered(pod, now, out);
                }
                self.node_state.marked(&uid, outcome, now, out);
            }
            Message::Evicted(uid, outcome) => {
                self.remember_refusal(&uid, &outcome, now);
                self.node_state.evicted(&uid, outcome, now, out);
            }
            Message::BudgetSeen(id, view) => self.node_state.budget_seen(&id, view, now, out),
            Message::LookedUp(pod, LookUp::Found(view)) if view.id == pod => {
                self.node_state.answered(*view, now, out);
            }
            // Another pod has its name.
            Message::LookedUp(pod, LookUp::Found(_) | LookUp::Gone) => {
                self.node_state.gone(&pod.uid, out);
            }
            Message::LookedUp(_, LookUp::Unknown) => {}
            // Whoever asked may have gone meanwhile.
            Message::Dump(answer) => {
                let _ = answer.send(Holdings {
                    open: self.writer.health().open,
                    records: self
                        .node_state
                        .lines(now)
                        .map(|line| line.record.clone())
                        .collect(),
                    set_aside: self.set_aside.clone(),
                });
            }
            Message::Sum(answer) => {
                let watch_is_well = !self.watch_fails;
                let store = self.writer.health();
                let _ = answer.send(Summary {
                    watched: self.node_state.synced() && watch_is_well,
                    store_open: store.open,
                    store_bytes: store.bytes,
                    ..Summary::of(&self.node_state, now)
                });
            }
            Message::Look(answer) => {
                let store = self.writer.health();
                let _ = answer.send(NodeSchedule::of(
                    &self.node,
                    now,
                    &self.node_state,
                    StoreHealth {
                        open: store.open,
                        bytes: store.bytes,
                        set_aside: self.set_aside.len(),
                    },
                    Watch {
                        failing: self.watch_fails,
                        last_error: self.watch_error.clone(),
                    },
                    &self.history,
                ));
            }
        }
    }

    /// What is accepted is remembered when it is announced: its answer may be lost, and the pod shows it.
    fn remember_refusal(&mut self, uid: &str, outcome: &Outcome, now: Timestamp) {
        if *outcome == Outcome::Accepted {
            return;
        }
        if let Some(record) = self.node_state.record(uid) {
            let did = &record.decisive().interaction;
            self.history
                .add(&record.pod, did, record.eviction_time(), outcome, now);
        }
    }

    /// Answers those who waited for a batch, and takes note of what is durable now.
    ///
    /// # Errors
    /// When only another process can have a store, and nothing is lost with this one.
    fn written(&mut self, written: Written) -> anyhow::Result<()> {
        let now = (self.clock)();
        let mut out = Vec::new();
        let metrics = &self.effects.metrics;
        if let Some(Opened {
            contents,
            moved_to,
            deleted,
        }) = written.opened
        {
            if written.result.is_ok() {
                tracing::info!(
                    node = self.node,
                    records = contents.records.len(),
                    set_aside = contents.aside.len(),
                    "the store is open"
                );
            }
            metrics.set_aside.set(contents.aside.len() as i64);
            let loss = match (moved_to, contents.lost_batches) {
                (Some(path), _) => Some(StoreLoss::Moved(path.display().to_string())),
                (None, _) if deleted => Some(StoreLoss::Deleted),
                (None, 0) => None,
                (None, lost) => Some(StoreLoss::Batches(lost)),
            };
            if let Some(loss) = loss {
                metrics.store_rebuilt.inc();
                out.push(Effect::Announce(Announcement::StoreRebuilt {
                    node: self.node.clone(),
                    loss,
                }));
            }
            self.set_aside = contents.aside;
            self.node_state.restore(contents.records, now, &mut out);
        }
        match written.result {
            Ok(()) => {
                // A batch may be empty, to open the store or to see whether it is in place.
                if !written.batch.is_empty() {
                    let took = self.writer.health().sync;
                    metrics.sync.observe(took.as_secs_f64());
                }
                self.node_state.written(now, &mut out);
                for Waiting { notice, answer } in written.waiting {
                    let Notice { pod, known, .. } = *notice;
                    let before = self.node_state.record(&pod.uid);
                    let before = before.and_then(Record::eviction_time);
                    let record = self.node_state.learned(pod, known.clone(), now, &mut out);
                    // The webhook may have given up; it has recorded it elsewhere then.
                    let _ = answer.send(Ok(receipt(&record)));
                    events::log::stored(&self.node, &known.interaction, before, &record);
                }
            }
            Err(error) => {
                metrics.store_faults.inc();
                // It is tried every second; that it is open is told when that went well.
                if !written.again {
                    tracing::error!(
                        node = self.node, %error, records = written.batch.len(),
                        "the store cannot be written; it is tried again, and interactions are recorded \
                         on the pods meanwhile"
                    );
                }
                for Waiting { answer, .. } in written.waiting {
                    let _ = answer.send(Err(StoreError::Write(error.to_string()).into()));
                }
                self.node_state.not_written(written.batch);
                let needs_another_container =
                    matches!(error, StoreError::NoFolder(_) | StoreError::OldMount(_));
                if needs_another_container && self.node_state.is_on_the_pods() {
                    return Err(error.into());
                }
            }
        }
        self.start(out, now);
        Ok(())
    }

    /// How long nothing is to be done unless a message comes.
    fn nap(&self) -> Duration {
        let now = (self.clock)();
        let next = self.node_state.next_deadline().map_or(Duration::MAX, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        let store = self.writer.next().unwrap_or(Duration::MAX);
        // Timers of the runtime tick in milliseconds: waking one before would mean waking twice.
        let nap = next.min(store).saturating_add(Duration::from_millis(1));
        if nap > LONGEST_NAP && next < Duration::MAX {
            LONGEST_NAP
        } else {
            nap
        }
    }
}

fn receipt(record: &Record) -> Receipt {
    Receipt {
        version: notice::VERSION,
        eviction_time: record.eviction_time(),
        interactions: record.interactions(),
    }
}

#[cfg(test)]
mod tests;
