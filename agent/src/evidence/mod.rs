//! What the node shows of its containers: whether they changed, and who got into them past the API server.
//!
//! Owns the way to the thread that looks ([`curfew_evidence`]), and which pods it knows. What follows from what it finds
//! is decided elsewhere. With `--evidence=off` there is no thread, and all that is told it goes nowhere.

mod pods;

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use curfew_agent_state::{DomainEvent, Source};
use curfew_core::{Drift, Interaction, PodId, Record};
use curfew_evidence::{Bypass, Command, Evidence, Mode, Report, Touch};
use jiff::Timestamp;
use prometheus::IntCounter;
use tokio::sync::mpsc;

pub(crate) use pods::PodsOnNode;

use crate::metrics::Metrics;

/// Where processes are.
const PROC: &str = "/proc";

/// How many messages may wait for the thread. A look can take seconds, and a node has some hundred pods.
const WAITING: usize = 4096;

/// How many sessions that nobody admitted may wait until they are recorded.
const BYPASSES: usize = 64;

/// What the agent looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EvidenceMode {
    /// Nothing.
    #[default]
    Off,
    /// The processes of containers.
    Processes,
    /// The processes and the files of containers.
    Files,
}

/// How others reach the thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct EvidenceHandle(Option<Thread>);

#[derive(Debug, Clone)]
struct Thread {
    commands: SyncSender<Command>,
    dropped: IntCounter,
    pods: Pods,
}

/// The pods that the thread knows by their UIDs. What follows the watch of pods writes it.
type Pods = Arc<Mutex<HashMap<String, PodId>>>;

/// What starts the thread.
#[derive(Debug)]
pub(crate) struct Looking {
    evidence: Evidence,
    commands: Receiver<Command>,
    pods: Pods,
}

/// A handle of the thread, and what starts it; the log says what cannot be seen with the rights of this process.
pub(crate) fn prepare(
    mode: EvidenceMode,
    node: &str,
    metrics: &Metrics,
) -> (EvidenceHandle, Option<Looking>) {
    let mode = match mode {
        EvidenceMode::Off => return (EvidenceHandle::default(), None),
        EvidenceMode::Processes => Mode::Processes,
        EvidenceMode::Files => Mode::Files,
    };
    let (evidence, limitations) = Evidence::new(Path::new(PROC), mode);
    for limitation in limitations {
        tracing::warn!(
            event = "evidence-limited", node, limitation = %limitation,
            "the agent cannot look at all that --evidence asks for"
        );
    }
    let (sender, commands) = sync_channel(WAITING);
    let pods = Pods::default();
    let handle = EvidenceHandle(Some(Thread {
        commands: sender,
        dropped: metrics.messages_dropped(),
        pods: pods.clone(),
    }));
    let looking = Looking {
        evidence,
        commands,
        pods,
    };
    (handle, Some(looking))
}

impl Looking {
    /// Starts the thread. Looks are reported to `looked`; sessions that nobody admitted can be received.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        self,
        looked: impl Fn(String, Drift) + Send + 'static,
        metrics: Metrics,
    ) -> io::Result<mpsc::Receiver<(PodId, Bypass)>> {
        let (found, bypasses) = mpsc::channel(BYPASSES);
        let dropped = metrics.bypasses_dropped();
        let report = move |report| match report {
            Report::Drift {
                uid, drift, took, ..
            } => {
                metrics.looked(drift.verdict, took);
                looked(uid, drift);
            }
            Report::Bypass(bypass) => {
                let pod = locked(&self.pods).get(&bypass.uid).cloned();
                // Without a pod, it is gone.
                let Some(pod) = pod else { return };
                if let Err(error) = found.try_send((pod, bypass)) {
                    dropped.inc();
                    tracing::error!(
                        event = "bypass-dropped", %error,
                        "a session that was not admitted cannot be recorded"
                    );
                }
            }
            Report::Sessions(open) => metrics.sessions(open),
            Report::Failed(error) => tracing::error!(
                event = "evidence-failed",
                error,
                "looking at containers panicked; it is tried again"
            ),
        };
        // It ends when nobody can reach it any more.
        curfew_evidence::spawn(self.evidence, self.commands, report)?;
        Ok(bypasses)
    }
}

impl EvidenceHandle {
    /// Whether somebody looks.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Look at the containers of the pod, for what changed since then.
    pub(crate) fn look(&self, pod: &PodId, since: Timestamp) {
        let uid = pod.uid.clone();
        self.send(Command::Look { uid, since });
    }

    /// This happened now: an interaction explains a session.
    pub(crate) fn tell(&self, event: &DomainEvent, now: Timestamp) {
        match event {
            // It explains a session already.
            DomainEvent::Stored(stored) if stored.again => {}
            // It is admitted later than that.
            DomainEvent::Stored(stored) => {
                self.touched(&stored.pod, &stored.interaction, Some(now));
            }
            DomainEvent::Interaction(new) if new.source == Source::Metadata => {
                self.touched(&new.pod, &new.known.interaction, None);
            }
            _ => {}
        }
    }

    /// These were recorded before the agent started.
    pub(crate) fn restored<'a>(&self, records: impl IntoIterator<Item = &'a Record>) {
        for record in records {
            for known in record.distinct() {
                self.touched(&record.pod, &known.interaction, None);
            }
        }
    }

    fn touched(&self, pod: &PodId, did: &Interaction, received: Option<Timestamp>) {
        if !self.is_on() {
            return;
        }
        self.send(Command::Touched(Touch {
            uid: pod.uid.clone(),
            container: did.container.clone(),
            command: did.command.as_str().to_owned(),
            kind: did.kind,
            time: did.time,
            received,
        }));
    }

    fn send(&self, command: Command) {
        let Some(thread) = &self.0 else { return };
        match thread.commands.try_send(command) {
            // It ends with the process.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                thread.dropped.inc();
                tracing::error!(
                    event = "evidence-busy",
                    "the thread that looks at containers does not keep up"
                );
            }
        }
    }
}

fn locked(pods: &Pods) -> MutexGuard<'_, HashMap<String, PodId>> {
    // Nothing half done outlives a panic.
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}
