//! The conditions of policies, what the API server says of wrong ones, and what the audit log is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_cluster::Minor;
use curfew_e2e::{
    Agents, Workload, audit, eventually, life, namespace::uid, policies::Policies, skip,
    within_namespace,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{DEFAULT_TTL, NODE, ttl};

/// As long as the API server takes to write its audit log.
const SOON: Duration = Duration::from_secs(10);
const MASTERS: &[&str] = &["system:masters"];

#[tokio::test]
async fn a_policy_applies_by_who_does_what_where() {
    within_namespace("policy-conditions", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let accounts = format!("system:serviceaccount:{}:*", namespace.name);
        policies
            .hold(&[
                (
                    "account",
                    json!({"priority": 9, "users": [accounts], "ttl": "31s"}),
                ),
                (
                    "node",
                    json!({"priority": 8, "actors": ["Node"], "ttl": "32s"}),
                ),
                (
                    "command",
                    json!({"priority": 7, "commands": [["echo", "..."]], "ttl": "33s"}),
                ),
                (
                    "interactive",
                    json!({"priority": 6, "interactive": true, "ttl": "34s"}),
                ),
                (
                    "workload",
                    json!({"priority": 5, "workloads": ["Deployment"], "ttl": "35s"}),
                ),
            ])
            .await?;
        let owned = namespace
            .run_deployment(&Workload::new("owned").on(NODE), 1)
            .await?;
        let mut pods = super::pods(namespace, 6).await?;
        pods.extend(owned);
        let own = format!("system:serviceaccount:{}:runner", namespace.name);
        let (admin, none) = ("alice@example.org", &[] as &[&str]);
        for (pod, (user, flags, command, expected)) in pods.iter().zip([
            (own.as_str(), none, &["true"][..], 31),
            (
                "system:serviceaccount:elsewhere:runner",
                none,
                &["true"],
                DEFAULT_TTL,
            ),
            ("system:node:node-x", none, &["true"], 32),
            (admin, none, &["echo", "a", "b"], 33),
            (admin, &["-i"], &["true"], 34),
            (admin, none, &["true"], DEFAULT_TTL),
            (admin, none, &["true"], 35),
        ]) {
            let name = pod.name_any();
            let kubectl = namespace.kubectl.impersonating(user, MASTERS);
            let args = [&["exec", &name][..], flags, &["--"], command].concat();
            kubectl.ok(&args).await?;
            let record = agents.record_only_on(NODE, &uid(pod)?).await?;
            ensure!(
                ttl(&record) == Some(expected),
                "{args:?} by {user}: {record:?}"
            );
            // The plugin says the same, before and after.
            let args = [&["pi", "explain", &name][..], flags, &["--"], command].concat();
            let page = kubectl.ok(&args).await?;
            let told = match expected {
                DEFAULT_TTL => "<none>: the webhook's defaults apply".to_owned(),
                seconds => format!("{seconds}s\n"),
            };
            ensure!(page.contains(&told), "{told} is not in {page}");
        }
        let wide = namespace.kubectl.ok(&["pi", "get", "-o", "wide"]).await?;
        for (name, actor) in [
            ("pod-0", "ServiceAccount"),
            ("pod-2", "Node"),
            ("pod-3", "User"),
        ] {
            let mut lines = wide.lines();
            let line = lines
                .find(|line| line.starts_with(name))
                .with_context(|| wide.clone())?;
            ensure!(line.split_whitespace().any(|cell| cell == actor), "{line}");
        }
        let described = namespace.kubectl.ok(&["pi", "describe", "pod-0"]).await?;
        ensure!(
            described.contains(&format!("{own} (ServiceAccount), exec")),
            "{described}"
        );
        let metrics = agents.of(NODE)?.metrics().await?;
        for actor in ["User", "ServiceAccount", "Node"] {
            let series = format!(
                r#"curfew_agent_interactions_total{{action="Evict",actor="{actor}",kind="exec"}}"#
            );
            let counted = curfew_e2e::agents::sample(&metrics, &series);
            ensure!(counted >= Some(1.0), "{series}: {metrics}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn whoever_may_edit_pods_cannot_choose_a_laxer_policy_unseen() {
    within_namespace("policy-laxer", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let lax = json!({"priority": 2, "podSelector": {"matchLabels": {"lax": "yes"}}, "action": "Record"});
        policies
            .hold(&[("lax", lax), ("strict", json!({"priority": 1, "ttl": "1m"}))])
            .await?;
        namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        let explain = ["pi", "explain", "web", "--", "sh"];
        let page = namespace.kubectl.ok(&explain).await?;
        let warning = format!("a less strict policy would apply: {}", policies.name("lax"));
        ensure!(page.contains(&warning), "{page}");
        namespace.kubectl.ok(&["label", "pod", "web", "lax=yes"]).await?;
        let page = namespace.kubectl.ok(&explain).await?;
        let warning = format!("{} would apply", policies.name("strict"));
        ensure!(
            page.contains("which everyone who may edit pods can change") && page.contains(&warning),
            "{page}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn wrong_conditions_are_refused_with_the_field_the_value_and_what_is_right() {
    within_namespace("policy-wrong", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let sense = json!({
            "users": ["system:serviceaccount:ci:*"], "groups": ["oidc:*"], "actors": ["ServiceAccount", "User", "Node"],
            "interactive": false, "workloads": ["Deployment", "Pod", "TaskRun"], "completingPods": "Evict",
            "commands": [["kubectl", "get", "..."], ["ls", "*"], ["sh", "-c", "*"]],
        });
        policies.apply("sense", sense).await?;
        let why = "before 1.35 the API server names the type of a value that a rule refuses, and not the value";
        let values = !skip::part_unless(&namespace.cluster, Minor::names_refused_values, why).await?;
        let name = "* may only stand at the end";
        let program = "must begin with the name of a program";
        let open_end = "must contain ... only as the last word";
        for (spec, field, value, sentence) in [
            (json!({"users": ["a*b"]}), "spec.users[0]", "a*b", name),
            (json!({"users": ["alice", "*"]}), "spec.users[1]", "*", name),
            (json!({"groups": ["a**"]}), "spec.groups[0]", "a**", name),
            (json!({"actors": ["Robot"]}), "spec.actors[0]", "Robot", "supported values: \"User\""),
            (json!({"actors": []}), "spec.actors", "", "an empty list matches nobody"),
            (json!({"interactive": "yes"}), "spec.interactive", "string", "must be of type boolean"),
            (json!({"workloads": ["deployments"]}), "spec.workloads[0]", "deployments", "must be a kind"),
            (json!({"workloads": ["CronJob"]}), "spec.workloads[0]", "CronJob", "use Job"),
            (json!({"workloads": []}), "spec.workloads", "", "an empty list matches no pod"),
            (json!({"commands": []}), "spec.commands", "", "an empty list matches no command"),
            (json!({"commands": [[]]}), "spec.commands[0]", "[]", program),
            (json!({"commands": [["ls"], ["*", "-l"]]}), "spec.commands[1]", "[*, -l]", program),
            (json!({"commands": [["..."]]}), "spec.commands[0]", "[...]", program),
            (json!({"commands": [["ls", "...", "-l"]]}), "spec.commands[0]", "[ls, ..., -l]", open_end),
            (
                json!({"commands": [["ls"]], "interactions": ["attach"]}),
                "spec",
                "",
                "only exec has a command",
            ),
            (json!({"completingPods": "Keep"}), "spec.completingPods", "Keep", "supported values: \"Evict\""),
        ] {
            let said = policies.try_apply("wrong", &spec).await?;
            let value = if values { value } else { "" };
            let refused = said.code == Some(1)
                && [field, value, sentence].iter().all(|part| said.stderr.contains(part));
            ensure!(refused, "{spec}: {said:?}");
        }
        // As long and as many as they may be: within the costs that the API server allows.
        let long = |n: usize, length: usize| format!("{n:a<length$}");
        let most = json!({
            "users": (0..256).map(|n| long(n, 253)).collect::<Vec<_>>(),
            "groups": (0..256).map(|n| long(n, 253)).collect::<Vec<_>>(),
            "workloads": (0..32).map(|n| format!("K{}", long(n, 62))).collect::<Vec<_>>(),
            "commands": (0..64).map(|n| (0..32).map(|_| long(n, 256)).collect::<Vec<_>>()).collect::<Vec<_>>(),
        });
        let most = json!({
            "apiVersion": "curfew.dev/v1alpha1",
            "kind": "InteractionPolicy",
            "metadata": {"name": policies.name("most")},
            "spec": most,
        });
        // For `apply`, the annotation with all of it would be too long.
        let create = ["create", "--dry-run=server", "-f", "-"];
        let kubectl = namespace.cluster.kubectl();
        kubectl.feed(&create, &most.to_string()).await?.success()?;
        Ok(())
    })
    .await;
}

/// What the audit log was told of the exec with this pod.
async fn told(mark: &audit::Mark, user: &str, namespace: &str, pod: &str) -> Result<Value> {
    let annotations = eventually(SOON, "the exec in the audit log", async || {
        let requests = mark.since(user)?;
        let found = requests.into_iter().find(|request| {
            let object = request.object_ref.as_ref();
            object.is_some_and(|object| {
                object.subresource == "exec" && object.namespace == namespace && object.name == pod
            })
        });
        Ok(found.map(|request| request.annotations))
    })
    .await?;
    let own = annotations.into_iter().filter_map(|(key, value)| {
        Some((
            key.strip_prefix("interaction.curfew.dev/")?.to_owned(),
            value,
        ))
    });
    Ok(serde_json::to_value(
        own.collect::<std::collections::BTreeMap<_, _>>(),
    )?)
}

#[tokio::test]
async fn the_audit_log_is_told_what_follows_and_no_command() {
    within_namespace("policy-audit", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let policies = Policies::new(namespace).await?;
        let of = |app: &str| json!({"matchLabels": {"app": app}});
        policies
            .hold(&[
                ("minute", json!({"podSelector": of("pod-0"), "ttl": "1m"})),
                (
                    "never",
                    json!({"podSelector": of("pod-1"), "action": "Deny"}),
                ),
            ])
            .await?;
        let pods = super::pods(namespace, 2).await?;
        let mark = audit::now(namespace.cluster.machine.audit_log())?;
        let record = life::touch(namespace, &agents, &pods[0], &["echo", "s3cret-word"]).await?;
        let told_of_it = told(&mark, &user, &namespace.name, "pod-0").await?;
        let terms: Value = serde_json::from_str(told_of_it["terms"].as_str().unwrap_or_default())?;
        ensure!(
            told_of_it["recorded"] == "agent"
                && told_of_it["policy"] == policies.name("minute").as_str()
                && told_of_it["eviction-time"] == record.deadline()?.to_string().as_str()
                && terms["action"] == "Evict"
                && terms["ttl"] == "1m0s",
            "{told_of_it}"
        );
        ensure!(!told_of_it.to_string().contains("s3cret"), "{told_of_it}");

        let said = namespace
            .kubectl
            .run(&["exec", "pod-1", "--", "true"])
            .await?;
        ensure!(said.code == Some(1), "{said:?}");
        let told_of_it = told(&mark, &user, &namespace.name, "pod-1").await?;
        ensure!(
            told_of_it["policy"] == policies.name("never").as_str()
                && told_of_it["terms"] == r#"{"action":"Deny"}"#
                && told_of_it["recorded"] == Value::Null,
            "{told_of_it}"
        );
        Ok(())
    })
    .await;
}
