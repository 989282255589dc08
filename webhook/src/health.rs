//! What the plain port tells of this process.
//!
//! Owns when a replica counts as ready. It owns no state: each request reads that of the other modules. The port itself
//! is in [`curfew_runtime::ops`].

use curfew_runtime::ops::Ops;
use prometheus::proto::MetricFamily;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    behaviour::Behaviour,
    identity::Identities,
    metrics::{Metrics, State},
    placement::agents::Agents,
    policy::Rules,
    recording::forward::Forwarder,
};

/// The state of the process, as far as it is told.
pub(crate) struct Health {
    pub(crate) metrics: Metrics,
    pub(crate) agents: watch::Receiver<Agents>,
    pub(crate) forwarder: Forwarder,
    pub(crate) identities: Identities,
    pub(crate) rules: Rules,
    pub(crate) behaviour: Behaviour,
    /// From when on requests are served, should the policies still not be known.
    pub(crate) without_policies: Instant,
    pub(crate) stop: CancellationToken,
}

impl Ops for Health {
    async fn healthy(&self) -> Result<(), String> {
        // A task that cannot go on ends the process by itself.
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        // It waits neither for agents, whose absence the pods' metadata makes up for, nor for the
        // registration, which in turn waits until this replica is ready and can be reached.
        if self.stop.is_cancelled() {
            Err("stopping".to_owned())
        } else if self.identities.borrow().is_none() {
            Err("has no certificate yet".to_owned())
        } else if !self.rules.are_known() && Instant::now() < self.without_policies {
            // Bounded: a replica that serves can say why it refuses, or admit as `--unrecorded` says.
            Err("does not know the policies yet".to_owned())
        } else if self.rules.concern_behaviour()
            && !self.behaviour.is_known()
            && Instant::now() < self.without_policies
        {
            // Without profiles nothing is irregular.
            Err("does not know the profiles yet".to_owned())
        } else {
            Ok(())
        }
    }

    async fn metrics(&self) -> Vec<MetricFamily> {
        let policies = self.rules.policies();
        self.metrics.gather(State {
            agents: self.agents.borrow().len(),
            unreachable: self.forwarder.unreachable(),
            policies: policies.as_deref(),
            profiles: &self.behaviour.count(),
        })
    }
}
