//! A store in memory. Tests hold its writes and let them go; otherwise a write takes no time and no thread.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::store::{
    self, Batch, Contents,
    recovery::Opened,
    writer::{self, Health, WriteReport},
};

/// What is stored. It outlives the agents that write to it.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    held: bool,
    waiting: usize,
}

impl Disk {
    /// The disk as an agent has it that starts now: its store is not open yet.
    pub(crate) fn of_an_agent(&self) -> impl writer::Disk + use<> {
        OfAnAgent {
            shared: self.0.clone(),
            open: AtomicBool::new(false),
        }
    }

    /// From now on writes wait.
    pub(crate) fn hold(&self) {
        self.0.state.send_modify(|state| state.held = true);
    }

    /// Lets those go that wait, and all later ones.
    pub(crate) fn let_go(&self) {
        self.0.state.send_modify(|state| state.held = false);
    }

    /// Returns once a write waits.
    pub(crate) async fn holds_a_write(&self) {
        let mut state = self.0.state.subscribe();
        let waits = state.wait_for(|state| state.held && state.waiting > 0);
        assert!(waits.await.is_ok(), "this disk sends what changes");
    }
}

struct OfAnAgent {
    shared: Arc<Shared>,
    open: AtomicBool,
}

impl writer::Disk for OfAnAgent {
    fn can_be_deleted(&self) -> bool {
        false
    }

    fn write(&self, batch: Batch) -> BoxFuture<'static, anyhow::Result<WriteReport>> {
        let shared = self.shared.clone();
        let is_first = !self.open.swap(true, Ordering::SeqCst);
        shared.state.send_modify(|state| state.waiting += 1);
        let mut state = shared.state.subscribe();
        Box::pin(async move {
            state.wait_for(|state| !state.held).await?;
            shared.state.send_modify(|state| state.waiting -= 1);
            let mut values = shared.values.lock().unwrap();
            let opened = is_first.then(|| open(&values));
            for (uid, record) in batch {
                match record {
                    Some(record) => values.insert(uid, store::encode(&record)?),
                    None => values.remove(&uid),
                };
            }
            Ok(WriteReport {
                opened,
                result: Ok(()),
                health: Health {
                    open: true,
                    bytes: values.values().map(|value| value.len() as u64).sum(),
                    sync: Duration::ZERO,
                },
            })
        })
    }
}

fn open(values: &BTreeMap<String, Vec<u8>>) -> Opened {
    let records = values.values().map(|value| store::decode(value).unwrap());
    Opened {
        contents: Contents {
            records: records.collect(),
            ..Contents::default()
        },
        moved_to: None,
        deleted: false,
    }
}
