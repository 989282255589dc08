//! Records an interaction: with the agent of the pod's node or, if that fails, on the pod itself.
//!
//! Owns the order of the two. [`crate::admission`] decides what happens if both fail.

pub mod fallback;
pub mod forward;

use curfew_core::{Notice, PodId, RecordedInteraction, notice};
use jiff::Timestamp;
use kube::Client;

use crate::{
    args::Budgets,
    metrics::{Metrics, Noticed, RecordedIn},
    placement::{Pod, PodReadError},
    recording::{fallback::FallbackError, forward::Forwarder},
};

/// Records interactions.
#[derive(Clone)]
#[allow(
    missing_debug_implementations,
    reason = "a client of the API server has none"
)]
pub struct Recorder {
    client: Client,
    forwarder: Forwarder,
    budgets: Budgets,
    metrics: Metrics,
}

/// Where an interaction was recorded and what comes of it.
#[derive(Debug)]
pub struct RecordOutcome {
    /// The pod that it was recorded of.
    pub pod: PodId,
    /// Where.
    pub recorded_in: RecordedIn,
    /// Why not with the agent, where it was not.
    pub without_agent: Option<String>,
    /// When the pod will be evicted; none when nothing started a timer.
    pub deadline: Option<Timestamp>,
    /// Whether that is a dry run.
    pub dry_run: bool,
}

/// Why an interaction was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is no such pod any more, so nothing can come of it.
    #[error("the pod is gone")]
    Gone,
    /// The API server lets the webhook do nothing any more.
    #[error("{0}")]
    Unauthorised(String),
    /// Neither took it.
    #[error("agent: {agent}; metadata: {metadata}")]
    Nowhere {
        /// Why the agent did not.
        agent: String,
        /// Why the pod's metadata did not.
        metadata: String,
    },
}

impl Recorder {
    /// One that tells agents by this forwarder.
    pub fn new(client: Client, forwarder: Forwarder, budgets: Budgets, metrics: Metrics) -> Self {
        Self {
            client,
            forwarder,
            budgets,
            metrics,
        }
    }

    /// Records these interactions with a pod. They are on disk when this succeeds.
    ///
    /// # Errors
    /// If they could not be recorded anywhere. Some or all of them may still be recorded, because an answer may have
    /// been lost.
    pub async fn record(
        &self,
        pod: Pod,
        known: &[RecordedInteraction],
    ) -> Result<RecordOutcome, RecordError> {
        let outcome = self.place(pod, known).await;
        match &outcome {
            Ok(outcome) => self.metrics.recorded(outcome.recorded_in, known.len()),
            Err(RecordError::Gone) => {}
            Err(RecordError::Unauthorised(_) | RecordError::Nowhere { .. }) => {
                self.metrics.recorded(RecordedIn::Nowhere, known.len());
            }
        }
        outcome
    }

    /// Records what has become known of an interaction that was recorded before. It is not another one, and so it is not
    /// counted.
    ///
    /// # Errors
    /// If it could not be recorded anywhere.
    pub async fn correct(
        &self,
        pod: Pod,
        known: RecordedInteraction,
    ) -> Result<RecordOutcome, RecordError> {
        self.place(pod, &[known]).await
    }

    async fn place(
        &self,
        pod: Pod,
        known: &[RecordedInteraction],
    ) -> Result<RecordOutcome, RecordError> {
        let id = pod.id();
        let agent = match self.tell(&pod, &id, known).await {
            Ok((deadline, dry_run)) => {
                return Ok(RecordOutcome {
                    pod: id,
                    recorded_in: RecordedIn::Agent,
                    without_agent: None,
                    deadline,
                    dry_run,
                });
            }
            Err(why) => why,
        };
        match fallback::record(&self.client, pod, known, self.budgets.fallback).await {
            Ok(record) => Ok(RecordOutcome {
                deadline: record.eviction_time(),
                dry_run: record.is_dry_run(),
                pod: record.pod,
                recorded_in: RecordedIn::Metadata,
                without_agent: Some(agent),
            }),
            Err(FallbackError::Gone) => Err(RecordError::Gone),
            Err(FallbackError::Pod(PodReadError::Unauthorised(why))) => {
                Err(RecordError::Unauthorised(why))
            }
            Err(FallbackError::Pod(PodReadError::Failed(metadata))) => {
                Err(RecordError::Nowhere { agent, metadata })
            }
        }
    }

    /// Tells the agent, and returns the pod's deadline and whether it is a dry run; or why it could not be told.
    async fn tell(
        &self,
        pod: &Pod,
        id: &PodId,
        known: &[RecordedInteraction],
    ) -> Result<(Option<Timestamp>, bool), String> {
        let node = pod.node().ok_or("the pod is not on a node yet")?;
        let notices: Vec<_> = known
            .iter()
            .map(|known| Notice {
                version: notice::VERSION,
                node: node.to_owned(),
                pod: id.clone(),
                known: known.clone(),
                // Known when it is sent.
                sent: None,
            })
            .collect();
        let _timer = self.metrics.forwarding();
        match self.forwarder.tell(node, notices).await {
            Ok(receipt) => {
                self.metrics.noticed(Noticed::Stored);
                let receipt = receipt.map(|receipt| (receipt.eviction_time, receipt.dry_run));
                Ok(receipt.unwrap_or_default())
            }
            Err(failure) => {
                self.metrics.noticed(Noticed::from(&failure));
                Err(failure.to_string())
            }
        }
    }
}
