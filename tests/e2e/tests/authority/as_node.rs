//! What an agent's token may do as a node: what root on that node could do, and nothing on others.

use anyhow::{Result, ensure};
use curfew_e2e::{NODES, Workload, namespace::uid, tokens, within_namespace};
use http_body_util::BodyExt;
use hyper::{Method, Request};
use kube::{Client, ResourceExt, client::Body};
use serde_json::{Value, json};

/// A UID that no pod has.
const WRONG: &str = "00000000-0000-4000-8000-000000000000";

/// The status code of a request that is made as another user.
async fn ask(client: &Client, user: &str, method: Method, path: &str, body: &Value) -> Result<u16> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("impersonate-user", user)
        .body(Body::from(serde_json::to_vec(body)?))?;
    let answer = client.send(request).await?;
    let code = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(code)
}

#[tokio::test]
async fn an_agent_acts_as_its_own_node_only_and_reaches_no_pod_of_another() {
    within_namespace("as-node", async |namespace| {
        let own = tokens::agent_of(&namespace.cluster, NODES[0]).await?;
        let workloads = [("here", NODES[0]), ("there", NODES[1])];
        let workloads = workloads.map(|(name, node)| Workload::new(name).on(node));
        let pods = namespace.run_pods(&workloads).await?;
        let path = |name: &str| format!("/api/v1/namespaces/{}/pods/{name}", namespace.name);
        let all = path("").trim_end_matches('/').to_owned();
        let eviction = |name: &str, uid: &str| {
            json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": {"name": name, "namespace": namespace.name},
                "deleteOptions": {"preconditions": {"uid": uid}, "dryRun": ["All"]},
            })
        };
        let (here, there) = (uid(&pods[0])?, uid(&pods[1])?);
        let node = format!("system:node:{}", NODES[0]);
        let other = format!("system:node:{}", NODES[1]);
        let nothing = Value::Null;
        let evict_here = format!("{}/eviction", path("here"));
        let evict_there = format!("{}/eviction", path("there"));
        let cases = [
            (
                node.as_str(),
                Method::GET,
                path("here"),
                nothing.clone(),
                200,
            ),
            (&node, Method::GET, path("there"), nothing.clone(), 403),
            (&node, Method::GET, all, nothing.clone(), 403),
            (&node, Method::DELETE, path("here"), nothing.clone(), 403),
            (
                &node,
                Method::PATCH,
                path("here"),
                json!({"metadata": {"labels": {"a": "b"}}}),
                403,
            ),
            (
                &node,
                Method::POST,
                evict_there.clone(),
                eviction("there", &there),
                403,
            ),
            (
                &node,
                Method::POST,
                evict_here.clone(),
                eviction("here", WRONG),
                409,
            ),
            (
                &node,
                Method::POST,
                evict_here,
                eviction("here", &here),
                201,
            ),
            (&other, Method::GET, path("there"), nothing.clone(), 403),
            (
                &other,
                Method::POST,
                evict_there,
                eviction("there", &there),
                403,
            ),
            (
                "curfew-admin",
                Method::GET,
                path("there"),
                nothing.clone(),
                403,
            ),
            (
                "system:serviceaccount:kube-system:default",
                Method::GET,
                path("there"),
                nothing,
                403,
            ),
        ];
        for (user, method, path, body, expected) in cases {
            let code = ask(&own, user, method.clone(), &path, &body).await?;
            ensure!(
                code == expected,
                "{method} {path} as {user}: {code} instead of {expected}"
            );
        }
        for pod in &pods {
            let still = namespace.pods().get(&pod.name_any()).await?;
            ensure!(still.metadata.deletion_timestamp.is_none());
        }
        Ok(())
    })
    .await;
}
