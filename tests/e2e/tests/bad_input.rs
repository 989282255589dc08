//! Whatever reaches the webhook, it gives a clear answer and goes on serving.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::{
    Command,
    metadata::{COMMAND, LABEL},
};
use curfew_e2e::{
    Agents, CURFEW, NODES, Namespace, Workload,
    cluster::selector,
    life, marks,
    namespace::uid,
    webhook::{Answer, Replica},
    within_namespace,
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

/// The largest body that the webhook reads.
const LIMIT: usize = 19 * 1024 * 1024;
/// An answer to nonsense takes no longer, and neither does anybody's exec meanwhile.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A review of an exec, as the API server sends it.
fn review(namespace: &str, name: &str, user: &str, command: &[String]) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "11111111-2222-3333-4444-555555555555",
            "kind": {"group": "", "version": "v1", "kind": "PodExecOptions"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": "exec",
            "name": name,
            "namespace": namespace,
            "operation": "CONNECT",
            "userInfo": {"username": user, "groups": ["system:authenticated"]},
            "object": {
                "kind": "PodExecOptions", "apiVersion": "v1",
                "stdout": true, "container": "main", "command": command,
            },
            "oldObject": null,
            "dryRun": false,
            "options": null,
        },
    })
}

/// Whether it is refused as a request, in a few words.
fn refused(what: &str, answer: &Answer) -> Result<()> {
    ensure!((400..500).contains(&answer.status), "{what}: {answer:?}");
    ensure!((1..1000).contains(&answer.body.len()), "{what}: {answer:?}");
    ensure!(answer.took < AT_ONCE, "{what}: {answer:?}");
    Ok(())
}

/// Whether it is answered as a review of this UID, and how.
fn allowed(what: &str, answer: &Answer) -> Result<bool> {
    ensure!(
        answer.status == 200 && answer.took < AT_ONCE,
        "{what}: {answer:?}"
    );
    let body: Value = serde_json::from_str(&answer.body)?;
    let response = &body["response"];
    ensure!(
        response["uid"] == "11111111-2222-3333-4444-555555555555",
        "{what}: {answer:?}"
    );
    let allowed = response["allowed"] == json!(true);
    let why = response["status"]["message"].as_str().unwrap_or_default();
    ensure!(allowed || !why.is_empty(), "{what}: {answer:?}");
    Ok(allowed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_answered_and_delays_nobody() {
    within_namespace("nonsense", async |namespace| {
        let bystander = namespace
            .run_pod(&Workload::new("bystander").on(NODES[0]))
            .await?;
        ensure!(uid(&bystander).is_ok());
        let webhook = Replica::any(&namespace.cluster).await?;
        let began = Timestamp::now();
        let over = AtomicBool::new(false);
        let (posted, execs) = tokio::join!(
            async {
                let posted = post_all(namespace, &webhook).await;
                over.store(true, Ordering::Relaxed);
                posted
            },
            keep_executing(namespace, &over),
        );
        posted?;
        ensure!(execs? > 0, "nobody was there to be delayed");
        logged_once(namespace, began).await
    })
    .await;
}

/// A node on which no agent runs: nothing selects it for the DaemonSet.
#[tokio::test]
async fn what_is_done_on_a_node_with_the_longest_name_is_recorded_on_the_pod() {
    within_namespace("longest-name", async |namespace| {
        // Kubernetes allows 253 characters, and so many in one label.
        let node = format!("{:n<253}", namespace.name);
        let kubectl = namespace.cluster.kubectl();
        let new = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        let args = ["create", "-f", "-"];
        kubectl.feed(&args, &new.to_string()).await?.success()?;
        let recorded = recorded_on_the_pod(namespace, &node).await;
        // Nothing else ends a pod there.
        let pod = ["delete", "pod", "there", "--force", "--ignore-not-found"];
        namespace.kubectl.ok(&pod).await?;
        kubectl.ok(&["delete", "node", &node]).await?;
        recorded
    })
    .await;
}

async fn recorded_on_the_pod(namespace: &Namespace, node: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "there"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "localhost/busybox:e2e"}],
        },
    });
    let args = ["create", "-f", "-"];
    namespace
        .kubectl
        .feed(&args, &pod.to_string())
        .await?
        .success()?;
    // No kubelet runs it. Admission comes before.
    let said = namespace
        .kubectl
        .run(&["exec", "there", "--", "id"])
        .await?;
    ensure!(said.success().is_err());
    let pod = namespace.pods().get("there").await?;
    let marks = (pod.labels(), pod.annotations());
    ensure!(marks.0.contains_key(LABEL), "{marks:?}");
    ensure!(marks.1[COMMAND] == "id", "{marks:?}");
    Ok(())
}

async fn post_all(namespace: &Namespace, webhook: &Replica) -> Result<()> {
    let json = "application/json";
    let long_list = json!({"apiVersion": "v1", "kind": "PodList", "items": [], "metadata": {}});
    let mut empty = review(&namespace.name, "bystander", "alice", &[]);
    empty["request"] = Value::Null;
    let mut without_uid = review(&namespace.name, "bystander", "alice", &[]);
    without_uid["request"]["uid"] = json!("");
    for (what, content_type, body) in [
        ("nothing", json, Vec::new()),
        ("no JSON", json, b"\x16\x03\x01 hello".to_vec()),
        (
            "half of it",
            json,
            b"{\"apiVersion\": \"admission.k8s.io/v1\", \"kind\":".to_vec(),
        ),
        ("another kind", json, long_list.to_string().into_bytes()),
        ("a list", json, b"[1, 2, 3]".to_vec()),
        ("no request", json, empty.to_string().into_bytes()),
        ("no UID", json, without_uid.to_string().into_bytes()),
        ("deep nesting", json, "[".repeat(100_000).into_bytes()),
    ] {
        refused(what, &webhook.post(content_type, body).await?)?;
    }
    let none = &["true".to_owned()][..];
    let many: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
    for (what, name, user, command) in [
        ("a long name", &*"n".repeat(10_000), "alice", none),
        ("a pod that is not there", "nobody", "alice", none),
        (
            "a user with signs",
            "nobody",
            "system:serviceaccount:a:b@c",
            none,
        ),
        (
            "a user in other letters",
            "nobody",
            "Jürgen Ω 名前 🦀\u{202e}\u{1b}[2J",
            none,
        ),
        ("an endless user", "nobody", &"u".repeat(100_000), none),
        ("many words", "nobody", "alice", &many),
    ] {
        let body = review(&namespace.name, name, user, command).to_string();
        let answer = webhook.post(json, body).await?;
        // What does not exist is for the API server to refuse; a name that cannot be is an error.
        let fine = allowed(what, &answer)?;
        ensure!(fine || name.len() > 253, "{what}: {answer:?}");
    }
    let answer = webhook.post(json, vec![b' '; LIMIT + 1]).await;
    let answer = answer.context("too much of a body is not answered")?;
    ensure!(answer.status == 413, "{answer:?}");
    refused("too much", &answer)
}

/// Reaches into the bystander again and again, and returns how often.
async fn keep_executing(namespace: &Namespace, over: &AtomicBool) -> Result<usize> {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let said = namespace
            .kubectl
            .run(&["exec", "bystander", "--", "true"])
            .await?;
        ensure!(said.code == Some(0) && said.took < AT_ONCE, "{said:?}");
        count += 1;
    }
    Ok(count)
}

/// Each thing that was posted once is in the webhook's log at most once.
async fn logged_once(namespace: &Namespace, since: Timestamp) -> Result<()> {
    let kubectl = namespace.cluster.kubectl().in_namespace(CURFEW);
    let since = format!("--since-time={since}");
    let selector = format!("--selector={}", selector("webhook"));
    let log = kubectl
        .ok(&["logs", &selector, "--tail=-1", &since])
        .await?;
    let mut seen = BTreeMap::<String, usize>::new();
    for line in log.lines() {
        ensure!(
            line.len() < 4096,
            "a line of {} bytes: {:.200}",
            line.len(),
            line
        );
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
            continue;
        };
        fields.remove("timestamp");
        // Of the webhook's good deeds there may be many.
        if fields
            .get("level")
            .is_some_and(|level| level != "INFO" && level != "DEBUG")
        {
            *seen.entry(json!(fields).to_string()).or_default() += 1;
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "logged more than once: {twice:?}");
    Ok(())
}

#[tokio::test]
async fn users_of_every_name_are_recorded_as_they_are() {
    within_namespace("users", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let node = NODES[1];
        let users = [
            "alice@example.com",
            "system:serviceaccount:build:robot",
            "oidc:Jürgen Ω 名前 🦀",
            "https://login.example.com/#7c2a?x=%41",
        ];
        for (at, user) in users.iter().enumerate() {
            let pod = namespace
                .run_pod(&Workload::new(&format!("pod-{at}")).on(node))
                .await?;
            let name = format!("pod-{at}");
            let kubectl = namespace.kubectl.impersonating(user, &["system:masters"]);
            kubectl.ok(&["exec", &name, "--", "true"]).await?;
            let record = agents.record_only_on(node, &uid(&pod)?).await?;
            ensure!(record.last.user == *user, "{record:?}");
            marks::told(namespace, &record, life::PROMPT).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_command_of_thousands_of_words_runs_and_is_cut_in_the_record() {
    within_namespace("words", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let node = NODES[0];
        let pod = namespace.run_pod(&Workload::new("pod").on(node)).await?;
        let numbers: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
        let mut args = vec!["exec", "pod", "--", "echo"];
        args.extend(numbers.iter().map(String::as_str));
        let output = namespace.kubectl.ok(&args).await?;
        ensure!(output.trim_end() == numbers.join(" "));
        let record = agents.record_only_on(node, &uid(&pod)?).await?;
        let expected = Command::new(&args[3..]);
        ensure!(record.last.command == expected, "{record:?}");
        marks::told(namespace, &record, life::PROMPT).await
    })
    .await;
}
