//! What the plain port tells of the agent.

use curfew_runtime::ops::{Answer, Ops};
use prometheus::proto::MetricFamily;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, schedule::Schedule};

pub(crate) struct Agent {
    pub(crate) schedule: Schedule,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

impl Ops for Agent {
    fn healthy(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async {
            let summary = self.schedule.summary().await;
            summary.map(|_| ()).map_err(|error| error.to_string())
        })
    }

    fn ready(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async {
            if self.stop.is_cancelled() {
                return Err("stopping".to_owned());
            }
            match self.schedule.summary().await {
                // The webhook does not wait for an agent then, and records on the pods.
                Ok(summary) if !summary.store_open => Err("the store is not open".to_owned()),
                Ok(summary) if summary.synced => Ok(()),
                Ok(_) => Err("the node's pods are not listed yet".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn metrics(&self) -> Answer<'_, Vec<MetricFamily>> {
        Box::pin(async {
            match self.schedule.summary().await {
                Ok(summary) => self.metrics.gather(&summary),
                Err(_) => Vec::new(),
            }
        })
    }
}
