//! The one task that owns the schedule and the store.
//!
//! Everything else talks to it by message through a [`Schedule`]. The task itself never waits for the
//! API server or the disk: effects run as tasks of their own and report back as messages, and at most
//! one batch of records is being written at a time, while the next one gathers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use curfew_core::{Notice, PodId, Receipt, Record, notice};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    debug::NodeSchedule,
    effects::Effects,
    evict,
    ledger::{Effect, Ledger},
    mark,
    pods::PodView,
    store::{Batch, Store, StoreError},
};

/// How many messages may wait for the task.
const QUEUE: usize = 1024;

/// How many of them are taken at once, so that interactions of the same moment share one sync.
const AT_ONCE: usize = 128;

/// The longest sleep while a deadline lies ahead: a wall clock that jumps is noticed after it.
const LONGEST_NAP: Duration = Duration::from_secs(5);

/// How long messages are still answered after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// The time of day, which tests set.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the task is told or asked.
#[derive(Debug)]
pub(crate) enum Message {
    Notice(Box<Notice>, oneshot::Sender<Result<Receipt, StoreError>>),
    PodSeen(PodView),
    PodGone(String),
    PodsListed(BTreeSet<String>),
    Marked(String, mark::Outcome, Option<PodView>),
    Evicted(String, evict::Outcome),
    LookedUp(PodId, LookUp),
    Look(oneshot::Sender<NodeSchedule>),
}

/// What a look-up of a pod brought to light.
#[derive(Debug)]
pub(crate) enum LookUp {
    Found(PodView),
    Gone,
    Unknown,
}

/// The task is gone, and with it the process is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the schedule has ended")]
pub struct Ended;

/// Why an interaction was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent is stopping.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// How others reach the task.
#[derive(Debug, Clone)]
pub struct Schedule {
    messages: mpsc::Sender<Message>,
}

impl Schedule {
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
        Ok(answered.await.map_err(|_| Ended)??)
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

    /// The watch has listed all pods of the node; these are their UIDs.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn pods_listed(&self, uids: BTreeSet<String>) -> Result<(), Ended> {
        self.tell(Message::PodsListed(uids)).await
    }

    /// A patch of the pod's metadata was answered.
    pub(crate) async fn marked(
        &self,
        uid: String,
        outcome: mark::Outcome,
        pod: Option<PodView>,
    ) -> Result<(), Ended> {
        self.tell(Message::Marked(uid, outcome, pod)).await
    }

    /// A request to evict the pod was answered.
    pub(crate) async fn evicted(&self, uid: String, outcome: evict::Outcome) -> Result<(), Ended> {
        self.tell(Message::Evicted(uid, outcome)).await
    }

    /// A look-up of the pod was answered.
    pub(crate) async fn looked_up(&self, pod: PodId, found: LookUp) -> Result<(), Ended> {
        self.tell(Message::LookedUp(pod, found)).await
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

/// An interaction that waits for the disk.
type Waiting = (Box<Notice>, oneshot::Sender<Result<Receipt, StoreError>>);

/// A batch on its way to the disk.
struct Commit {
    writing: JoinHandle<Result<(), StoreError>>,
    batch: Batch,
    waiting: Vec<Waiting>,
}

/// The task.
pub(crate) struct Task {
    node: String,
    clock: Clock,
    store: Store,
    ledger: Ledger,
    effects: Effects,
    inbox: mpsc::Receiver<Message>,
    /// Interactions that came while a batch was being written.
    waiting: Vec<Waiting>,
    commit: Option<Commit>,
    /// When a batch that failed is tried again.
    store_rests_until: Option<tokio::time::Instant>,
}

/// The channel to the task, and its inbox.
pub(crate) fn channel() -> (Schedule, mpsc::Receiver<Message>) {
    let (messages, inbox) = mpsc::channel(QUEUE);
    (Schedule { messages }, inbox)
}

/// How long to leave a store alone that just failed, unless a new interaction asks for it.
const STORE_REST: Duration = Duration::from_secs(1);

impl Task {
    pub(crate) fn new(
        node: String,
        clock: Clock,
        store: Store,
        ledger: Ledger,
        effects: Effects,
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            node,
            clock,
            store,
            ledger,
            effects,
            inbox,
            waiting: Vec::new(),
            commit: None,
            store_rests_until: None,
        }
    }

    /// Runs until `stop`, and then for as long as it takes to finish what is in hand.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut messages = Vec::with_capacity(AT_ONCE);
        let mut stopping = None;
        loop {
            let nap = self.nap();
            tokio::select! {
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(tokio::time::Instant::now() + DRAIN);
                }
                () = until(stopping) => break,
                written = written(&mut self.commit) => self.committed(written),
                _ = self.inbox.recv_many(&mut messages, AT_ONCE) => {}
                () = tokio::time::sleep(nap) => {}
            }
            let now = (self.clock)();
            let mut out = Vec::new();
            for message in messages.drain(..) {
                self.handle(message, now, &mut out);
            }
            self.ledger.tick(now, &mut out);
            if stopping.is_some() {
                // The successor evicts; what people were told of is told now or by it.
                out.retain(|effect| !matches!(effect, Effect::Evict(_)));
            }
            self.begin_commit();
            for effect in out {
                self.effects.start(effect, now);
            }
        }
        if let Some(commit) = self.commit.take() {
            let written = commit.writing.await;
            self.answer(commit.batch, commit.waiting, flatten(written));
        }
        Ok(())
    }

    fn handle(&mut self, message: Message, now: Timestamp, out: &mut Vec<Effect>) {
        match message {
            Message::Notice(notice, answer) => self.waiting.push((notice, answer)),
            Message::PodSeen(pod) => self.ledger.seen(pod, now, out),
            Message::PodGone(uid) => self.ledger.gone(&uid, out),
            Message::PodsListed(uids) => self.ledger.listed(&uids, now, out),
            Message::Marked(uid, outcome, pod) => {
                if let Some(pod) = pod {
                    self.ledger.answered(pod, now, out);
                }
                self.ledger.marked(&uid, outcome, now, out);
            }
            Message::Evicted(uid, outcome) => self.ledger.evicted(&uid, outcome, now, out),
            Message::LookedUp(pod, LookUp::Found(view)) if view.id == pod => {
                self.ledger.answered(view, now, out);
            }
            // Another pod has its name.
            Message::LookedUp(pod, LookUp::Found(_) | LookUp::Gone) => {
                self.ledger.gone(&pod.uid, out);
            }
            Message::LookedUp(_, LookUp::Unknown) => {}
            Message::Look(answer) => {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(NodeSchedule::of(&self.node, &self.ledger, now));
            }
        }
    }

    /// Starts to write what has gathered, when nothing is being written.
    fn begin_commit(&mut self) {
        let rests = self
            .store_rests_until
            .is_some_and(|until| tokio::time::Instant::now() < until);
        if self.commit.is_some() || (rests && self.waiting.is_empty()) {
            return;
        }
        let mut batch = self.ledger.take_dirty();
        let waiting = std::mem::take(&mut self.waiting);
        for (notice, _) in &waiting {
            // Two interactions with one pod may wait for the same batch.
            let record = match batch.get_mut(&notice.pod.uid) {
                Some(Some(record)) => {
                    record.learn(notice.known.clone());
                    continue;
                }
                _ => self.ledger.with(&notice.pod, &notice.known),
            };
            batch.insert(notice.pod.uid.clone(), Some(record));
        }
        if batch.is_empty() {
            return;
        }
        let (store, bytes) = (self.store.clone(), batch.clone());
        let writing = tokio::task::spawn_blocking(move || store.commit(&bytes));
        self.commit = Some(Commit {
            writing,
            batch,
            waiting,
        });
    }

    fn committed(&mut self, written: Result<(), StoreError>) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        self.answer(commit.batch, commit.waiting, written);
    }

    /// Tells those who waited for the batch, and lets the ledger know what is durable now.
    fn answer(&mut self, batch: Batch, waiting: Vec<Waiting>, written: Result<(), StoreError>) {
        let now = (self.clock)();
        let mut out = Vec::new();
        match written {
            Ok(()) => {
                self.store_rests_until = None;
                for (notice, answer) in waiting {
                    let Notice { pod, known, .. } = *notice;
                    let record = self.ledger.learned(pod, known, now, &mut out);
                    let _ = answer.send(Ok(receipt(&record)));
                }
            }
            Err(error) => {
                tracing::error!(node = self.node, %error, records = batch.len(), "cannot write records");
                self.effects.metrics.store_faults.inc();
                self.store_rests_until = Some(tokio::time::Instant::now() + STORE_REST);
                for (_, answer) in waiting {
                    let _ = answer.send(Err(StoreError::Write(error.to_string())));
                }
                self.ledger.not_written(batch);
            }
        }
        for effect in out {
            self.effects.start(effect, now);
        }
    }

    /// How long nothing is to be done unless a message comes.
    fn nap(&self) -> Duration {
        let now = (self.clock)();
        let next = self.ledger.next_tick().map_or(Duration::MAX, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        let store = self.store_rests_until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(tokio::time::Instant::now())
        });
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
        eviction_time: record.deadline(),
        interactions: record.interactions(),
    }
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn written(commit: &mut Option<Commit>) -> Result<(), StoreError> {
    match commit {
        Some(commit) => flatten((&mut commit.writing).await),
        None => std::future::pending().await,
    }
}

/// sled may panic on a broken disk; that is a failure to write like others.
fn flatten(
    written: Result<Result<(), StoreError>, tokio::task::JoinError>,
) -> Result<(), StoreError> {
    written.unwrap_or_else(|error| Err(StoreError::Write(error.to_string())))
}
