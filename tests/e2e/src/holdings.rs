//! What an agent's store holds, with every interaction that it keeps.

use anyhow::{Context, Result, ensure};
use curfew_core::Record;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde::Deserialize;

use crate::{CURFEW, TestCluster, http::Connection};

const DEBUG_PORT: u16 = 9091;

/// The answer of `/v1/store`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holdings {
    /// Whether the store is open and its last write was good.
    pub open: bool,
    /// The records.
    pub records: Vec<Record>,
    /// UIDs whose record cannot be read.
    pub set_aside: Vec<String>,
}

/// The holdings of this agent, over a connection of its own: the agent may have been killed meanwhile.
pub async fn of(cluster: &TestCluster, agent: &Pod) -> Result<Holdings> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), CURFEW);
    let mut forwarder = pods.portforward(&agent.name_any(), &[DEBUG_PORT]).await?;
    let stream = forwarder.take_stream(DEBUG_PORT).context("no stream")?;
    let body = Connection::open(stream).await?.get("/v1/store").await?;
    serde_json::from_str(&body).with_context(|| format!("no holdings: {body}"))
}

/// The records of all agents.
///
/// # Errors
/// When an agent does not answer, or its store is not as it should be.
pub async fn all(cluster: &TestCluster) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for agent in cluster.pods_of("agent").await? {
        let held = of(cluster, &agent).await?;
        ensure!(held.open, "the store of {} is not open", agent.name_any());
        ensure!(
            held.set_aside.is_empty(),
            "{} cannot read the records of {:?}",
            agent.name_any(),
            held.set_aside
        );
        records.extend(held.records);
    }
    Ok(records)
}
