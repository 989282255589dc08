//! What Curfew's own accounts may do to pods, with their real tokens.

use anyhow::{Result, bail, ensure};
use curfew_e2e::{
    CURFEW, NODES, Namespace, Workload, eventually, namespace::uid, tokens, within_namespace,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::SOON;

const NODE_BOUND: &str = "authentication.kubernetes.io/node-name";

/// Patches a pod, without keeping what comes of it.
async fn patch(
    client: &Client,
    namespace: &Namespace,
    pod: &str,
    patch: &Value,
) -> kube::Result<Pod> {
    let params = PatchParams::default().dry_run();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace.name);
    pods.patch(pod, &params, &Patch::Strategic(patch)).await
}

/// That the policy refuses a patch in these words.
async fn refuses(
    client: &Client,
    namespace: &Namespace,
    pod: &str,
    change: &Value,
    words: &[&str],
) -> Result<()> {
    match patch(client, namespace, pod, change).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            for word in [&["'curfew-accounts'"], words].concat() {
                ensure!(status.message.contains(word), "{change}: {status:?}");
            }
            Ok(())
        }
        other => bail!("{change}: {other:?}"),
    }
}

#[tokio::test]
async fn they_change_their_marks_and_nothing_else() {
    within_namespace("accounts", async |namespace| {
        let pods = ["one", "two"].map(|name| {
            let node = if name == "one" { NODES[0] } else { NODES[1] };
            Workload::new(name).on(node)
        });
        let pods = namespace.run_pods(&pods).await?;
        let annotate = ["annotate", "pod", "one", "example.com/old=1"];
        namespace.kubectl.ok(&annotate).await?;
        let cluster = &namespace.cluster;
        let agent = tokens::agent_of(cluster, NODES[0]).await?;
        let webhook = tokens::client(cluster, tokens::WEBHOOK, None).await?;
        let marks = json!({"metadata": {
            "labels": {"curfew.dev/interacted": "true"},
            "annotations": {"curfew.dev/ttl": "10m0s"},
        }});
        patch(&agent, namespace, "one", &marks).await?;
        for pod in ["one", "two"] {
            patch(&webhook, namespace, pod, &marks).await?;
        }
        let owner =
            json!({"apiVersion": "v1", "kind": "Pod", "name": "two", "uid": uid(&pods[1])?});
        for (change, words) in [
            (
                json!({"metadata": {"labels": {"app": "other"}}}),
                "may only change labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"labels": {"app": null}}}),
                "may only change labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"labels": {"new": "1"}}}),
                "may only change labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"annotations": {"example.com/new": "1"}}}),
                "may only change labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"annotations": {"example.com/old": null}}}),
                "may only change labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"finalizers": ["example.com/stay"]}}),
                "may only change the labels and annotations of curfew.dev/",
            ),
            (
                json!({"metadata": {"ownerReferences": [owner]}}),
                "may only change the labels and annotations of curfew.dev/",
            ),
            (
                json!({"spec": {"containers": [{"name": "main", "image": "other"}]}}),
                "may only change the labels and annotations of curfew.dev/",
            ),
            (
                json!({"spec": {"activeDeadlineSeconds": 5}}),
                "may only change the labels and annotations of curfew.dev/",
            ),
        ] {
            for client in [&agent, &webhook] {
                refuses(client, namespace, "one", &change, &[words]).await?;
            }
            // Not even together with what is right.
            let mut both = change.clone();
            both["metadata"]["annotations"]["curfew.dev/ttl"] = json!("10m0s");
            refuses(&agent, namespace, "one", &both, &[words]).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_reaches_no_pod_of_another_node() {
    within_namespace("foreign", async |namespace| {
        namespace
            .run_pod(&Workload::new("pod").on(NODES[0]))
            .await?;
        let cluster = &namespace.cluster;
        let neighbour = tokens::agent_of(cluster, NODES[1]).await?;
        let unbound = tokens::client(cluster, tokens::AGENT, None).await?;
        let marks = json!({"metadata": {"annotations": {"curfew.dev/ttl": "10m0s"}}});
        refuses(&neighbour, namespace, "pod", &marks, &NODES).await?;
        refuses(&unbound, namespace, "pod", &marks, &[NODES[0], NODE_BOUND]).await
    })
    .await;
}

#[tokio::test]
async fn more_rights_do_not_take_them_further() {
    within_namespace("generous", async |namespace| {
        let one = Workload::new("one").on(NODES[0]);
        namespace.run_pod(&one).await?;
        let resources = "--resource=pods,pods/status";
        let role = [
            "create",
            "role",
            "generous",
            "--verb=create,patch",
            resources,
        ];
        namespace.kubectl.ok(&role).await?;
        let account = format!("--serviceaccount={CURFEW}:{}", tokens::WEBHOOK);
        let binding = [
            "create",
            "rolebinding",
            "generous",
            "--role=generous",
            &account,
        ];
        namespace.kubectl.ok(&binding).await?;

        let webhook = tokens::client(&namespace.cluster, tokens::WEBHOOK, None).await?;
        let pods: Api<Pod> = Api::namespaced(webhook, &namespace.name);
        let refused = |said: kube::Result<Pod>| match said {
            Err(kube::Error::Api(status)) => {
                let words = "may only change the metadata of existing pods";
                let by_policy = status.message.contains("'curfew-accounts'");
                ensure!(by_policy && status.message.contains(words), "{status:?}");
                Ok(Some(()))
            }
            other => bail!("{other:?}"),
        };
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let other = Workload::new("other").pod()?;
        eventually(SOON, "creation is refused by the policy", async || {
            refused(pods.create(&dry, &other).await)
        })
        .await?;
        let marks = json!({"metadata": {"annotations": {"curfew.dev/ttl": "10m0s"}}});
        let (dry, marks) = (PatchParams::default().dry_run(), Patch::Merge(&marks));
        refused(pods.patch_status("one", &dry, &marks).await).map(drop)
    })
    .await;
}
