//! Writes records to the disk, one batch at a time. New interactions are collected for the next batch in the
//! meantime.
//!
//! Interactions of the same moment share one sync. When a batch is written or has failed, the controller answers the
//! requests whose interactions it contains.

use std::{
    collections::BTreeSet,
    future::pending,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use curfew_agent_state::NodeState;
use curfew_core::{Notice, Receipt};
use futures::future::BoxFuture;
use prometheus::Histogram;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Batch, NotRecorded, StoreError,
    recovery::{Opened, RecoveringStore},
};

/// How long a store that failed is left alone, unless a new interaction asks for it.
const REST: Duration = Duration::from_secs(1);

/// How many pods may have a record although the watch has not shown them. A notice may be faster than the watch, but
/// this does not happen for so many pods at once. Notices about more pods are about pods that do not exist.
pub(crate) const MAX_UNSEEN: usize = 128;

/// How often it is looked whether the store is still in place.
const LOOK: Duration = Duration::from_secs(2);

/// An interaction that waits for the disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) notice: Box<Notice>,
    pub(crate) answer: oneshot::Sender<Result<Receipt, NotRecorded>>,
}

/// A batch that was written, or was not.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) batch: Batch,
    pub(crate) waiting: Vec<Waiting>,
    /// The store had to be opened for it, and holds this.
    pub(crate) opened: Option<Opened>,
    pub(crate) result: Result<(), StoreError>,
    /// Whether the batch before it was not written.
    pub(crate) again: bool,
}

/// How the store is, for those who look into the agent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Health {
    /// Whether the store is open and its last write was good.
    pub(crate) open: bool,
    /// Its size on disk in bytes, when it was last written.
    pub(crate) bytes: u64,
    /// How long its last write took, sync included.
    pub(crate) sync: Duration,
}

/// Where batches go, one at a time. Tests have one that waits for them.
pub(crate) trait Disk: Send {
    /// Begins to write a batch, and opens the store before when it has to. The write goes on when nobody
    /// waits for it.
    fn write(&self, batch: Batch) -> BoxFuture<'static, anyhow::Result<WriteReport>>;

    /// Whether somebody else may delete it: then an empty batch finds that out.
    fn can_be_deleted(&self) -> bool;
}

/// What came of a write.
#[derive(Debug)]
pub(crate) struct WriteReport {
    pub(crate) opened: Option<Opened>,
    pub(crate) result: Result<(), StoreError>,
    pub(crate) health: Health,
}

/// The store on disk, written on a blocking thread.
#[derive(Debug)]
pub(crate) struct OnDisk(Arc<Mutex<RecoveringStore>>);

impl OnDisk {
    /// The store below `folder`, which the first batch opens.
    pub(crate) fn new(folder: &Path) -> Self {
        Self(Arc::new(Mutex::new(RecoveringStore::new(folder))))
    }
}

impl Disk for OnDisk {
    fn write(&self, batch: Batch) -> BoxFuture<'static, anyhow::Result<WriteReport>> {
        let store = self.0.clone();
        let writing = tokio::task::spawn_blocking(move || {
            // A panic of an earlier write has ended the process, or is about to.
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let (opened, result) = match store.open() {
                Ok(opened) => (opened, Ok(())),
                Err(error @ StoreError::Endless(_)) => return Err(error),
                Err(error) => (None, Err(error)),
            };
            let begun = Instant::now();
            let result = result.and_then(|()| store.commit(&batch));
            let health = Health {
                open: store.is_open(),
                bytes: store.size().unwrap_or_default(),
                sync: begun.elapsed(),
            };
            Ok(WriteReport {
                opened,
                result,
                health,
            })
        });
        Box::pin(async { Ok(writing.await??) })
    }

    fn can_be_deleted(&self) -> bool {
        true
    }
}

/// Hands batches to the store.
pub(crate) struct StoreWriter {
    disk: Box<dyn Disk>,
    writing: Option<Writing>,
    waiting: Vec<Waiting>,
    rests_until: Option<Instant>,
    /// When it is looked whether the store is in place; never, where it cannot be deleted.
    look_at: Option<Instant>,
    health: Health,
    /// How long writes take.
    durations: Histogram,
}

struct Writing {
    report: BoxFuture<'static, anyhow::Result<WriteReport>>,
    batch: Batch,
    waiting: Vec<Waiting>,
}

impl StoreWriter {
    /// A writer that writes there.
    pub(crate) fn new(disk: impl Disk + 'static, durations: Histogram) -> Self {
        Self {
            disk: Box::new(disk),
            writing: None,
            waiting: Vec::new(),
            rests_until: None,
            look_at: None,
            health: Health::default(),
            durations,
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Takes an interaction for the next batch.
    pub(crate) fn add(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Whether it takes an interaction with the pod of this UID: when the watch has shown the pod, or few
    /// others are unseen.
    pub(crate) fn takes(&self, uid: &str, node_state: &NodeState) -> bool {
        if node_state.knows(uid) {
            return true;
        }
        let writing = self.writing.iter().flat_map(|writing| &writing.waiting);
        let waiting = writing.chain(&self.waiting);
        let uids = waiting.map(|waiting| waiting.notice.pod.uid.as_str());
        let unknown = uids.filter(|uid| !node_state.knows(uid));
        let unseen: BTreeSet<_> = node_state.unseen().chain(unknown).collect();
        unseen.contains(uid) || unseen.len() < MAX_UNSEEN
    }

    /// Starts to write what has gathered, unless a batch is being written or nothing has.
    pub(crate) fn begin(&mut self, node_state: &mut NodeState) {
        let looks = self.look_at.is_some_and(|at| at <= Instant::now());
        let idle = self.health.open && self.waiting.is_empty() && !node_state.is_dirty() && !looks;
        let rests = self.waiting.is_empty() && self.rest().is_some();
        if self.is_writing() || idle || rests {
            return;
        }
        let mut batch = node_state.take_dirty();
        let waiting = std::mem::take(&mut self.waiting);
        for Waiting { notice, .. } in &waiting {
            // Two interactions with one pod may share the batch.
            let record = match batch.get_mut(&notice.pod.uid) {
                Some(Some(record)) => {
                    record.learn(notice.known.clone());
                    continue;
                }
                _ => node_state.with(&notice.pod, &notice.known),
            };
            batch.insert(notice.pod.uid.clone(), Some(record));
        }
        self.writing = Some(Writing {
            report: self.disk.write(batch.clone()),
            batch,
            waiting,
        });
    }

    /// Waits for the batch that is being written; for ever when none is.
    ///
    /// # Errors
    /// When the thread that wrote it panicked, and the store with it; and when reading the store does not end.
    pub(crate) async fn written(&mut self) -> anyhow::Result<Written> {
        let Some(writing) = &mut self.writing else {
            return pending().await;
        };
        let WriteReport {
            opened,
            result,
            health,
        } = (&mut writing.report).await?;
        self.health = health;
        let again = self.rests_until.is_some();
        self.rests_until = result.is_err().then(|| Instant::now() + REST);
        self.look_at = self.disk.can_be_deleted().then(|| Instant::now() + LOOK);
        let Some(Writing { batch, waiting, .. }) = self.writing.take() else {
            return pending().await;
        };
        // A batch may be empty, to open the store or to see whether it is in place.
        if result.is_ok() && !batch.is_empty() {
            self.durations.observe(health.sync.as_secs_f64());
        }
        Ok(Written {
            batch,
            waiting,
            opened,
            result,
            again,
        })
    }

    /// Whether a batch is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// When something is to be done without a message: a store that failed is tried again, or it is looked
    /// whether it is in place.
    pub(crate) fn next(&self) -> Option<Duration> {
        let until = |at: Instant| at.saturating_duration_since(Instant::now());
        self.rest().or(self.look_at.map(until))
    }

    /// How long the store is still left alone, if it is.
    fn rest(&self) -> Option<Duration> {
        let rest = self.rests_until?.saturating_duration_since(Instant::now());
        (rest > Duration::ZERO).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::Metrics,
        testing::{shell, stage::notice},
    };
    use curfew_agent_state::NodeSettings;

    #[tokio::test]
    async fn what_is_written_is_on_disk_before_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::new(OnDisk::new(folder.path()), Metrics::new().unwrap().sync);
        let mut node_state = NodeState::new(NodeSettings {
            max_evictions: 5,
            blocked_after: Duration::from_secs(3600),
            evidence: curfew_agent_state::Evidence::Off,
        });
        let (answer, _answered) = oneshot::channel();
        let notice = Box::new(notice("a", shell(0)));
        writer.add(Waiting { notice, answer });
        writer.begin(&mut node_state);
        assert!(writer.is_writing());
        let written = writer.written().await.unwrap();
        written.result.unwrap();
        assert!(written.opened.unwrap().contents.records.is_empty());
        assert!(writer.health().open && !writer.is_writing());
        drop(writer);

        let opened = RecoveringStore::new(folder.path()).open().unwrap().unwrap();
        assert_eq!(opened.contents.records[0].pod.uid, "uid-a");
    }
}
