//! Clients that are Curfew's own accounts, with real tokens.

use anyhow::{Context, Result};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::json;

use crate::{CURFEW, TestCluster, disrupt};

/// The agents' account.
pub const AGENT: &str = "curfew-agent";
/// The webhook's account.
pub const WEBHOOK: &str = "curfew-webhook";

/// A client with a token of an account of Curfew's: bound to this pod, as the token that the pod's
/// own kubelet gets for it, or to nothing.
pub async fn client(cluster: &TestCluster, account: &str, pod: Option<&Pod>) -> Result<Client> {
    let pod = pod.map(
        |pod| json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()}),
    );
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"audiences": [], "expirationSeconds": 600, "boundObjectRef": pod},
    }))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), CURFEW);
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    let token = answer.status.context("there is no token")?.token;
    cluster.client_of(&token).await
}

/// A client that is the agent of a node.
pub async fn agent_of(cluster: &TestCluster, node: &str) -> Result<Client> {
    let pod = disrupt::agent_of(cluster, node).await?;
    client(cluster, AGENT, Some(&pod)).await
}
