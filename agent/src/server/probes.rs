//! What the plain port tells of the agent.

use std::time::SystemTime;

use curfew_runtime::ops::Ops;
use prometheus::proto::MetricFamily;
use tokio_util::sync::CancellationToken;

use crate::{controller::ControllerHandle, identity::Identities, metrics::Metrics};

pub(crate) struct Agent {
    pub(crate) controller: ControllerHandle,
    pub(crate) metrics: Metrics,
    pub(crate) identities: Identities,
    pub(crate) stop: CancellationToken,
}

impl Ops for Agent {
    async fn healthy(&self) -> Result<(), String> {
        let summary = self.controller.summary().await;
        summary.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn ready(&self) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Err("stopping".to_owned());
        }
        match self.controller.summary().await {
            // The webhook does not wait for an agent then, and records on the pods.
            Ok(summary) if !summary.store_open => {
                return Err("the store is not open".to_owned());
            }
            Ok(summary) if !summary.synced => {
                return Err("the node's pods are not listed yet".to_owned());
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        let identity = self.identities.borrow();
        match identity.as_ref().map(|identity| identity.expiry) {
            None => Err("there is no certificate yet".to_owned()),
            Some(expiry) if expiry <= SystemTime::now() => {
                Err("the certificate has expired".to_owned())
            }
            Some(_) => Ok(()),
        }
    }

    async fn metrics(&self) -> Vec<MetricFamily> {
        match self.controller.summary().await {
            Ok(summary) => self.metrics.gather(&summary),
            Err(_) => Vec::new(),
        }
    }
}
