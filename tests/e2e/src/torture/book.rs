//! What was done and what was seen, for the reckoning.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

/// A pod, by its UID, from its first to its last sight.
#[derive(Debug, Clone)]
pub struct Life {
    /// Its name, which others had before and will have after it.
    pub name: String,
    /// Its place among the pods that people reach into; none for a bystander.
    pub slot: Option<usize>,
    /// When the API server took it.
    pub created: Timestamp,
    /// Whether it was ready when last seen.
    pub ready: bool,
    /// When it was first seen to be no more.
    pub gone: Option<Timestamp>,
    /// Whether the harness has tried to delete it.
    pub deleted: bool,
    /// Whether it was ever seen with Curfew's mark.
    pub marked: bool,
    /// The highest number of interactions that it was seen to tell.
    pub told: u32,
}

/// An exec.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The name of the pod.
    pub pod: String,
    /// When kubectl was started.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit status.
    pub code: Option<i32>,
    /// The UID of the pod in which the command ran, as the command told it.
    pub reached: Option<String>,
}

impl Attempt {
    /// Whether it was let through.
    pub fn admitted(&self) -> bool {
        self.reached.is_some() || self.code == Some(0)
    }
}

/// The contents.
#[derive(Debug, Default)]
pub struct Pages {
    /// All pods that there ever were.
    pub lives: BTreeMap<String, Life>,
    /// All execs.
    pub attempts: Vec<Attempt>,
    /// How many kills of each sort were dealt.
    pub kills: BTreeMap<&'static str, usize>,
}

impl Pages {
    /// The pod that has this name now, if one has.
    pub fn current(&self, name: &str) -> Option<(&String, &Life)> {
        self.lives
            .iter()
            .find(|(_, life)| life.name == name && life.gone.is_none())
    }

    /// The first moment at which somebody may have reached into this pod; none when nobody tried.
    pub fn first_touch(&self, life: &Life) -> Option<Timestamp> {
        let until = life.gone.unwrap_or(Timestamp::MAX);
        self.attempts
            .iter()
            .filter(|attempt| {
                attempt.pod == life.name && attempt.ended >= life.created && attempt.began <= until
            })
            .map(|attempt| attempt.began.max(life.created))
            .min()
    }

    /// How many execs were seen to run in the pod of this UID.
    pub fn reached(&self, uid: &str) -> u32 {
        let reached = self
            .attempts
            .iter()
            .filter(|attempt| attempt.reached.as_deref() == Some(uid));
        reached.count() as u32
    }
}

/// The book, which everybody writes in.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Book {
    /// Opens it.
    pub fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many execs were let through.
    pub fn admitted(&self) -> usize {
        let pages = self.open();
        pages.attempts.iter().filter(|one| one.admitted()).count()
    }
}
