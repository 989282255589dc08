//! The thread that looks. It is the one owner of an [`Evidence`].

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use curfew_core::Drift;
use jiff::Timestamp;

use crate::{
    evidence::Evidence,
    facts::{Bypass, PodFacts, Sighting, Touch},
};

/// How often the processes are scanned.
pub const SCAN: Duration = Duration::from_secs(2);

/// How often they are scanned when an interaction was just admitted: a session may be short.
const SOON: Duration = Duration::from_millis(100);

/// For how long.
const SOON_FOR: Duration = Duration::from_secs(3);

/// How long after the end of a pod's last session the pod is looked at.
const AFTER_SESSION: Duration = Duration::from_secs(3);

/// How low the priority of the thread is.
const NICE: i32 = 10;

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// What is known of a pod.
    Pod(PodFacts),
    /// A pod is gone.
    Forget(String),
    /// A recorded interaction.
    Touched(Touch),
    /// A pod is to be looked at.
    Look {
        /// The pod.
        uid: String,
        /// When the first interaction with it was.
        since: Timestamp,
    },
    /// The end. The end of the channel is the same.
    Stop,
}

/// What the thread tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A pod was looked at.
    Drift {
        /// The pod.
        uid: String,
        /// What was found.
        drift: Drift,
        /// How long it took.
        took: Duration,
        /// Whether somebody asked for it. Otherwise a session has ended.
        asked: bool,
    },
    /// A session that no interaction explains.
    Bypass(Bypass),
    /// How many sessions are open. It is told after each scan, so that one can see that the thread goes on.
    Sessions(usize),
    /// A scan or a look panicked. The next one is tried all the same.
    Failed(String),
}

/// Starts the thread.
///
/// # Errors
/// When no thread can be started.
pub fn spawn(
    evidence: Evidence,
    commands: Receiver<Command>,
    report: impl Fn(Report) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runner = Runner {
        evidence,
        report,
        looks: BTreeMap::new(),
        soon: None,
    };
    thread::Builder::new()
        .name("evidence".to_owned())
        .spawn(move || runner.run(&commands))
}

struct Runner<R> {
    evidence: Evidence,
    report: R,
    /// The pods that are to be looked at, and when.
    looks: BTreeMap<String, Instant>,
    /// Until when the processes are scanned more often.
    soon: Option<Instant>,
}

impl<R: Fn(Report)> Runner<R> {
    fn run(mut self, commands: &Receiver<Command>) {
        // Without the priority it looks all the same. In Linux it is that of the thread.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut next = Instant::now();
        loop {
            match commands.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => {
                    if self.take(command) {
                        next = next.min(Instant::now() + SOON);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.scan();
                    self.look_due();
                    next = Instant::now() + self.pause();
                }
            }
        }
    }

    /// Does as it is told. Returns whether a session is about to begin.
    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Pod(facts) => self.evidence.pod(facts),
            Command::Forget(uid) => {
                self.looks.remove(&uid);
                self.evidence.forget(&uid);
            }
            Command::Touched(touch) => {
                let is_new = touch.received.is_some();
                self.evidence.touched(touch, Timestamp::now());
                if is_new {
                    self.soon = Some(Instant::now() + SOON_FOR);
                }
                return is_new;
            }
            Command::Look { uid, since } => {
                self.scan();
                self.look(uid, since, true);
            }
            Command::Stop => {}
        }
        false
    }

    fn pause(&mut self) -> Duration {
        let now = Instant::now();
        self.soon = self.soon.filter(|until| *until > now);
        let look = self.looks.values().min();
        let look = look.map_or(SCAN, |look| look.saturating_duration_since(now));
        // Who bypassed the API server is told as soon as that is known.
        let due = self.evidence.due().map_or(SCAN, |due| {
            let left = due.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default().max(SOON)
        });
        match self.soon {
            Some(_) => SOON,
            None => look.min(due).min(SCAN),
        }
    }

    fn scan(&mut self) {
        let scanned = caught(|| self.evidence.scan(Timestamp::now()));
        let sightings = scanned.unwrap_or_else(|panic| {
            (self.report)(Report::Failed(panic));
            Vec::new()
        });
        for sighting in sightings {
            match sighting {
                Sighting::Bypass(bypass) => (self.report)(Report::Bypass(bypass)),
                Sighting::Ended { uid, .. } => {
                    self.looks.insert(uid, Instant::now() + AFTER_SESSION);
                }
            }
        }
        (self.report)(Report::Sessions(self.evidence.sessions()));
    }

    fn look_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.looks.extract_if(.., |_, look| *look <= now).collect();
        for (uid, _) in due {
            if let Some(since) = self.evidence.since(&uid) {
                self.look(uid, since, false);
            }
        }
    }

    fn look(&mut self, uid: String, since: Timestamp, asked: bool) {
        let (begin, now) = (Instant::now(), Timestamp::now());
        let looked = caught(|| self.evidence.look(&uid, since, now));
        let drift = looked.unwrap_or_else(|panic| {
            (self.report)(Report::Failed(panic));
            let mut drift = Drift::new(now);
            drift.unseen.push("the look failed".to_owned());
            drift.bounded()
        });
        (self.report)(Report::Drift {
            uid,
            drift,
            took: begin.elapsed(),
            asked,
        });
    }
}

/// What is kept of the processes may be torn after a panic, but it is only what was seen, and is read again.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests;
