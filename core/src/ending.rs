//! Why nothing follows from an interaction with a pod.

/// How a pod ends, or has ended, without being evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Ending {
    /// It is being shut down.
    #[strum(to_string = "the pod is already terminating")]
    Terminating,
    /// All its containers ended by themselves.
    #[strum(to_string = "the pod has already ended by itself and will not be evicted")]
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
