//! Agents that cannot act as their nodes, as on API servers before 1.36, with `manifests/components/legacy`.
//!
//! An agent evicts the pod that it means, on its own node, and no other; and what it does not mean costs nobody's
//! disruption budget. The API server is asked as an agent asks it, with its token.
//!
//! The component is installed on the test cluster and taken away again, so this is a binary of its own, with one test.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::{metadata, overrides};
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload, audit, disrupt, eventually, granted,
    installation::{self, GUARD, LEGACY_ROLE},
    life,
    namespace::uid,
    tokens, within_namespace,
};
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    client::Body,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// A UID that no pod has.
const WRONG: &str = "00000000-0000-4000-8000-000000000000";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_cannot_act_as_their_nodes_are_guarded() {
    let cluster = TestCluster::connect().await.unwrap();
    let mark = audit::now(cluster.machine.audit_log()).unwrap();
    let installed = installation::go_back_to_legacy(&cluster).await;
    let tested = match installed {
        Ok(()) => AssertUnwindSafe(all(&mark)).catch_unwind().await,
        Err(_) => Ok(()),
    };
    // Whatever happened: the other binaries need the cluster as it was.
    installation::leave_legacy(&cluster).await.unwrap();
    installed.unwrap();
    if let Err(panic) = tested {
        resume_unwind(panic);
    }
}

async fn all(mark: &audit::Mark) {
    what_an_agent_does_not_mean_is_refused_and_costs_no_budget().await;
    nobody_else_is_guarded().await;
    an_extension_of_the_last_moment_keeps_the_pod().await;
    agents_use_every_right_of_the_component(mark).await;
}

/// Agents watch, look up and evict pods as their own account.
async fn agents_use_every_right_of_the_component(mark: &audit::Mark) {
    within_namespace("legacy", async |namespace| {
        let cluster = &namespace.cluster;
        let agents = Agents::connect(cluster).await?;
        let workloads = ["stays", "leaves"].map(|name| Workload::new(name).on(NODES[0]));
        let pods = namespace.run_pods(&workloads).await?;
        let leaves = life::touch(namespace, &agents, &pods[1], &["true"]).await?;
        // While there is no agent, so that the next one has to look the pod up.
        disrupt::keep_agent_away(cluster, NODES[0]).await?;
        let at_once = DeleteParams::default().grace_period(0);
        let deleted = namespace.pods().delete("leaves", &at_once).await;
        disrupt::bring_agents_back(cluster).await?;
        deleted?;
        let agents = Agents::connect(cluster).await?;
        let watch = namespace.watch().await?;
        let stays = life::touch(namespace, &agents, &pods[0], &["true"]).await?;
        life::evicted(namespace, &watch, &stays).await?;
        life::forgotten(&agents, &leaves).await?;

        let rights = granted::of_role(cluster, LEGACY_ROLE).await?;
        let kubernetes = cluster.kubernetes().await?;
        let unused = granted::unused(&rights, mark, tokens::AGENT, kubernetes)?;
        ensure!(
            unused.is_empty(),
            "rights that no agent has used: {unused:#?}"
        );
        Ok(())
    })
    .await;
}

/// What the API server said to an eviction.
#[derive(Debug)]
struct Said {
    code: u16,
    body: Value,
}

impl Said {
    /// Whether the guard refused it with this code, in both places where a client looks for it, and
    /// with all of this in its words.
    fn check_refusal(&self, code: u16, words: &[&str]) -> Result<()> {
        ensure!(self.code == code && self.body["code"] == code, "{self:?}");
        let message = self.body["message"].as_str().unwrap_or_default();
        for word in [GUARD].iter().chain(words) {
            ensure!(message.contains(word), "{word} is not in {self:?}");
        }
        Ok(())
    }
}

/// Asks for an eviction, with the UID or without one.
async fn evict(client: &Client, pod: (&str, &str), uid: Option<&str>, query: &str) -> Result<Said> {
    evict_seeing(client, pod, uid, query, None).await
}

/// The same, and says what its caller knows of people's overrides.
async fn evict_seeing(
    client: &Client,
    pod: (&str, &str),
    uid: Option<&str>,
    query: &str,
    seen: Option<&str>,
) -> Result<Said> {
    let (namespace, name) = pod;
    let options = uid.map(|uid| json!({"preconditions": {"uid": uid}}));
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {
            "name": name, "namespace": namespace,
            "annotations": seen.map(|seen| json!({overrides::SEEN: seen})),
        },
        "deleteOptions": options,
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction{query}");
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&eviction)?))?;
    let answered = async {
        let answer = client.send(request).await?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::Ok(Said {
            code,
            body: serde_json::from_slice(&body)?,
        })
    };
    timeout(PATIENCE, answered)
        .await
        .context("the API server does not answer")?
}

/// Two pods on the first node, of which one may go at a time.
async fn guarded_pods(namespace: &Namespace) -> Result<(Vec<Pod>, Api<PodDisruptionBudget>)> {
    let workload = Workload::new("web").on(NODES[0]);
    let pods = namespace.run_deployment(&workload, 2).await?;
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }))?;
    let budgets: Api<PodDisruptionBudget> =
        Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    budgets.create(&PostParams::default(), &budget).await?;
    eventually(PATIENCE, "the budget has room for one", async || {
        Ok((room(&budgets.get("web").await?) == (1, vec![])).then_some(()))
    })
    .await?;
    Ok((pods, budgets))
}

/// How many pods may go, and which are said to be going.
fn room(budget: &PodDisruptionBudget) -> (i32, Vec<String>) {
    let Some(status) = &budget.status else {
        return (0, Vec::new());
    };
    let going = status.disrupted_pods.iter().flatten();
    (
        status.disruptions_allowed,
        going.map(|(name, _)| name.clone()).collect(),
    )
}

async fn what_an_agent_does_not_mean_is_refused_and_costs_no_budget() {
    within_namespace("guard", async |namespace| {
        let cluster = &namespace.cluster;
        let own = tokens::agent_of(cluster, NODES[0]).await?;
        let neighbour = tokens::agent_of(cluster, NODES[1]).await?;
        let unbound = tokens::client(cluster, tokens::AGENT, None).await?;
        let (pods, budgets) = guarded_pods(namespace).await?;
        let before = budgets.get("web").await?;

        let name = pods[0].name_any();
        let pod = (namespace.name.as_str(), name.as_str());
        let nobody = (namespace.name.as_str(), "nobody");
        let live = uid(&pods[0])?;
        let (right, wrong) = (Some(live.as_str()), Some(WRONG));
        for dry_run in ["?dryRun=All", ""] {
            for (client, pod, uid, code, words) in [
                (&own, pod, wrong, 409, &[live.as_str(), WRONG][..]),
                (&own, pod, None, 400, &["deleteOptions.preconditions.uid"]),
                (&own, nobody, wrong, 404, &["nobody"]),
                (&neighbour, pod, right, 403, &NODES),
                // Of the agents' account, and yet of no node.
                (&unbound, pod, right, 403, &["node-name"]),
            ] {
                let said = evict(client, pod, uid, dry_run).await?;
                said.check_refusal(code, words)?;
                let budget = budgets.get("web").await?;
                ensure!(
                    budget.resource_version() == before.resource_version(),
                    "after {said:?} the budget was {:?}, before {:?}",
                    budget.status,
                    before.status
                );
            }
        }
        let still = namespace.pods().get(&name).await?;
        ensure!(still.metadata.deletion_timestamp.is_none());

        let said = evict(&own, pod, right, "?dryRun=All").await?;
        ensure!(said.code == 201, "{said:?}");
        let said = evict(&own, pod, right, "").await?;
        ensure!(said.code == 201, "{said:?}");
        eventually(PATIENCE, "the pod goes", async || {
            let gone = namespace.pods().get_opt(&name).await?.is_none();
            Ok(gone.then_some(()))
        })
        .await
    })
    .await;
}

async fn nobody_else_is_guarded() {
    within_namespace("unguarded", async |namespace| {
        let admin = &namespace.cluster.client;
        let (pods, budgets) = guarded_pods(namespace).await?;
        let name = pods[0].name_any();
        let pod = (namespace.name.as_str(), name.as_str());

        // What the guard is there for: the API server refuses, and the room is gone all the same.
        let said = evict(admin, pod, Some(WRONG), "").await?;
        let message = said.body["message"].as_str().unwrap_or_default();
        ensure!(said.code == 409 && !message.contains(GUARD), "{said:?}");
        let after = room(&budgets.get("web").await?);
        ensure!(after == (0, vec![name.clone()]), "{after:?}");

        namespace
            .run_pod(&Workload::new("lone").on(NODES[1]))
            .await?;
        let lone = (namespace.name.as_str(), "lone");
        let said = evict(admin, lone, None, "?dryRun=All").await?;
        ensure!(said.code == 201, "{said:?}");
        let live = uid(&namespace.pods().get("lone").await?)?;
        let said = evict(admin, lone, Some(&live), "").await?;
        ensure!(said.code == 201, "{said:?}");
        Ok(())
    })
    .await;
}

async fn an_extension_of_the_last_moment_keeps_the_pod() {
    within_namespace("last-moment", async |namespace| {
        let cluster = &namespace.cluster;
        let own = tokens::agent_of(cluster, NODES[0]).await?;
        let pod = namespace
            .run_pod(&Workload::new("pod").on(NODES[0]))
            .await?;
        let id = uid(&pod)?;
        let (place, uid) = ((namespace.name.as_str(), "pod"), Some(id.as_str()));
        life::exec(namespace, &pod, &["true"]).await?;
        eventually(PATIENCE, "the pod is marked", async || {
            let pod = namespace.pods().get("pod").await?;
            let marked = pod.annotations().contains_key(metadata::EVICTION_TIME);
            Ok(marked.then_some(()))
        })
        .await?;
        namespace
            .kubectl
            .ok(&["pi", "extend", "pod", "--duration=1m"])
            .await?;
        for seen in ["{}", r#"{"extension":"59s"}"#] {
            let said = evict_seeing(&own, place, uid, "", Some(seen)).await?;
            said.check_refusal(425, &["was moved to"])?;
        }
        let said = evict_seeing(&own, place, uid, "", Some(r#"{"extension":"1m"}"#)).await?;
        ensure!(said.code == 201, "{said:?}");
        Ok(())
    })
    .await;
}
