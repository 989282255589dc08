//! What an agent's token may do: what root on its node could do, and nothing on others.

use anyhow::{Result, bail, ensure};
use curfew_cluster::Minor;
use curfew_e2e::{NODES, Namespace, Workload, namespace::uid, skip, tokens, within_namespace};
use http_body_util::BodyExt;
use hyper::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt, client::Body};
use serde_json::{Value, json};

/// A UID that no pod has.
const WRONG: &str = "00000000-0000-4000-8000-000000000000";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const OBJECT: &str = "application/json";

/// Why a test does not hold on older versions. `legacy.rs` tests what holds there.
const NOT_AS_NODE: &str =
    "agents act as their nodes since 1.36; before, their own account reads pods of all nodes";

/// A request with an agent's token.
#[derive(Debug, Clone)]
struct Attempt {
    /// The headers that make it somebody else's request.
    headers: Vec<(&'static str, String)>,
    method: Method,
    path: String,
    kind: &'static str,
    body: Value,
}

impl Attempt {
    fn new(method: Method, path: String) -> Self {
        Self {
            headers: Vec::new(),
            method,
            path,
            kind: OBJECT,
            body: Value::Null,
        }
    }

    fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    fn with(mut self, kind: &'static str, body: Value) -> Self {
        (self.kind, self.body) = (kind, body);
        self
    }

    fn patch(path: String, kind: &'static str, body: Value) -> Self {
        Self::new(Method::PATCH, path).with(kind, body)
    }

    fn post(path: String, body: Value) -> Self {
        Self::new(Method::POST, path).with(OBJECT, body)
    }

    fn impersonating(mut self, user: &str) -> Self {
        self.headers.push(("impersonate-user", user.to_owned()));
        self
    }

    fn and(mut self, header: &'static str, value: &str) -> Self {
        self.headers.push((header, value.to_owned()));
        self
    }

    /// The status code and the body of the answer.
    async fn make(&self, client: &Client) -> Result<(u16, String)> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("content-type", self.kind);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match &self.body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body)?,
        };
        let answer = client.send(request.body(Body::from(body))?).await?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A pod on each node, with a word in it that shows whether the pod was read.
struct Pods {
    here: Pod,
    there: Pod,
}

const HERE: &str = "word-of-here";
const THERE: &str = "word-of-there";

async fn pods(namespace: &Namespace) -> Result<Pods> {
    let workloads = [("here", NODES[0]), ("there", NODES[1])];
    let workloads = workloads.map(|(name, node)| Workload::new(name).on(node));
    namespace.run_pods(&workloads).await?;
    for (pod, word) in [("here", HERE), ("there", THERE)] {
        let word = format!("example.com/word={word}");
        namespace
            .kubectl
            .ok(&["annotate", "pod", pod, &word])
            .await?;
    }
    Ok(Pods {
        here: namespace.pods().get("here").await?,
        there: namespace.pods().get("there").await?,
    })
}

/// The pod has not changed, apart from its status and its marks.
async fn is_untouched(namespace: &Namespace, before: &Pod) -> Result<()> {
    let after = namespace.pods().get(&before.name_any()).await?;
    let others = |pod: &Pod| {
        let annotations = pod.annotations().clone().into_iter();
        let labels = pod.labels().clone().into_iter();
        let foreign = |(key, _): &(String, String)| !key.starts_with("curfew.dev/");
        (
            labels.filter(foreign).collect::<Vec<_>>(),
            annotations.filter(foreign).collect::<Vec<_>>(),
        )
    };
    ensure!(
        after.spec == before.spec
            && after.metadata.uid == before.metadata.uid
            && after.metadata.deletion_timestamp.is_none()
            && after.metadata.owner_references == before.metadata.owner_references
            && after.metadata.finalizers == before.metadata.finalizers
            && others(&after) == others(before),
        "{after:?}\n\nbefore: {before:?}"
    );
    Ok(())
}

fn eviction(pod: &Pod, uid: Option<&str>, dry_run: bool) -> Value {
    let mut options = json!({"preconditions": uid.map(|uid| json!({"uid": uid}))});
    if dry_run {
        options["dryRun"] = json!(["All"]);
    }
    json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.name_any(), "namespace": pod.namespace()},
        "deleteOptions": options,
    })
}

/// Ways to read pods of another node.
fn reads(namespace: &str) -> Vec<Attempt> {
    let own = format!("/api/v1/namespaces/{namespace}/pods");
    let mut paths = Vec::new();
    for list in [own.as_str(), "/api/v1/pods"] {
        for query in [
            "",
            "limit=500",
            "resourceVersion=0",
            "labelSelector=app%3Dthere",
            "fieldSelector=metadata.name%3Dthere",
            "fieldSelector=spec.nodeName%3Dnode-2",
            "fieldSelector=spec.nodeName%21%3Dnode-1",
            "fieldSelector=spec.nodeName%3Dnode-2,metadata.name%3Dthere",
            "fieldSelector=spec.nodeName%3Dnode-1,metadata.name%3Dthere",
            "fieldSelector=status.phase%3DRunning",
            "fieldSelector=spec.nodeName%3Dnode-1,spec.nodeName%3Dnode-2",
        ] {
            paths.push(format!("{list}?{query}"));
            paths.push(format!("{list}?watch=1&timeoutSeconds=1&{query}"));
        }
    }
    let pod = format!("{own}/there");
    for part in [
        "",
        "?resourceVersion=0",
        "/status",
        "/resize",
        "/ephemeralcontainers",
        "/log",
        "/proxy/",
        "/exec?command=env&container=main&stdout=1",
        "/attach?container=main&stdout=1",
        "/portforward?ports=80",
    ] {
        paths.push(format!("{pod}{part}"));
    }
    paths.push(format!(
        "/api/v1/watch/namespaces/{namespace}/pods/there?timeoutSeconds=1"
    ));
    paths.push("/api/v1/watch/pods?timeoutSeconds=1".to_owned());
    for node in NODES {
        for part in [
            "pods",
            "runningpods/",
            "logs/",
            "containerLogs/x/there/main",
        ] {
            paths.push(format!("/api/v1/nodes/{node}/proxy/{part}"));
        }
    }
    paths.into_iter().map(Attempt::get).collect()
}

/// Ways to change a pod, other than its marks.
fn changes(namespace: &str, pod: &Pod, uid: &str) -> Vec<Attempt> {
    let all = format!("/api/v1/namespaces/{namespace}/pods");
    let name = pod.name_any();
    let path = format!("{all}/{name}");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let image = json!({"spec": {"containers": [{"name": "main", "image": "other"}]}});
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "x", "image": "y"}]}});
    let apply = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}}});
    let mut all = vec![
        Attempt::new(Method::DELETE, path.clone()),
        Attempt::new(Method::DELETE, format!("{path}?dryRun=All")),
        Attempt::new(
            Method::DELETE,
            format!("{all}?fieldSelector=metadata.name%3D{name}"),
        ),
        Attempt::new(Method::PUT, path.clone()).with(OBJECT, json!(pod)),
        Attempt::post(all.clone(), json!(pod)),
        Attempt::patch(
            format!("{path}?fieldManager=x&force=true"),
            APPLY,
            apply.clone(),
        ),
        Attempt::post(
            format!("{path}/binding"),
            json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODES[0]},
            }),
        ),
        Attempt::post(format!("{path}/eviction"), eviction(pod, Some(WRONG), true)),
        Attempt::post(
            format!("{path}/eviction"),
            eviction(pod, Some(WRONG), false),
        ),
    ];
    for dry_run in ["", "?dryRun=All"] {
        for change in [&label, &image] {
            all.push(Attempt::patch(
                format!("{path}{dry_run}"),
                STRATEGIC,
                change.clone(),
            ));
        }
        for (part, change) in [
            ("status", json!({"status": {"message": "x"}})),
            ("status", label.clone()),
            ("resize", image.clone()),
            ("ephemeralcontainers", debugger.clone()),
        ] {
            for change in [change, json!({})] {
                let path = format!("{path}/{part}{dry_run}");
                all.push(Attempt::patch(path, STRATEGIC, change));
            }
        }
    }
    if uid != WRONG {
        for uid in [Some(uid), None] {
            for dry_run in [true, false] {
                let body = eviction(pod, uid, dry_run);
                all.push(Attempt::post(format!("{path}/eviction"), body));
            }
        }
    }
    all
}

/// Patches of a pod on another node that change nothing, or only its marks: a patch returns the pod.
fn patches(namespace: &str) -> Vec<Attempt> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/there");
    let mark = json!({"metadata": {"annotations": {"curfew.dev/ttl": "1m0s"}}});
    let apply = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "there"}});
    let mut all = Vec::new();
    for dry_run in ["", "dryRun=All&"] {
        let path = format!("{path}?{dry_run}fieldManager=x");
        for kind in [MERGE, STRATEGIC] {
            all.push(Attempt::patch(path.clone(), kind, json!({})));
            all.push(Attempt::patch(path.clone(), kind, mark.clone()));
        }
        all.push(Attempt::patch(path.clone(), JSON, json!([])));
        let test = json!([{"op": "test", "path": "/metadata/name", "value": "there"}]);
        all.push(Attempt::patch(path.clone(), JSON, test));
        all.push(Attempt::patch(path, APPLY, apply.clone()));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_and_changes_no_pod_of_another_node() {
    within_namespace("as-node", async |namespace| {
        if skip::unless(&namespace.cluster, Minor::agents_act_as_nodes, NOT_AS_NODE).await? {
            return Ok(());
        }
        let own = tokens::agent_of(&namespace.cluster, NODES[0]).await?;
        let Pods { here, there } = pods(namespace).await?;
        let name = &namespace.name;
        let node = format!("system:node:{}", NODES[0]);

        let mut attempts = reads(name);
        attempts.extend(changes(name, &there, &uid(&there)?));
        attempts.extend(patches(name));
        for attempt in attempts {
            for attempt in [attempt.clone(), attempt.impersonating(&node)] {
                let (code, said) = attempt.make(&own).await?;
                ensure!(
                    !said.contains(THERE),
                    "{attempt:?} shows the pod: {code} {said}"
                );
                // A list or a watch of what it may see ends well, and shows nothing.
                let changes = attempt.method != Method::GET;
                ensure!(!changes || code >= 400, "{attempt:?}: {code} {said}");
            }
        }
        // Its own account reads nothing at all; only as its node it sees that node's pods.
        for attempt in reads(name) {
            let (code, said) = attempt.make(&own).await?;
            ensure!(code == 403, "{attempt:?}: {code} {said}");
        }
        let path = format!("/api/v1/namespaces/{name}/pods/here");
        for as_other in [
            "system:node:node-2",
            "system:node:",
            "curfew-admin",
            "system:serviceaccount:kube-system:default",
            "system:serviceaccount:curfew:curfew-webhook",
        ] {
            for path in [path.clone(), path.replace("here", "there")] {
                let attempt = Attempt::get(path).impersonating(as_other);
                let (code, said) = attempt.make(&own).await?;
                ensure!(code == 403, "{attempt:?}: {code} {said}");
            }
        }
        for (header, value) in [
            ("impersonate-group", "system:masters"),
            ("impersonate-group", "system:nodes"),
            ("impersonate-uid", "1"),
            ("impersonate-extra-a", "b"),
        ] {
            let there = path.replace("here", "there");
            for attempt in [
                Attempt::get(there.clone()).and(header, value),
                Attempt::get(there).impersonating(&node).and(header, value),
            ] {
                let (code, said) = attempt.make(&own).await?;
                ensure!(
                    code >= 400 && !said.contains(THERE),
                    "{attempt:?}: {code} {said}"
                );
            }
        }
        is_untouched(namespace, &there).await?;
        is_untouched(namespace, &here).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_marks_and_evicts_the_pods_of_its_node_and_no_more() {
    within_namespace("own-node", async |namespace| {
        if skip::unless(&namespace.cluster, Minor::agents_act_as_nodes, NOT_AS_NODE).await? {
            return Ok(());
        }
        let own = tokens::agent_of(&namespace.cluster, NODES[0]).await?;
        let Pods { here, .. } = pods(namespace).await?;
        let name = &namespace.name;
        let node = format!("system:node:{}", NODES[0]);
        let path = format!("/api/v1/namespaces/{name}/pods/here");

        for read in [
            path.clone(),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1".to_owned(),
            "/api/v1/pods?watch=1&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dnode-1".to_owned(),
        ] {
            let attempt = Attempt::get(read).impersonating(&node);
            let (code, said) = attempt.make(&own).await?;
            ensure!(
                code == 200 && said.contains(HERE),
                "{attempt:?}: {code} {said}"
            );
        }
        for attempt in changes(name, &here, WRONG) {
            for attempt in [attempt.clone(), attempt.impersonating(&node)] {
                let (code, said) = attempt.make(&own).await?;
                ensure!(code >= 400, "{attempt:?}: {code} {said}");
            }
        }
        is_untouched(namespace, &here).await?;

        let mark = json!({"metadata": {"annotations": {"curfew.dev/ttl": "1m0s"}}});
        let live = uid(&here)?;
        let evict = |uid| Attempt::post(format!("{path}/eviction"), eviction(&here, uid, true));
        for (attempt, expected) in [
            (
                Attempt::patch(format!("{path}?dryRun=All"), MERGE, mark.clone()),
                200,
            ),
            (
                Attempt::patch(path.clone(), MERGE, mark).impersonating(&node),
                403,
            ),
            (evict(Some(WRONG)).impersonating(&node), 409),
            (evict(Some(&live)).impersonating(&node), 201),
            (evict(Some(&live)), 403),
        ] {
            let (code, said) = attempt.make(&own).await?;
            ensure!(code == expected, "{attempt:?}: {code} {said}");
        }
        is_untouched(namespace, &here).await
    })
    .await;
}

/// Kubernetes itself shows a pod in the error of a JSON patch that cannot be read, before it asks any admission
/// policy. That is no more than the kubelet's own credential shows by the same way, so no more than root on that node
/// has. `docs/security.md` says so; when this test fails, it can say less.
#[tokio::test]
async fn the_error_of_a_patch_shows_a_pod_to_agents_as_it_does_to_kubelets() {
    within_namespace("patch-error", async |namespace| {
        let own = tokens::agent_of(&namespace.cluster, NODES[0]).await?;
        let Pods { there, .. } = pods(namespace).await?;
        let path = format!("/api/v1/namespaces/{}/pods/there", namespace.name);
        let unreadable =
            json!([{"op": "replace", "path": "/metadata/creationTimestamp", "value": "x"}]);
        let kubelet = format!("system:node:{}", NODES[0]);
        let as_agent = Attempt::patch(path.clone(), JSON, unreadable.clone());
        let as_kubelet = Attempt::patch(format!("{path}/status"), JSON, unreadable)
            .impersonating(&kubelet)
            .and("impersonate-group", "system:nodes");
        let admin = &namespace.cluster.client;
        for (client, attempt) in [(&own, as_agent), (admin, as_kubelet)] {
            let (code, said) = attempt.make(client).await?;
            if code != 422 || !said.contains(THERE) {
                bail!("{attempt:?} no longer shows the pod: {code} {said}");
            }
        }
        is_untouched(namespace, &there).await
    })
    .await;
}
