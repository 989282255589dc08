//! What Events tell: as many interactions as there were, nothing that a terminal obeys, and no eviction that is
//! not to come.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_cluster::Minor;
use curfew_core::{metadata, text};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, eventually, knock::knock, life, marks, namespace::uid,
    policies::Policies, skip, within_namespace,
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

const NODE: &str = NODES[0];
const SOON: Duration = Duration::from_secs(15);
const INTERACTION: &str = "PodInteraction";
const EVICTED: &str = "PodInteractionEvicted";

/// Waits for an Event with this reason whose note has this.
async fn event(namespace: &Namespace, uid: &str, reason: &str, words: &str) -> Result<Event> {
    eventually(SOON, &format!("an Event with {words:?}"), async || {
        let events = marks::events(namespace, uid, reason).await?;
        let notes: Vec<_> = events.iter().map(note).map(str::to_owned).collect();
        let found = events.into_iter().find(|event| note(event).contains(words));
        found.map(Some).with_context(|| format!("{notes:?}"))
    })
    .await
}

fn note(event: &Event) -> &str {
    event.message.as_deref().unwrap_or_default()
}

fn is_of(event: &Event, kind: &str) -> Result<()> {
    ensure!(event.type_.as_deref() == Some(kind), "{event:?}");
    Ok(())
}

/// An exec as by a client that does not look at the pod first.
async fn exec_blindly(namespace: &Namespace, pod: &Pod, word: &str) -> Result<()> {
    let client = &namespace.cluster.client;
    knock(client, &namespace.name, &pod.name_any(), word)
        .await
        .map(drop)
}

#[tokio::test]
async fn what_a_terminal_obeys_is_spelt_out() {
    within_namespace("escapes", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let command = ["echo", "\u{1b}[2J\u{7}\u{202e}gnp"];
        let record = life::touch(namespace, &agents, &pod, &command).await?;
        let spelt = "command: echo '\\u{1b}[2J\\u{7}\\u{202e}gnp'";
        let event = event(namespace, &record.uid, INTERACTION, spelt).await?;
        ensure!(!note(&event).contains(text::is_unsafe), "{event:?}");

        for reason in [" ", "\u{202e}\u{2066}", "a\u{202e}b"] {
            let hold = ["pi", "hold", "pod", "--reason", reason];
            let said = namespace.kubectl.run(&hold).await?;
            ensure!(said.code != Some(0), "{reason:?}: {said:?}");
        }
        let pod = namespace.pods().get("pod").await?;
        ensure!(!pod.annotations().contains_key(metadata::HOLD), "{pod:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn each_interaction_of_a_burst_is_counted_and_told() {
    const BURST: u64 = 60;
    within_namespace("burst", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let uid = uid(&pod)?;
        let words: Vec<_> = (0..BURST).map(|n| format!("word-{n}")).collect();
        let all = words.iter().map(|word| exec_blindly(namespace, &pod, word));
        try_join_all(all).await?;

        let record = agents.record_only_on(NODE, &uid).await?;
        ensure!(u64::from(record.interactions) == BURST, "{record:?}");
        eventually(SOON, "the count on the pod", async || {
            let pod = namespace.pods().get("pod").await?;
            let count = pod.annotations().get(metadata::INTERACTIONS);
            let count = count.context("there is no count")?;
            ensure!(*count == BURST.to_string(), "it is {count}");
            Ok(Some(()))
        })
        .await?;
        // An Event may stand for several of its kind.
        eventually(SOON, "Events of all of them", async || {
            let events = marks::events(namespace, &uid, INTERACTION).await?;
            let times = |event: &Event| event.series.as_ref().and_then(|series| series.count);
            let told: i32 = events.iter().map(|event| times(event).unwrap_or(1)).sum();
            ensure!(told as u64 == BURST, "{told} are told of");
            Ok(Some(()))
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn no_eviction_is_promised_of_a_pod_that_ends() {
    within_namespace("ending", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let completed = Workload::new("completed").on(NODE).once().script("true");
        // A first process of a container ignores what it has no handler for.
        let slow = Workload::new("slow").on(NODE).grace(600);
        namespace
            .pods()
            .create(&PostParams::default(), &completed.pod()?)
            .await?;
        let slow = namespace.run_pod(&slow).await?;
        let params = DeleteParams::default();
        namespace.pods().delete("slow", &params).await?;
        let completed = eventually(SOON * 2, "the pod has completed", async || {
            let pod = namespace.pods().get("completed").await?;
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            Ok((phase == Some("Succeeded")).then_some(pod))
        })
        .await?;

        for (pod, state, words) in [
            (
                &completed,
                "finished",
                "the pod has already ended by itself and will not be evicted",
            ),
            (&slow, "terminating", "the pod is already terminating"),
        ] {
            exec_blindly(namespace, pod, "late").await?;
            let uid = uid(pod)?;
            let event = event(namespace, &uid, INTERACTION, words).await?;
            ensure!(!note(&event).contains("will be evicted at"), "{event:?}");
            let record = agents.record_only_on(NODE, &uid).await?;
            ensure!(record.state == state && !record.pending, "{record:?}");
        }
        let at_once = DeleteParams::default().grace_period(0);
        namespace.pods().delete("slow", &at_once).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_eviction_without_a_replacement_says_so() {
    within_namespace("bare", async |namespace| {
        let policies = Policies::new(namespace).await?;
        policies.hold(&[("short", json!({"ttl": "3s"}))]).await?;
        let bare = namespace.run_pod(&Workload::new("bare").on(NODE)).await?;
        let owned = Workload::new("owned").on(NODE);
        let owned = namespace.run_deployment(&owned, 1).await?.remove(0);
        for (pod, replaced) in [(bare, false), (owned, true)] {
            life::exec(namespace, &pod, &["true"]).await?;
            let event = event(namespace, &uid(&pod)?, EVICTED, "evicted: its time ended").await?;
            let says = note(&event).contains("it has no controller, so nothing replaces it");
            ensure!(says != replaced, "{event:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn only_what_starts_a_timer_is_a_warning() {
    within_namespace("warning", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let harmless = json!({"harmlessCommands": [["ls", "/"]], "recordCommand": "Name"});
        policies.hold(&[("harmless", harmless)]).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let uid = uid(&pod)?;
        life::exec(namespace, &pod, &["ls", "/"]).await?;
        let recorded = event(namespace, &uid, INTERACTION, "it is only recorded").await?;
        is_of(&recorded, "Normal")?;

        // The same words are not the same interaction when somebody can type into them.
        let typing = ["exec", "-i", "pod", "-c", "main", "--", "ls", "/"];
        namespace.kubectl.ok(&typing).await?;
        let timed = event(namespace, &uid, INTERACTION, "the pod will be evicted at").await?;
        is_of(&timed, "Warning")?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let record = agents.record_only_on(NODE, &uid).await?;
        ensure!(record.interactions == 2 && record.pending, "{record:?}");
        Ok(())
    })
    .await;
}

/// A policy of the cluster that labels each pod of one namespace that is updated.
fn mutation(namespace: &Namespace, owner: &Value) -> [Value; 2] {
    let name = &namespace.name;
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": spec,
        })
    };
    let policy = json!({
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
            }],
        },
        "mutations": [{
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {
                "expression": "Object{metadata: Object.metadata{labels: {'example.com/team': 'blue'}}}",
            },
        }],
    });
    let binding = json!({"policyName": name});
    [
        object("MutatingAdmissionPolicy", policy),
        object("MutatingAdmissionPolicyBinding", binding),
    ]
}

#[tokio::test]
async fn whoever_changes_pods_on_the_way_is_told_of() {
    within_namespace("mutation", async |namespace| {
        let why = "MutatingAdmissionPolicies have the version v1 since 1.36";
        if skip::unless(&namespace.cluster, Minor::has_mutating_policies, why).await? {
            return Ok(());
        }
        let owner = namespace.as_owner().await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let admin = namespace.cluster.kubectl();
        for object in mutation(namespace, &owner) {
            let said = admin
                .feed(&["apply", "-f", "-"], &object.to_string())
                .await?;
            said.success()?;
        }
        let changed = [
            "annotate",
            "pod",
            "pod",
            "example.com/try=1",
            "--overwrite",
            "--dry-run=server",
        ];
        eventually(SOON, "pods are changed on the way", async || {
            let shown = [&changed[..], &["-o", "yaml"]].concat();
            let pod = namespace.kubectl.ok(&shown).await?;
            Ok(pod.contains("example.com/team").then_some(()))
        })
        .await?;

        let watch = namespace.watch().await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        let event = event(
            namespace,
            &record.uid,
            "PodInteractionNotMarked",
            "example.com/team",
        )
        .await?;
        is_of(&event, "Warning")?;
        for words in [
            "will still be evicted",
            "curfew-accounts",
            "mutatingwebhookconfigurations",
        ] {
            ensure!(note(&event).contains(words), "{event:?}");
        }
        marks::clean(&namespace.pods().get("pod").await?)?;
        watch
            .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
            .await?;
        Ok(())
    })
    .await;
}
