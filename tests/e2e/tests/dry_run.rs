//! Curfew is installed with a dry run, and looks at thirty pods of six kinds: nothing is evicted, the report names all
//! who touched them, and the suggested policy makes a loop harmless. Then one namespace is enforced, and then the rest:
//! what happens is what was foretold.
//!
//! Curfew is installed anew, so this is a binary of its own, with one test.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    Agents, Kubectl, Namespace, TestCluster, Workload, eventually, installation, marks,
    namespace::{is_ready, uid},
    policies::Policies,
    rights, within_namespace,
};
use futures::{FutureExt, StreamExt, TryStreamExt, lock::Mutex, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

#[path = "dry_run/course.rs"]
mod course;
#[path = "dry_run/pods.rs"]
mod pods;

use course::{EVICTED, WOULD_EVICT, foretold, happened, record, status};

/// How many execs are under way at a time.
const AT_ONCE: usize = 4;
const SOON: Duration = Duration::from_secs(10);
/// The policy that a report suggests.
const SUGGESTED: &str = "suggested-service-accounts";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_fresh_installation_to_evictions() {
    let cluster = TestCluster::connect().await.unwrap();
    let installed = async {
        installation::remove(&cluster).await?;
        installation::install_with_a_dry_run(&cluster).await
    };
    let installed = installed.await;
    let tested = match installed {
        Ok(()) => AssertUnwindSafe(story()).catch_unwind().await,
        Err(_) => Ok(()),
    };
    // Whatever happened: the other binaries need the cluster as it was.
    let kubectl = cluster.kubectl();
    let clean = ["delete", "ipol", SUGGESTED, "--ignore-not-found"];
    let cleaned = kubectl.ok(&clean).await;
    installation::install(&cluster).await.unwrap();
    installed.unwrap();
    cleaned.unwrap();
    if let Err(panic) = tested {
        resume_unwind(panic);
    }
}

async fn story() {
    within_namespace("dry-shop", async |shop| {
        within_namespace("dry-tools", async |tools| told(shop, tools).await).await;
        Ok(())
    })
    .await;
}

/// A namespace with its pods, and who touches them.
struct Scene<'a> {
    namespace: &'a Namespace,
    pods: Vec<Pod>,
    people: Vec<(String, Kubectl)>,
}

impl<'a> Scene<'a> {
    async fn set(namespace: &'a Namespace) -> Result<Self> {
        rights::people(namespace).await?;
        let mut people = vec![(
            namespace.cluster.administrator().await?,
            namespace.kubectl.clone(),
        )];
        for role in ["edit", "admin"] {
            people.push((
                rights::user(namespace, role),
                rights::kubectl_of(namespace, role),
            ));
        }
        let pods = pods::start(namespace).await?;
        Ok(Self {
            namespace,
            pods,
            people,
        })
    }

    /// The people take turns, and touch each pod once. Returns how many pods each of them touched.
    async fn touch(&self, word: &str) -> Result<BTreeMap<String, u64>> {
        let turns = self.pods.iter().zip(self.people.iter().cycle());
        let touched = stream::iter(turns).map(async |(pod, (user, kubectl))| {
            let args = ["exec", &pod.name_any(), "--", "echo", word];
            kubectl.ok(&args).await.map(|_| user.clone())
        });
        let users: Vec<String> = touched.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut counts = BTreeMap::new();
        for user in users {
            *counts.entry(user).or_default() += 1;
        }
        Ok(counts)
    }

    /// Whether each pod is still there and serves.
    async fn check_untouched(&self) -> Result<()> {
        for pod in &self.pods {
            let found = self.namespace.pods().get(&pod.name_any()).await?;
            ensure!(
                found.uid() == pod.uid() && is_ready(&found),
                "{} did not stay: {:?}",
                pod.name_any(),
                found.metadata
            );
            let told = marks::events(self.namespace, &uid(pod)?, EVICTED).await?;
            ensure!(told.is_empty(), "{}: {told:?}", pod.name_any());
        }
        Ok(())
    }

    /// The groups of a report about the namespace, by key.
    async fn report(&self, by: &str) -> Result<BTreeMap<String, Value>> {
        let args = ["pi", "report", "-o", "json", by];
        let said = self.namespace.kubectl.run(&args).await?;
        ensure!(said.stderr.is_empty(), "{said:?}");
        let report: Value = serde_json::from_str(&said.success()?)?;
        ensure!(report["unread"] == json!([]), "{report}");
        let groups = report["groups"].as_array().context("no groups")?;
        let keyed = groups.iter().map(|group| {
            let key = group["key"].as_str().unwrap_or_default();
            (key.to_owned(), group.clone())
        });
        Ok(keyed.collect())
    }
}

/// A ServiceAccount that runs a command in one pod every second.
struct Loop {
    account: String,
    kubectl: Kubectl,
    /// Where, and how often it has done it. Whoever holds it makes the loop wait.
    turns: Mutex<(String, u64)>,
    over: AtomicBool,
}

impl Loop {
    async fn run(&self) -> Result<()> {
        while !self.over.load(Ordering::Relaxed) {
            let mut turns = self.turns.lock().await;
            let (pod, count) = &mut *turns;
            let word = format!("turn-{count}");
            self.kubectl.ok(&["exec", pod, "--", "echo", &word]).await?;
            *count += 1;
            drop(turns);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

async fn told(shop: &Namespace, tools: &Namespace) -> Result<()> {
    // One namespace has a policy that says nothing of enforcement, the other has none.
    let policies = Policies::new(tools).await?;
    policies.hold(&[("soon", json!({"ttl": "5s"}))]).await?;
    let (shop, tools) = tokio::try_join!(Scene::set(shop), Scene::set(tools))?;
    let looped = tools.namespace.run_pod(&Workload::new("looped")).await?;
    let (account, kubectl) = rights::runner(tools.namespace).await?;
    let looping = Loop {
        account,
        kubectl,
        turns: Mutex::new(("looped".to_owned(), 0)),
        over: AtomicBool::new(false),
    };
    let course = async {
        let agents = Agents::connect(&shop.namespace.cluster).await?;
        let courses = nothing_is_evicted(&[&shop, &tools], &looped, &looping, &agents).await?;
        the_suggestion_makes_the_loop_harmless(&tools, &looping, &agents).await?;
        one_namespace_is_enforced(&shop, &tools, &courses[0], &agents).await?;
        the_rest_is_enforced(&tools, &policies, &courses[1]).await?;
        looping.over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(looping.run(), course)?;
    Ok(())
}

async fn nothing_is_evicted(
    scenes: &[&Scene<'_>; 2],
    looped: &Pod,
    looping: &Loop,
    agents: &Agents,
) -> Result<[course::Courses; 2]> {
    let mut counts = Vec::new();
    let mut before = Vec::new();
    for scene in scenes {
        before.push((
            status(scene.namespace, "web").await?,
            status(scene.namespace, "full").await?,
        ));
        counts.push(scene.touch("dry").await?);
    }
    let mut courses = Vec::new();
    for (scene, before) in scenes.iter().zip(before) {
        let course = foretold(scene.namespace, agents, &scene.pods).await?;
        ensure!(course == pods::expected(&scene.pods), "{course:?}");
        for pod in &scene.pods {
            foretold_in_words(scene.namespace, pod, &course[&pod.name_any()]).await?;
        }
        courses.push(course);
        // The question takes no room of a budget.
        let after = (
            status(scene.namespace, "web").await?,
            status(scene.namespace, "full").await?,
        );
        ensure!(before == after, "{before:?} became {after:?}");
        scene.check_untouched().await?;
    }
    let alone = foretold(scenes[1].namespace, agents, std::slice::from_ref(looped)).await?;
    ensure!(alone["looped"] == course::Course::Goes, "{alone:?}");

    // Nobody counts while the loop goes on.
    let turns = looping.turns.lock().await;
    counts[1].insert(looping.account.clone(), turns.1);
    for (scene, counts) in scenes.iter().zip(&counts) {
        let reported: BTreeMap<_, _> = scene.report("--by=user").await?;
        let interactions = reported
            .iter()
            .map(|(user, group)| (user.clone(), group["interactions"].as_u64().unwrap_or(0)));
        ensure!(
            counts == &interactions.collect(),
            "{counts:?}, {reported:?}"
        );
        let workloads = scene.report("--by=workload").await?;
        for (workload, pods) in pods::WORKLOADS {
            let group = &workloads[&format!("{}/{workload}", scene.namespace.name)];
            let (all, column) = (
                json!(pods),
                match workload {
                    "deployment/full" => "wouldBeBlocked",
                    "job/build" => "recorded",
                    _ => "wouldGo",
                },
            );
            ensure!(group["pods"] == all && group[column] == all, "{group}");
        }
    }
    let table = scenes[0].namespace.kubectl.ok(&["pi", "get"]).await?;
    let count = |what: &str| table.lines().filter(|line| line.contains(what)).count();
    ensure!(count("would go)") == 11, "{table}");
    ensure!(count("would be blocked by PDB full)") == 2, "{table}");
    // Who may not look into agents gets what stands on the pods, and is told so.
    let limited = looping.kubectl.run(&["pi", "report"]).await?;
    ensure!(limited.stdout.contains(&looping.account), "{limited:?}");
    ensure!(
        limited.stderr.contains("Not all that agents know"),
        "{limited:?}"
    );
    let [shop, tools] = courses.try_into().ok().context("two namespaces")?;
    Ok([shop, tools])
}

/// Whether the pod itself says in the conditional what would come of it.
async fn foretold_in_words(
    namespace: &Namespace,
    pod: &Pod,
    course: &course::Course,
) -> Result<()> {
    let (name, uid) = (pod.name_any(), uid(pod)?);
    let timed = *course != course::Course::OnlyRecorded;
    let found = namespace.pods().get(&name).await?;
    let says = found.annotations().get(metadata::ENFORCEMENT);
    let dry = says.is_some_and(|says| says == "DryRun");
    ensure!(dry == timed, "{name}: {says:?}");
    let told = marks::events(namespace, &uid, "PodInteraction").await?;
    let note = told.first().and_then(|event| event.message.clone());
    let note = note.context("no Event")?;
    ensure!(
        note.contains("the pod would be evicted at") == timed,
        "{note}"
    );
    let told = marks::events(namespace, &uid, WOULD_EVICT).await?;
    let goes = *course == course::Course::Goes;
    ensure!(told.len() == usize::from(goes), "{name}: {told:?}");
    Ok(())
}

async fn the_suggestion_makes_the_loop_harmless(
    tools: &Scene<'_>,
    looping: &Loop,
    agents: &Agents,
) -> Result<()> {
    let namespace = tools.namespace;
    let suggested = namespace.kubectl.ok(&["pi", "report", "--suggest"]).await?;
    let admin = &tools.people[0].0;
    ensure!(
        suggested.contains(&looping.account) && !suggested.contains(admin),
        "{suggested}"
    );
    let kubectl = namespace.cluster.kubectl();
    let applied = kubectl.feed(&["apply", "-f", "-"], &suggested).await?;
    applied.success()?;
    tokio::time::sleep(curfew_e2e::policies::PROMPT).await;
    let next = namespace.run_pod(&Workload::new("next")).await?;
    let mut turns = looping.turns.lock().await;
    "next".clone_into(&mut turns.0);
    drop(turns);
    eventually(SOON, "the loop is only recorded", async || {
        let record = record(agents, &uid(&next)?).await?;
        ensure!(record.eviction_time.is_none(), "{record:?}");
        Ok((record.state == "recorded" && record.interactions > 2).then_some(()))
    })
    .await
}

async fn one_namespace_is_enforced(
    shop: &Scene<'_>,
    tools: &Scene<'_>,
    courses: &course::Courses,
    agents: &Agents,
) -> Result<()> {
    let policies = Policies::new(shop.namespace).await?;
    let enforced = json!({"ttl": "5s", "enforcement": "Enforce"});
    policies.hold(&[("enforce", enforced)]).await?;
    shop.touch("enforced").await?;
    let happened = happened(shop.namespace, agents, &shop.pods).await?;
    ensure!(&happened == courses, "{courses:?} became {happened:?}");
    let full = shop
        .pods
        .iter()
        .find(|pod| pod.name_any().starts_with("full"));
    let full = full.context("no pod of the full budget")?.name_any();
    let full = shop.namespace.pods().get(&full).await?;
    let says = full.annotations().get(metadata::ENFORCEMENT);
    ensure!(says.is_none(), "it is enforced, and says {says:?}");
    tools.check_untouched().await
}

async fn the_rest_is_enforced(
    tools: &Scene<'_>,
    policies: &Policies<'_>,
    courses: &course::Courses,
) -> Result<()> {
    let namespace = tools.namespace;
    let dry = json!({
        "priority": 1, "ttl": "5s", "enforcement": "DryRun",
        "podSelector": {"matchLabels": {"app": "logs"}},
    });
    policies.hold(&[("not-yet", dry)]).await?;
    installation::install(&namespace.cluster).await?;
    // The agents start anew with it.
    let agents = Agents::connect(&namespace.cluster).await?;
    tools.touch("rest").await?;
    let is_dry = |pod: &&Pod| pod.labels().get("app").is_some_and(|app| app == "logs");
    let (dry, enforced): (Vec<_>, Vec<_>) = tools.pods.iter().partition(is_dry);
    let enforced: Vec<Pod> = enforced.into_iter().cloned().collect();
    let happened = happened(namespace, &agents, &enforced).await?;
    let mut expected = courses.clone();
    expected.retain(|name, _| dry.iter().all(|pod| pod.name_any() != *name));
    ensure!(happened == expected, "{courses:?} became {happened:?}");
    for pod in dry {
        let found = namespace.pods().get(&pod.name_any()).await?;
        ensure!(found.uid() == pod.uid() && is_ready(&found), "{found:?}");
    }
    for name in ["looped", "next"] {
        let found = namespace.pods().get(name).await?;
        ensure!(is_ready(&found), "{name} did not stay");
    }
    Ok(())
}
