//! The way of records to the disk: one batch at a time, while the next one gathers.
//!
//! Interactions of the same moment share one sync. Whoever waits for an interaction is answered by the
//! schedule once its batch is written, or told that it was not.

use std::{future::pending, path::Path, time::Duration};

use curfew_core::{Notice, Receipt};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{
    keeper::{Keeper, Opened},
    ledger::Ledger,
    store::{Batch, StoreError},
};

/// How long a store that failed is left alone, unless a new interaction asks for it.
const REST: Duration = Duration::from_secs(1);

/// An interaction that waits for the disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) notice: Box<Notice>,
    pub(crate) answer: oneshot::Sender<Result<Receipt, StoreError>>,
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

/// Hands batches to the store on a blocking thread.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Away while a batch is being written.
    keeper: Option<Keeper>,
    writing: Option<Writing>,
    waiting: Vec<Waiting>,
    rests_until: Option<Instant>,
    health: Health,
}

/// What comes back from the blocking thread, the keeper included.
#[derive(Debug)]
struct Returned {
    keeper: Keeper,
    opened: Option<Opened>,
    result: Result<(), StoreError>,
    health: Health,
}

#[derive(Debug)]
struct Writing {
    task: JoinHandle<Returned>,
    batch: Batch,
    waiting: Vec<Waiting>,
}

impl Journal {
    /// A journal whose store lies below `folder` and is opened by the first batch.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            keeper: Some(Keeper::new(folder)),
            writing: None,
            waiting: Vec::new(),
            rests_until: None,
            health: Health::default(),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Takes an interaction for the next batch.
    pub(crate) fn add(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Starts to write what has gathered, unless a batch is being written or nothing has.
    pub(crate) fn begin(&mut self, ledger: &mut Ledger) {
        let idle = self.health.open && self.waiting.is_empty() && !ledger.is_dirty();
        let rests = self.waiting.is_empty() && self.rest().is_some();
        if idle || rests {
            return;
        }
        let Some(mut keeper) = self.keeper.take() else {
            return;
        };
        let mut batch = ledger.take_dirty();
        let waiting = std::mem::take(&mut self.waiting);
        for Waiting { notice, .. } in &waiting {
            // Two interactions with one pod may share the batch.
            let record = match batch.get_mut(&notice.pod.uid) {
                Some(Some(record)) => {
                    record.learn(notice.known.clone());
                    continue;
                }
                _ => ledger.with(&notice.pod, &notice.known),
            };
            batch.insert(notice.pod.uid.clone(), Some(record));
        }
        let changes = batch.clone();
        let task = tokio::task::spawn_blocking(move || {
            let (opened, result) = match keeper.open() {
                Ok(opened) => (opened, Ok(())),
                Err(error) => (None, Err(error)),
            };
            let begun = Instant::now();
            let result = result.and_then(|()| keeper.commit(&changes));
            let health = Health {
                open: keeper.is_open(),
                bytes: keeper.size().unwrap_or_default(),
                sync: begun.elapsed(),
            };
            Returned {
                keeper,
                opened,
                result,
                health,
            }
        });
        self.writing = Some(Writing {
            task,
            batch,
            waiting,
        });
    }

    /// Waits for the batch that is being written; for ever when none is.
    ///
    /// # Errors
    /// When the thread that wrote it panicked, and the store with it.
    pub(crate) async fn written(&mut self) -> anyhow::Result<Written> {
        let Some(writing) = &mut self.writing else {
            return pending().await;
        };
        let Returned {
            keeper,
            opened,
            result,
            health,
        } = (&mut writing.task).await?;
        self.keeper = Some(keeper);
        self.health = health;
        let again = self.rests_until.is_some();
        self.rests_until = result.is_err().then(|| Instant::now() + REST);
        let Some(Writing { batch, waiting, .. }) = self.writing.take() else {
            return pending().await;
        };
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

    /// How long the store is still left alone, if it is.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let rest = self.rests_until?.saturating_duration_since(Instant::now());
        (rest > Duration::ZERO).then_some(rest)
    }
}
