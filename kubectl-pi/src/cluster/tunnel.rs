//! The way to the debug port of a node's agent: a port-forward through the API server.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use curfew_core::namespaces;
use futures::{FutureExt, future::BoxFuture};
use hyper::StatusCode;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, Error, ResourceExt, api::ListParams, client::UpgradeConnectionError};
use tokio::io::DuplexStream;

pub(crate) const NAMESPACE: &str = namespaces::OWN;
pub(crate) const AGENTS: &str = "app.kubernetes.io/name=curfew,app.kubernetes.io/component=agent";
const PORT: u16 = 9091;

/// How long it may take to find the agent, and then again to reach it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to the agent of a node.
pub(crate) struct Tunnel {
    /// What goes in and out.
    pub(crate) stream: DuplexStream,
    /// Ends with the reason when the agent's port turns out not to be reachable.
    pub(crate) fault: BoxFuture<'static, Option<String>>,
}

impl Tunnel {
    /// Finds the agent that the node has now, and connects to it.
    pub(crate) async fn open(client: &Client, node: &str) -> anyhow::Result<Self> {
        let agent = tokio::time::timeout(TIMEOUT, find(client, node))
            .await
            .with_context(|| format!("could not find the agent of {node} within {TIMEOUT:?}"))??;
        let agents: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let mut forwarder = tokio::time::timeout(TIMEOUT, agents.portforward(&agent, &[PORT]))
            .await
            .with_context(|| format!("could not reach pod {NAMESPACE}/{agent} within {TIMEOUT:?}"))?
            .map_err(|error| refused(error, &agent))?;
        let stream = forwarder
            .take_stream(PORT)
            .context("the forwarded port has no stream")?;
        let fault = forwarder
            .take_error(PORT)
            .context("the forwarded port has no stream for errors")?;
        let fault = fault.boxed();
        Ok(Self { stream, fault })
    }
}

fn refused(error: Error, agent: &str) -> anyhow::Error {
    match error {
        Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(StatusCode::FORBIDDEN)) => {
            anyhow!(
                "you may not forward ports in the namespace {NAMESPACE}: this requires the verb create on \
                 pods/portforward there"
            )
        }
        error => anyhow::Error::new(error)
            .context(format!("cannot forward a port to pod {NAMESPACE}/{agent}")),
    }
}

/// The name of the agent's pod on the node.
async fn find(client: &Client, node: &str) -> anyhow::Result<String> {
    let agents: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let there = ListParams::default()
        .labels(AGENTS)
        .fields(&format!("spec.nodeName={node}"));
    let found = agents.list_metadata(&there).await?.items;
    let stays = found
        .iter()
        .find(|pod| pod.metadata.deletion_timestamp.is_none());
    match stays {
        Some(pod) => Ok(pod.name_any()),
        None => {
            // A typing error reads like any other.
            Api::<Node>::all(client.clone()).get_metadata(node).await?;
            bail!("no agent runs on {node}: its pods are not evicted")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named() {
        let answer = |status| UpgradeConnectionError::ProtocolSwitch(status);
        for (status, said) in [
            (StatusCode::FORBIDDEN, "the verb create on pods/portforward"),
            (
                StatusCode::NOT_FOUND,
                "cannot forward a port to pod curfew/agent-x",
            ),
        ] {
            let error = refused(Error::UpgradeConnection(answer(status)), "agent-x");
            assert!(error.to_string().contains(said), "{error:#}");
        }
    }
}
