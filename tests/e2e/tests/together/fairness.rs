//! Curfew's requests to the API server have seats of their own.

use anyhow::{Context, Result, ensure};
use curfew_e2e::{NODES, TestCluster, tokens};
use hyper::Request;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::{Api, Client, ResourceExt, client::Body};

/// The API server says in each answer how it classified the request.
async fn classified(client: &Client) -> Result<(String, String)> {
    let request = Request::get("/api/v1/namespaces/curfew/pods/none").body(Body::empty())?;
    let answer = client.send(request).await?;
    // Agents may not read pods as themselves.
    ensure!(
        matches!(answer.status().as_u16(), 403 | 404),
        "{}",
        answer.status()
    );
    let header = |name: &str| -> Result<String> {
        let value = answer
            .headers()
            .get(name)
            .with_context(|| format!("no {name}"))?;
        Ok(value.to_str()?.to_owned())
    };
    Ok((
        header("X-Kubernetes-PF-FlowSchema-UID")?,
        header("X-Kubernetes-PF-PriorityLevel-UID")?,
    ))
}

#[tokio::test]
async fn both_accounts_are_told_from_all_others() -> Result<()> {
    let cluster = TestCluster::connect().await?;
    let schemas: Api<FlowSchema> = Api::all(cluster.client.clone());
    let levels: Api<PriorityLevelConfiguration> = Api::all(cluster.client.clone());
    let schema = schemas.get("curfew").await?.uid();
    let level = levels.get("curfew").await?.uid();
    let ours = (schema.context("no UID")?, level.context("no UID")?);
    let webhook = tokens::client(&cluster, tokens::WEBHOOK, None).await?;
    ensure!(classified(&webhook).await? == ours);
    let agent = tokens::agent_of(&cluster, NODES[0]).await?;
    ensure!(classified(&agent).await? == ours);
    ensure!(classified(&cluster.client).await? != ours);
    Ok(())
}
