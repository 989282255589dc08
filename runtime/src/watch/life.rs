//! Whether a watch lives, for those who rely on it.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::SILENCE;

/// What is known of one watch.
#[derive(Debug)]
pub(super) struct Life {
    state: watch::Sender<State>,
    /// Whether somebody reads its events, without which nothing can happen.
    read: AtomicBool,
    /// How many wait for it to live.
    waiting: AtomicUsize,
    wanted: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the watch gave its last proof of life, or was opened.
    proof: Instant,
    /// Whether the present connection has shown all objects.
    live: bool,
    /// How often the API server refused it.
    refused: u64,
}

/// Somebody who waits, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl State {
    fn is_live(&self) -> bool {
        self.live && self.proof.elapsed() <= SILENCE
    }
}

impl Life {
    pub(super) fn new() -> Self {
        Self {
            state: watch::Sender::new(State {
                proof: Instant::now(),
                live: false,
                refused: 0,
            }),
            read: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }

    /// From now on somebody reads the events, or nobody does any more.
    pub(super) fn read(&self, read: bool) {
        self.read.store(read, Ordering::Release);
    }

    /// The API server showed something.
    pub(super) fn proved(&self) {
        self.state.send_modify(|state| state.proof = Instant::now());
    }

    /// All objects were shown, and whoever reads the events has taken them.
    pub(super) fn begun(&self) {
        self.state.send_modify(|state| state.live = true);
    }

    /// The connection is lost, or is about to be replaced.
    pub(super) fn broken(&self) {
        self.state.send_modify(|state| state.live = false);
    }

    /// The API server answered that it does not serve the watch: the next attempt will most likely end as this.
    pub(super) fn refused(&self) {
        self.state.send_modify(|state| state.refused += 1);
    }

    pub(super) fn age(&self) -> Duration {
        self.state.borrow().proof.elapsed()
    }

    pub(super) fn is_live(&self) -> bool {
        self.state.borrow().is_live()
    }

    /// Waits until somebody waits for the watch.
    pub(super) async fn wanted(&self) {
        while self.waiting.load(Ordering::Acquire) == 0 {
            self.wanted.notified().await;
        }
    }

    pub(super) async fn revive(&self, within: Duration) -> bool {
        if self.is_live() {
            return true;
        }
        if !self.read.load(Ordering::Acquire) {
            return false;
        }
        let mut state = self.state.subscribe();
        let refused = state.borrow_and_update().refused;
        let _waiting = Waiting::new(&self.waiting);
        self.wanted.notify_one();
        let told = state.wait_for(|state| state.is_live() || state.refused != refused);
        match timeout(within, told).await {
            Ok(Ok(state)) => state.is_live(),
            _ => false,
        }
    }
}
