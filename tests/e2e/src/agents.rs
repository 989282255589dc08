//! What the agents know: each one's schedule, which only its own loopback serves, and its metrics.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use curfew_core::Interaction;
use futures::lock::Mutex;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{CURFEW, NODES, TestCluster, evidence::Drift, http::Connection};

/// The name of their account, as the API server knows it.
pub const ACCOUNT: &str = "system:serviceaccount:curfew:curfew-agent";

const DEBUG_PORT: u16 = 9091;
const METRICS_PORT: u16 = 9090;

/// The answer of `/v1/schedule`.
#[derive(Debug, Clone, Deserialize)]
pub struct Schedule {
    /// The node it is about.
    pub node: String,
    /// The agent's clock.
    pub now: Timestamp,
    /// The pods with a record.
    #[serde(deserialize_with = "touched")]
    pub records: Vec<Scheduled>,
}

/// A pod of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduled {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// How far it has come with it.
    pub state: String,
    /// Whether it is still to be evicted.
    pub pending: bool,
    /// When it is evicted; none when only recorded.
    pub eviction_time: Option<Timestamp>,
    /// How many interactions there were.
    pub interactions: u32,
    /// The one that set the deadline, or the first.
    pub decisive: Interaction,
    /// The latest.
    pub last: Interaction,
    /// What the agent found when it last looked into the pod's containers.
    pub drift: Option<Drift>,
}

/// The pods with an interaction. Others stand in the schedule because somebody ordered to evict them.
fn touched<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scheduled>, D::Error> {
    let mut records = Vec::<Value>::deserialize(deserializer)?;
    records.retain(|record| record["interactions"] != 0);
    serde_json::from_value(Value::Array(records)).map_err(D::Error::custom)
}

impl Scheduled {
    /// When it is evicted.
    ///
    /// # Errors
    /// When it is not.
    pub fn deadline(&self) -> Result<Timestamp> {
        self.eviction_time
            .with_context(|| format!("no timer was started: {self:?}"))
    }
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    /// The node.
    pub node: String,
    pod: Pod,
    cluster: TestCluster,
    debugging: Mutex<Option<Connection>>,
}

impl Agent {
    /// Its schedule at this moment.
    ///
    /// The connection is kept, so that the question reaches the agent at once.
    pub async fn schedule(&self) -> Result<Schedule> {
        let body = self.debugging("/v1/schedule").await?;
        let schedule: Schedule = serde_json::from_str(&body)
            .with_context(|| format!("the schedule of {} cannot be read: {body}", self.node))?;
        ensure!(
            schedule.node == self.node,
            "{} says that it is {}",
            self.node,
            schedule.node
        );
        Ok(schedule)
    }

    /// Its page at this moment, as HTML.
    pub async fn page(&self) -> Result<String> {
        self.debugging("/").await
    }

    async fn debugging(&self, path: &str) -> Result<String> {
        let mut kept = self.debugging.lock().await;
        let mut connection = match kept.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.forward().await?,
        };
        let body = connection.get(path).await?;
        *kept = Some(connection);
        Ok(body)
    }

    /// What it has of the pod with this UID at this moment.
    pub async fn record(&self, uid: &str) -> Result<Option<Scheduled>> {
        let records = self.schedule().await?.records;
        Ok(records.into_iter().find(|record| record.uid == uid))
    }

    /// Its metrics at this moment, as text.
    pub async fn metrics(&self) -> Result<String> {
        let status = self.pod.status.as_ref();
        let ip = status.and_then(|status| status.pod_ip.as_deref());
        let ip = ip.with_context(|| format!("the agent of {} has no address", self.node))?;
        let stream = TcpStream::connect((ip, METRICS_PORT)).await?;
        Connection::open(stream).await?.get("/metrics").await
    }

    /// As whoever may forward ports in Curfew's namespace does it.
    async fn forward(&self) -> Result<Connection> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), CURFEW);
        let mut forwarder = pods
            .portforward(&self.pod.name_any(), &[DEBUG_PORT])
            .await
            .with_context(|| format!("no port-forward to the agent of {}", self.node))?;
        let stream = forwarder.take_stream(DEBUG_PORT).context("no stream")?;
        Connection::open(stream).await
    }
}

/// All agents.
#[derive(Debug)]
pub struct Agents(Vec<Agent>);

impl Agents {
    /// Finds the agent of each node and connects to it.
    ///
    /// # Errors
    /// When a node has not exactly one.
    pub async fn connect(cluster: &TestCluster) -> Result<Self> {
        let mut agents = Vec::new();
        for node in NODES {
            let mut pods = cluster.pods_of("agent").await?;
            pods.retain(|pod| {
                pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
            });
            ensure!(pods.len() == 1, "{} agents run on {node}", pods.len());
            let agent = Agent {
                node: node.to_owned(),
                pod: pods.remove(0),
                cluster: cluster.clone(),
                debugging: Mutex::new(None),
            };
            agent.schedule().await?;
            agents.push(agent);
        }
        Ok(Self(agents))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.0.iter()
    }

    /// The one of this node.
    pub fn of(&self, node: &str) -> Result<&Agent> {
        self.iter()
            .find(|agent| agent.node == node)
            .with_context(|| format!("there is no {node}"))
    }

    /// What they have of the pod with this UID at this moment, by node.
    pub async fn records(&self, uid: &str) -> Result<BTreeMap<&str, Scheduled>> {
        let mut records = BTreeMap::new();
        for agent in self.iter() {
            if let Some(record) = agent.record(uid).await? {
                records.insert(agent.node.as_str(), record);
            }
        }
        Ok(records)
    }

    /// The record of this pod, asked once and for all: on its node there is one, and nowhere else.
    ///
    /// # Errors
    /// When that is not so.
    pub async fn record_only_on(&self, node: &str, uid: &str) -> Result<Scheduled> {
        // The node's own agent is asked first: what it answers shows what it had by then.
        let record = self.of(node)?.record(uid).await?;
        let record =
            record.with_context(|| format!("the agent of {node} has no record of {uid}"))?;
        for agent in self.iter().filter(|agent| agent.node != node) {
            let other = agent.record(uid).await?;
            ensure!(
                other.is_none(),
                "{} knows a pod of {node}: {other:?}",
                agent.node
            );
        }
        Ok(record)
    }
}

/// The value of a sample in the text of `/metrics`; `series` is its name with its labels, as it
/// stands there.
pub fn sample(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let value = line.strip_prefix(series)?.strip_prefix(' ')?;
        value.split(' ').next()?.parse().ok()
    })
}

/// The sum of all series of a metric.
pub fn total(metrics: &str, name: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix(name)?;
        let value = match labels.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => labels.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_metric_are_summed() {
        let text = "# HELP a x\na{s=\"x} 9\"} 1\na{s=\"y\"} 2\na_b 4\nb 8\n";
        assert_eq!(total(text, "a"), 3.0);
        assert_eq!(total(text, "b"), 8.0);
        assert_eq!(total(text, "c"), 0.0);
    }

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let text =
            "# TYPE a gauge\na_total{x=\"1\"} 3\na_total{x=\"1\",y=\"2\"} 4\na 5.5 1700000000\n";
        assert_eq!(sample(text, "a_total{x=\"1\"}"), Some(3.0));
        assert_eq!(sample(text, "a"), Some(5.5));
        assert_eq!(sample(text, "a_total"), None);
    }
}
