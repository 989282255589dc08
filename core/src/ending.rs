//! Why nothing follows from an interaction with a pod.

use std::fmt;

/// How a pod ends, or has ended, without being evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is being shut down.
    Terminating,
    /// All its containers ended by themselves.
    Finished,
}

impl Ending {
    /// How a pod in this phase, as its status says, ends.
    pub fn of(terminating: bool, phase: Option<&str>) -> Option<Self> {
        match phase {
            _ if terminating => Some(Ending::Terminating),
            Some("Succeeded" | "Failed") => Some(Ending::Finished),
            _ => None,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Terminating => "the pod is already terminating",
            Ending::Finished => "the pod has already ended by itself and will not be evicted",
        })
    }
}
