//! Policies on the real API server: what it refuses, what it shows, and what follows from an exec.

mod conditions;
mod examples;
mod jobs;
mod object;

use anyhow::{Context, Result, ensure};
use curfew_core::{Kind, metadata};
use curfew_e2e::{
    Agents, NODES, Namespace, Scheduled, Workload, eventually, life, marks, namespace::uid,
    policies::Policies, within_namespace, workload::CONTAINER,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

const NODE: &str = NODES[0];
/// The default of the test cluster's webhook.
const DEFAULT_TTL: i64 = 20;

/// How long the pod may live by what the agent has on record; none when no timer runs.
fn ttl(record: &Scheduled) -> Option<i64> {
    let deadline = record.eviction_time?;
    Some(deadline.duration_since(record.decisive.time).as_secs())
}

/// So many pods, each on its own and to be touched once.
async fn pods(namespace: &Namespace, count: usize) -> Result<Vec<Pod>> {
    let workloads: Vec<_> = (0..count)
        .map(|n| Workload::new(&format!("pod-{n}")).on(NODE))
        .collect();
    namespace.run_pods(&workloads).await
}

#[tokio::test]
async fn a_pod_goes_when_the_time_of_its_policy_ends() {
    within_namespace("policy-ttl", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let policies = Policies::new(namespace).await?;
        let spec = json!({"ttl": "5s", "maxExtension": "7m"});
        policies.hold(&[("short", spec)]).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        ensure!(ttl(&record) == Some(5), "{record:?}");
        let expected = life::Expected {
            kind: Kind::Exec,
            user: &user,
            container: Some(CONTAINER),
            command: "true",
        };
        life::recorded(namespace, &agents, NODE, &pod, &expected).await?;
        let marked = namespace.pods().get("pod").await?;
        let terms = [metadata::TTL, metadata::MAX_EXTENSION]
            .map(|key| marked.annotations().get(key).map(String::as_str));
        ensure!(terms == [Some("5s"), Some("7m0s")], "{terms:?}");
        life::evicted(namespace, &watch, &record).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_harmless_command_starts_no_timer_and_a_shell_after_it_does() {
    within_namespace("harmless", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let spec = json!({"harmlessCommands": [["ls", "*"], ["sh", "-c", "date"]]});
        policies.hold(&[("harmless", spec)]).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let id = uid(&pod)?;

        for command in [&["ls", "/"][..], &["sh", "-c", "date"]] {
            let exec = [&["exec", "pod", "--"], command].concat();
            namespace.kubectl.ok(&exec).await?;
            let record = agents.record_only_on(NODE, &id).await?;
            let harmless = record.eviction_time.is_none() && record.state == "recorded";
            ensure!(harmless, "{command:?}: {record:?}");
            marks::told(namespace, &record, life::PROMPT).await?;
            life::next_second(&record).await?;
        }

        // Listed, too, but whoever runs it can type.
        namespace
            .kubectl
            .ok(&["exec", "-i", "pod", "--", "ls", "/tmp"])
            .await?;
        let record = agents.record_only_on(NODE, &id).await?;
        ensure!(ttl(&record) == Some(DEFAULT_TTL), "{record:?}");
        ensure!(record.interactions == 3, "{record:?}");
        marks::told(namespace, &record, life::PROMPT).await?;

        let pod = namespace.run_pod(&Workload::new("other").on(NODE)).await?;
        let ls = ["exec", "other", "--", "ls", "/"];
        namespace.kubectl.ok(&ls).await?;
        let mut shell = namespace
            .kubectl
            .start_on_a_terminal(&["exec", "-it", "other", "--", "sh"])?;
        shell.type_line("echo $((6*7))").await?;
        while shell.line().await?.trim_end() != "42" {}
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        ensure!(ttl(&record) == Some(DEFAULT_TTL), "{record:?}");
        ensure!(record.decisive.command.as_str() == "sh", "{record:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_a_policy_denies_is_refused_in_its_name() {
    within_namespace("policy-deny", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let mut spec = json!({"action": "Deny", "interactions": ["exec", "debug"]});
        let mut by_name = spec.clone();
        spec["podSelector"] = json!({"matchLabels": {"app": "pod"}});
        by_name["recordCommand"] = json!("Name");
        policies
            .hold(&[("closed", spec), ("open", by_name)])
            .await?;
        let pods = [
            Workload::new("pod").on(NODE),
            Workload::new("other").on(NODE),
        ];
        let pod = namespace.run_pods(&pods).await?.remove(0);
        let image = format!("--image={}", curfew_e2e::workload::IMAGE);
        for (kind, args) in [
            ("exec", &["exec", "pod", "--", "true"][..]),
            ("debug", &["debug", "pod", &image, "--", "true"]),
        ] {
            let said = namespace.kubectl.run(args).await?;
            let sentence = format!(
                "InteractionPolicy {} forbids this interaction ({kind}) with pod {}/pod",
                policies.name("closed"),
                namespace.name
            );
            ensure!(
                said.code == Some(1) && said.stderr.contains(&sentence),
                "{said:?}"
            );
        }
        ensure!(agents.records(&uid(&pod)?).await?.is_empty());
        marks::clean(&namespace.pods().get("pod").await?)?;

        // Who runs the cluster sees where that was and what, as far as it may be told.
        let other = ["exec", "other", "--", "echo", "s3cret"];
        let said = namespace.kubectl.run(&other).await?;
        ensure!(said.code == Some(1), "{said:?}");
        let kubectl = namespace.cluster.kubectl().in_namespace(curfew_e2e::CURFEW);
        let logs = [
            "logs",
            "--selector=app.kubernetes.io/component=webhook",
            "--tail=-1",
            "--since=5m",
        ];
        eventually(life::PROMPT * 5, "the denials in the log", async || {
            let log = kubectl.ok(&logs).await?;
            for (name, kind, command) in [
                ("pod", "exec", "true"),
                ("pod", "debug", "true"),
                ("other", "exec", "echo"),
            ] {
                let pod = format!("{}/{name}", namespace.name);
                let mut lines = log
                    .lines()
                    .filter_map(|line| serde_json::from_str::<Value>(line).ok());
                let line = lines.find(|line| {
                    line["event"] == "forbidden"
                        && line["pod"] == pod.as_str()
                        && line["kind"] == kind
                });
                let line = line.with_context(|| format!("no line of {kind} with {name}"))?;
                ensure!(line["command"] == command && line["node"] == NODE, "{line}");
            }
            Ok(Some(()))
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn what_is_only_recorded_starts_no_timer() {
    within_namespace("policy-record", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let of = |app: &str| json!({"matchLabels": {"app": app}});
        let protect = |namespaces: Value| json!({"priorityAtLeast": 2_000_000_000, "namespaces": namespaces});
        policies
            .hold(&[
                ("recorded", json!({"podSelector": of("recorded"), "action": "Record"})),
                ("bare", json!({"podSelector": of("bare"), "unmanagedPods": "Record"})),
                ("owned", json!({"podSelector": of("owned"), "unmanagedPods": "Record"})),
                (
                    "critical",
                    json!({"podSelector": of("critical"), "protect": protect(json!([namespace.name]))}),
                ),
                (
                    "elsewhere",
                    json!({"podSelector": of("elsewhere"), "protect": protect(json!(["kube-system"]))}),
                ),
            ])
            .await?;
        let workload = |name: &str| Workload::new(name).on(NODE);
        let critical = |name: &str| workload(name).of_class("system-cluster-critical");
        let mut all = namespace
            .run_pods(&[
                workload("recorded"),
                workload("bare"),
                critical("critical"),
                critical("elsewhere"),
            ])
            .await?;
        all.extend(namespace.run_deployment(&workload("owned"), 1).await?);
        for (pod, timer) in all.iter().zip([false, false, false, true, true]) {
            let record = life::touch(namespace, &agents, pod, &["true"]).await?;
            let expected = timer.then_some(DEFAULT_TTL);
            ensure!(ttl(&record) == expected, "{}: {record:?}", pod.name_any());
            marks::told(namespace, &record, life::PROMPT).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_applies_to_whom_and_what_it_names() {
    within_namespace("policy-whom", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        policies
            .hold(&[
                (
                    "user",
                    json!({"priority": 3, "users": ["alice@example.org"], "ttl": "31s"}),
                ),
                (
                    "group",
                    json!({"priority": 2, "groups": ["testers"], "ttl": "32s"}),
                ),
                (
                    "pod",
                    json!({"priority": 1, "ttl": "33s", "podSelector": {"matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["pod-3"]}]}}),
                ),
                ("kind", json!({"interactions": ["attach"], "ttl": "34s"})),
            ])
            .await?;
        let masters = "system:masters";
        for (pod, (user, groups, expected)) in pods(namespace, 5).await?.iter().zip([
            ("alice@example.org", &[masters][..], 31),
            ("alice@example.org", &[masters, "testers"], 31),
            ("bob@example.org", &[masters, "testers"], 32),
            ("bob@example.org", &[masters], 33),
            ("bob@example.org", &[masters], DEFAULT_TTL),
        ]) {
            let kubectl = namespace.kubectl.impersonating(user, groups);
            kubectl.ok(&["exec", &pod.name_any(), "--", "true"]).await?;
            let record = agents.record_only_on(NODE, &uid(pod)?).await?;
            ensure!(
                ttl(&record) == Some(expected),
                "{user} {groups:?}: {record:?}"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn of_several_the_highest_applies_then_the_first_name_and_without_any_the_flags() {
    within_namespace("policy-rank", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        policies
            .hold(&[
                ("c", json!({"priority": 5, "ttl": "41s"})),
                ("b", json!({"priority": 5, "ttl": "42s"})),
                ("a", json!({"priority": 4, "ttl": "43s"})),
            ])
            .await?;
        // What applied is taken away each time.
        let pods = pods(namespace, 4).await?;
        for (pod, (name, expected)) in pods.iter().zip([
            (Some("b"), 42),
            (Some("c"), 41),
            (Some("a"), 43),
            (None, DEFAULT_TTL),
        ]) {
            let record = life::touch(namespace, &agents, pod, &["true"]).await?;
            ensure!(ttl(&record) == Some(expected), "{record:?}");
            if let Some(name) = name {
                policies.delete(name).await?.holds().await;
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_change_holds_within_a_second_and_moves_no_deadline_that_was_told() {
    within_namespace("policy-change", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let pods = pods(namespace, 3).await?;
        let mut told: Vec<Scheduled> = Vec::new();
        for (pod, (length, seconds)) in
            pods.iter()
                .zip([("300s", 300), ("2h", 7200), ("240s", 240)])
        {
            policies
                .apply("p", json!({"ttl": length}))
                .await?
                .holds()
                .await;
            let record = life::touch(namespace, &agents, pod, &["true"]).await?;
            ensure!(ttl(&record) == Some(seconds), "{record:?}");
            marks::told(namespace, &record, life::PROMPT).await?;
            told.push(record);
            // What was told before stands, with the agent and on the pods.
            for before in &told {
                let now = agents.record_only_on(NODE, &before.uid).await?;
                ensure!(
                    now.eviction_time == before.eviction_time,
                    "{now:?} was {before:?}"
                );
                marks::check(&namespace.pods().get(&before.name).await?, before)?;
            }
        }
        // Another interaction on new terms brings a deadline forward, and never moves it back.
        let [first, second, third] = [0, 1, 2].map(|at: usize| &told[at]);
        let again = life::touch(namespace, &agents, &pods[0], &["true"]).await?;
        let gain = again.deadline()?.duration_since(first.deadline()?);
        ensure!(gain <= SignedDuration::ZERO, "{again:?} was {first:?}");
        let again = life::touch(namespace, &agents, &pods[1], &["true"]).await?;
        ensure!(
            again.deadline()? < second.deadline()?,
            "{again:?} was {second:?}"
        );
        policies
            .apply("p", json!({"ttl": "3h"}))
            .await?
            .holds()
            .await;
        let again = life::touch(namespace, &agents, &pods[2], &["true"]).await?;
        ensure!(
            again.eviction_time == third.eviction_time,
            "{again:?} was {third:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn no_more_of_a_command_is_kept_than_the_policy_says() {
    within_namespace("policy-words", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let keep = |app: &str, how: &str| {
            json!({"podSelector": {"matchLabels": {"app": app}}, "recordCommand": how})
        };
        let specs = [("name", keep("pod-0", "Name")), ("none", keep("pod-1", "None"))];
        policies.hold(&specs).await?;
        // What other tests say may be in the log.
        let secret = format!("s3cret-{}", namespace.name);
        for (pod, kept) in pods(namespace, 2).await?.iter().zip(["echo", ""]) {
            let name = pod.name_any();
            namespace.kubectl.ok(&["exec", &name, "--", "echo", &secret]).await?;
            let record = agents.record_only_on(NODE, &uid(pod)?).await?;
            ensure!(record.last.command.as_str() == kept, "{record:?}");
            marks::told(namespace, &record, life::PROMPT).await?;
            let all = serde_json::to_string(&namespace.pods().get(&name).await?.metadata)?;
            ensure!(!all.contains(&secret), "{all}");
            let logs = ["logs", "--selector=app.kubernetes.io/component=webhook", "--tail=-1"];
            let kubectl = namespace.cluster.kubectl().in_namespace(curfew_e2e::CURFEW);
            ensure!(!kubectl.ok(&logs).await?.contains(&secret), "the webhook logs it");
        }
        Ok(())
    })
    .await;
}
