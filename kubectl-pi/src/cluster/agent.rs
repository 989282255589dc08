//! What the agent of a node answers on the debug port of its pod, by a [`Tunnel`].

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use curfew_core::Record;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use kube::{Client, api::ListParams};
use serde::Deserialize;
use serde_json::Value;

use super::{
    find,
    placed::{PlacedPod, api},
    tunnel::{AGENTS, NAMESPACE, Tunnel},
};

/// Where the agent tells its records in full.
pub(crate) const STORE: &str = "/v1/store";
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to tell its records. Without them there is still what stands on the pods.
const PATIENCE: Duration = Duration::from_secs(5);
/// The schedule of a full node is far smaller.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The nodes that have an agent, by name.
pub(crate) async fn nodes(client: &Client) -> kube::Result<Vec<String>> {
    let agents = api::<PlacedPod>(client, Some(NAMESPACE));
    let found = find::pages(ListParams::default().labels(AGENTS), async |params| {
        agents.list(&params).await
    });
    let placed = found.await?.into_iter();
    let mut nodes: Vec<_> = placed.filter_map(|pod| pod.spec.node_name).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// Of the agent's answer what is read.
#[derive(Debug, Deserialize)]
struct Holdings {
    /// Those of another release may be readable in part only.
    records: Vec<Value>,
}

/// The records of the agent of the node.
pub(crate) async fn records(client: &Client, node: &str) -> anyhow::Result<Vec<Record>> {
    let answer = tokio::time::timeout(PATIENCE, ask(client, node, STORE));
    let answer = answer
        .await
        .with_context(|| format!("the agent of {node} did not answer within {PATIENCE:?}"))??;
    let Holdings { records } = Holdings::deserialize(&answer)
        .with_context(|| format!("the agent of {node} is from another release"))?;
    let read = records.iter().map(Record::deserialize);
    Ok(read.filter_map(Result::ok).collect())
}

/// What the agent of the node answers under this path.
pub(crate) async fn ask(client: &Client, node: &str, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&read(client, node, path).await?)?)
}

/// The same as it came.
pub(crate) async fn read(client: &Client, node: &str, path: &str) -> anyhow::Result<Bytes> {
    let Tunnel { stream, fault } = Tunnel::open(client, node).await?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let asked = async move {
        let answer = requests.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow!("the answer is incomplete: {error}"))?;
        if !status.is_success() {
            bail!("the agent of {node} answered with status {status}");
        }
        anyhow::Ok(body.to_bytes())
    };
    // It ends with its last request; what goes wrong on it, the request tells.
    let asked = async { futures::join!(asked, connection).0 };
    let answered = async {
        tokio::select! {
            biased;
            Some(fault) = fault => Err(unreachable(node, &fault)),
            answer = asked => answer,
        }
    };
    tokio::time::timeout(TIMEOUT, answered)
        .await
        .with_context(|| format!("the agent of {node} did not answer within {TIMEOUT:?}"))?
}

/// The error of a tunnel, with the node.
pub(crate) fn unreachable(node: &str, fault: &str) -> anyhow::Error {
    anyhow!("cannot reach the agent of {node}: {}", fault.trim())
}
