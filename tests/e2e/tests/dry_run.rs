//! Dry runs: nothing is evicted, what is foretold is the API server's answer, and it is what the enforced run does.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    Agents, Namespace, Scheduled, Workload,
    budgets::budgets,
    eventually, marks,
    namespace::{is_ready, uid},
    policies::Policies,
    rights, within_namespace,
};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::Pod,
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};

const TTL: &str = "5s";
/// How soon after its deadline the answer about a pod is known.
const ANSWERED: Duration = Duration::from_secs(25);
/// How long an enforced run may take.
const DONE: Duration = Duration::from_secs(40);
const WOULD_EVICT: &str = "PodInteractionWouldEvict";
const EVICTED: &str = "PodInteractionEvicted";
const BLOCKED: &str = "PodInteractionEvictionBlocked";

/// What came of a pod, or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Course {
    Goes,
    BlockedBy(String),
}

/// A budget over the pods of a workload, whose numbers are known.
async fn budget(namespace: &Namespace, app: &str, least: u32) -> Result<()> {
    let object: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": app},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": app}}},
    }))?;
    let create = PostParams::default();
    budgets(namespace).create(&create, &object).await?;
    let what = format!("the budget {app} has its numbers");
    eventually(Duration::from_secs(20), &what, async || {
        let status = status(namespace, app).await?;
        let allowed = 2 - i32::try_from(least)?;
        Ok((status.expected_pods == 2 && status.disruptions_allowed == allowed).then_some(()))
    })
    .await
}

async fn status(namespace: &Namespace, name: &str) -> Result<PodDisruptionBudgetStatus> {
    let budget = budgets(namespace).get(name).await?;
    budget.status.context("the budget has no status")
}

/// Pods of several kinds, by what is touched: one whose budget has no room, one whose budget has, two without a
/// budget, and one that nothing replaces.
async fn pods(namespace: &Namespace) -> Result<BTreeMap<&'static str, Pod>> {
    let deployment = async |name: &'static str, replicas| {
        let pods = namespace
            .run_deployment(&Workload::new(name), replicas)
            .await?;
        anyhow::Ok((name, pods.into_iter().next().context("no pod")?))
    };
    let stateful = async {
        let more = json!({
            "replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        });
        let object: StatefulSet = Workload::new("db").controlled_by(more)?;
        let sets: Api<StatefulSet> =
            Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
        sets.create(&PostParams::default(), &object).await?;
        let pod = namespace.ready_of("db", 1).await?.remove(0);
        anyhow::Ok(("db", pod))
    };
    let bare = async { anyhow::Ok(("bare", namespace.run_pod(&Workload::new("bare")).await?)) };
    let (full, roomy, free, stateful, bare) = tokio::try_join!(
        deployment("full", 2),
        deployment("roomy", 2),
        deployment("free", 1),
        stateful,
        bare
    )?;
    budget(namespace, "full", 2).await?;
    budget(namespace, "roomy", 1).await?;
    Ok([full, roomy, free, stateful, bare].into())
}

/// What the agents have of this pod.
async fn record(agents: &Agents, uid: &str) -> Result<Scheduled> {
    let records = agents.records(uid).await?;
    let record = records.into_values().next();
    record.with_context(|| format!("no agent has a record of {uid}"))
}

/// Whom its one Event about a budget names.
async fn blocker(namespace: &Namespace, uid: &str) -> Result<Option<String>> {
    let events = marks::events(namespace, uid, BLOCKED).await?;
    let related = events.into_iter().find_map(|event| event.related);
    Ok(related.and_then(|related| related.name))
}

/// Waits until the API server has said what would come of a pod.
async fn foretold(namespace: &Namespace, agents: &Agents, uid: &str) -> Result<Course> {
    eventually(ANSWERED, &format!("{uid} is foretold"), async || {
        let record = record(agents, uid).await?;
        ensure!(!record.pending, "it is pending: {record:?}");
        Ok(match record.state.as_str() {
            "would-go" => Some(Course::Goes),
            "blocked" => blocker(namespace, uid).await?.map(Course::BlockedBy),
            _ => None,
        })
    })
    .await
}

/// Waits until the enforced run has come to something.
async fn happened(namespace: &Namespace, pod: &Pod) -> Result<Course> {
    let (name, uid) = (pod.name_any(), uid(pod)?);
    eventually(DONE, &format!("something happens to {name}"), async || {
        let found = namespace.pods().get_opt(&name).await?;
        let gone = found.is_none_or(|found| {
            found.uid().as_deref() != Some(&uid) || found.metadata.deletion_timestamp.is_some()
        });
        if gone {
            let told = marks::events(namespace, &uid, EVICTED).await?;
            return Ok((!told.is_empty()).then_some(Course::Goes));
        }
        let told = marks::events(namespace, &uid, BLOCKED).await?;
        let real = told.into_iter().find(|event| {
            let note = event.message.as_deref().unwrap_or_default();
            note.starts_with("cannot be evicted yet")
        });
        let budget = real.and_then(|event| event.related?.name);
        Ok(budget.map(Course::BlockedBy))
    })
    .await
}

/// The group of this key in a report.
fn group<'a>(report: &'a Value, key: &str) -> Result<&'a Value> {
    let groups = report["groups"].as_array().context("no groups")?;
    let found = groups.iter().find(|group| group["key"] == key);
    found.with_context(|| format!("{key} is not in {report}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_foretold_is_what_happens() {
    within_namespace("dryrun", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let dry = json!({"ttl": TTL, "enforcement": "DryRun"});
        policies.hold(&[("terms", dry)]).await?;
        let pods = pods(namespace).await?;
        let before = [
            status(namespace, "full").await?,
            status(namespace, "roomy").await?,
        ];
        for pod in pods.values() {
            let exec = ["exec", &pod.name_any(), "--", "true"];
            namespace.kubectl.ok(&exec).await?;
        }
        let mut courses = BTreeMap::new();
        for (name, pod) in &pods {
            courses.insert(*name, foretold(namespace, &agents, &uid(pod)?).await?);
        }
        let blocked = Course::BlockedBy("full".to_owned());
        let expected = ["bare", "db", "free", "roomy"].map(|name| (name, Course::Goes));
        let expected = expected.into_iter().chain([("full", blocked)]).collect();
        ensure!(courses == expected, "{courses:?}");
        for (name, pod) in &pods {
            let found = namespace.pods().get(&pod.name_any()).await?;
            let stays = found.uid() == pod.uid() && is_ready(&found);
            ensure!(stays, "{name} did not stay: {:?}", found.metadata);
            let says = found.annotations().get(metadata::ENFORCEMENT);
            ensure!(
                says.is_some_and(|says| says == "DryRun"),
                "{name}: {says:?}"
            );
            let uid = uid(pod)?;
            let told = marks::events(namespace, &uid, "PodInteraction").await?;
            let note = told.first().and_then(|event| event.message.clone());
            let note = note.context("no Event")?;
            ensure!(note.contains("the pod would be evicted at"), "{note}");
            let goes = courses[name] == Course::Goes;
            let told = marks::events(namespace, &uid, WOULD_EVICT).await?;
            ensure!(told.len() == usize::from(goes), "{name}: {told:?}");
            let told = marks::events(namespace, &uid, EVICTED).await?;
            ensure!(told.is_empty(), "{name}: {told:?}");
        }
        // The question takes no room of a budget.
        let after = [
            status(namespace, "full").await?,
            status(namespace, "roomy").await?,
        ];
        ensure!(before == after, "{before:?} became {after:?}");

        let table = namespace.kubectl.ok(&["pi", "get"]).await?;
        let shown = |pod: &Pod, what: &str| {
            let line = table.lines().find(|line| line.starts_with(&pod.name_any()));
            line.is_some_and(|line| line.contains(what))
        };
        ensure!(shown(&pods["free"], "would go)"), "{table}");
        ensure!(
            shown(&pods["full"], "would be blocked by PDB full)"),
            "{table}"
        );

        let enforced = json!({"ttl": TTL, "enforcement": "Enforce"});
        policies.hold(&[("terms", enforced)]).await?;
        for pod in pods.values() {
            let exec = ["exec", &pod.name_any(), "--", "id"];
            namespace.kubectl.ok(&exec).await?;
        }
        let mut happened_to = BTreeMap::new();
        for (name, pod) in &pods {
            happened_to.insert(*name, happened(namespace, pod).await?);
        }
        ensure!(
            happened_to == courses,
            "foretold: {courses:?}; happened: {happened_to:?}"
        );
        let full = namespace.pods().get(&pods["full"].name_any()).await?;
        let says = full.annotations().get(metadata::ENFORCEMENT);
        ensure!(says.is_none(), "it is enforced, and says {says:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_names_all_and_suggests_a_policy_that_makes_a_loop_harmless() {
    within_namespace("report", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let dry = json!({"ttl": TTL, "enforcement": "DryRun"});
        policies.hold(&[("terms", dry)]).await?;
        let web = namespace.run_deployment(&Workload::new("web"), 2).await?;
        let build = namespace.run_pod(&Workload::new("build")).await?;
        let kubectl = &namespace.kubectl;
        let (account, runner) = rights::runner(namespace).await?;
        // More than are kept of a pod, and no two of them within two seconds the same.
        let runs = 25;
        for run in 0..runs {
            let words = ["exec", "build", "--", "echo", &run.to_string()];
            runner.ok(&words).await?;
        }
        for pod in &web {
            kubectl.ok(&["exec", &pod.name_any(), "--", "true"]).await?;
        }
        foretold(namespace, &agents, &uid(&build)?).await?;
        for pod in &web {
            foretold(namespace, &agents, &uid(pod)?).await?;
        }

        let report = async |more: &[&str]| -> Result<Value> {
            let said = kubectl
                .run(&[&["pi", "report", "-o", "json"], more].concat())
                .await?;
            ensure!(said.stderr.is_empty(), "{said:?}");
            Ok(serde_json::from_str(&said.success()?)?)
        };
        let admin = namespace.cluster.administrator().await?;
        let by_user = report(&[]).await?;
        let looped = group(&by_user, &account)?;
        ensure!(looped["interactions"] == runs, "{looped}");
        ensure!(looped["pods"] == 1 && looped["wouldGo"] == 1, "{looped}");
        let person = group(&by_user, &admin)?;
        ensure!(
            person["interactions"] == 2 && person["wouldGo"] == 2,
            "{person}"
        );
        ensure!(by_user["unread"] == json!([]), "{by_user}");
        let by_workload = report(&["--by=workload"]).await?;
        let deployment = format!("{}/deployment/web", namespace.name);
        ensure!(
            group(&by_workload, &deployment)?["pods"] == 2,
            "{by_workload}"
        );
        let bare = format!("{}/pod/build", namespace.name);
        ensure!(
            group(&by_workload, &bare)?["interactions"] == runs,
            "{by_workload}"
        );
        let by_policy = report(&["--by=policy"]).await?;
        let named = group(&by_policy, &policies.name("terms"))?;
        ensure!(named["interactions"] == runs + 2, "{by_policy}");
        let table = kubectl.ok(&["pi", "report"]).await?;
        ensure!(
            table.starts_with("USER ") && table.contains(&account),
            "{table}"
        );
        // Who may not look into agents gets what stands on the pods, and is told so.
        let limited = runner.run(&["pi", "report"]).await?;
        ensure!(limited.stdout.contains(&account), "{limited:?}");
        ensure!(
            limited.stderr.contains("Not all that agents know"),
            "{limited:?}"
        );

        let suggested = kubectl.ok(&["pi", "report", "--suggest"]).await?;
        ensure!(
            suggested.contains(&account) && !suggested.contains(&admin),
            "{suggested}"
        );
        let admins = namespace.cluster.kubectl();
        admins
            .feed(&["apply", "-f", "-"], &suggested)
            .await?
            .success()?;
        let checked = async {
            tokio::time::sleep(curfew_e2e::policies::PROMPT).await;
            let next = namespace.run_pod(&Workload::new("next")).await?;
            runner.ok(&["exec", "next", "--", "echo", "again"]).await?;
            eventually(Duration::from_secs(10), "it is only recorded", async || {
                let record = record(&agents, &uid(&next)?).await?;
                Ok((record.state == "recorded" && record.eviction_time.is_none()).then_some(()))
            })
            .await?;
            let report = report(&[]).await?;
            let looped = group(&report, &account)?;
            ensure!(looped["recorded"] == 1, "{looped}");
            anyhow::Ok(())
        }
        .await;
        admins
            .ok(&["delete", "ipol", "suggested-service-accounts"])
            .await?;
        checked
    })
    .await;
}
