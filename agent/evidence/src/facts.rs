//! What the caller tells of pods and interactions, and what it is told of them.

use std::{fmt, time::Duration};

use curfew_core::Kind;
use jiff::Timestamp;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Processes: sessions, what they left running, and sessions that nobody admitted.
    Processes,
    /// The files of containers, too.
    Files,
}

/// What cannot be seen with the rights that the process has, as a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limitation(pub String);

impl fmt::Display for Limitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a pod from the API server.
///
/// Give it only for pods whose interactions are recorded: in an exempt namespace every session would be one that nobody
/// admitted. Tell the interactions with the pod ([`Touch`]) before its facts, and its facts again when its containers
/// have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The UID in the API, which is not the one in the cgroups of a static pod.
    pub uid: String,
    /// The containers that have not terminated.
    pub containers: Vec<ContainerFacts>,
    /// The commands that the kubelet runs in the containers.
    pub probes: Vec<Probe>,
    /// Whether every interaction that was counted on the pod was told. If not, a session that had begun before the first
    /// scan may be one of the others, and is not reported.
    pub complete: bool,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Its ID without `containerd://`; empty where it has none yet.
    pub id: String,
    /// Whether it is an ephemeral container, which is itself a session.
    pub ephemeral: bool,
}

/// An exec probe or the command of a lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The name of the container.
    pub container: String,
    /// The command.
    pub argv: Vec<String>,
    /// The timeout of a probe (`timeoutSeconds`). A hook has none: it may take as long as it wants.
    pub timeout: Option<Duration>,
}

/// A recorded interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The pod.
    pub uid: String,
    /// The container. Without one (port-forward) the interaction explains no session.
    pub container: Option<String>,
    /// The recorded command: it may be masked, cut, the program's name alone, or empty.
    pub command: String,
    /// How.
    pub kind: Kind,
    /// When the webhook saw it, in whole seconds.
    pub time: Timestamp,
    /// When this process learned of it, if that was before it was admitted. It is exact and on the clock of this node:
    /// what has an older ctime was not done by it.
    pub received: Option<Timestamp>,
}

/// A session that no recorded interaction explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    /// The pod.
    pub uid: String,
    /// The name of the container.
    pub container: String,
    /// The command, as far as it could be read.
    pub argv: Vec<String>,
    /// When it began.
    pub start: Timestamp,
}

/// What a scan noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A session that no recorded interaction explains. Each is noticed once.
    Bypass(Bypass),
    /// The last session of a pod has ended.
    Ended {
        /// The pod.
        uid: String,
        /// When the first interaction with the pod was.
        since: Timestamp,
    },
}
