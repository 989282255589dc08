//! Who goes first, and how many at a time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Namespace, Workload, eventually, evictions::Answer, life, within_namespace,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{policy::v1::PodDisruptionBudget, scheduling::v1::PriorityClass};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::{NODE, SOON, in_state, now, until_deadline};

/// How many eviction requests an agent has open at a time, unless it is told otherwise.
const OPEN: usize = 5;
/// The highest priority of the first that are asked for.
const FIRST: i32 = 3;
/// How many pods share a priority.
const EACH: usize = 2;
const PRIORITIES: [i32; 5] = [1, 2, 3, 4, 5];

/// Priority classes that go with the test.
struct Classes(Api<PriorityClass>, Vec<String>);

impl Classes {
    async fn create(namespace: &Namespace) -> Result<Self> {
        let api: Api<PriorityClass> = Api::all(namespace.cluster.client.clone());
        let mut classes = Self(api, Vec::new());
        for value in PRIORITIES {
            let name = format!("{}-{value}", namespace.name);
            let class: PriorityClass = serde_json::from_value(json!({
                "metadata": {"name": name}, "value": value, "preemptionPolicy": "Never",
            }))?;
            classes.0.create(&PostParams::default(), &class).await?;
            classes.1.push(name);
        }
        Ok(classes)
    }

    async fn remove(self) {
        for name in &self.1 {
            // What is left of one that could not be removed has a name of its own.
            drop(self.0.delete(name, &DeleteParams::default()).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lowest_priority_is_asked_for_first_and_few_at_a_time() {
    within_namespace("order", async |namespace| {
        let classes = Classes::create(namespace).await?;
        let outcome = ten_pods(namespace, &classes.1).await;
        classes.remove().await;
        outcome
    })
    .await;
}

async fn ten_pods(namespace: &Namespace, classes: &[String]) -> Result<()> {
    let agents = Agents::connect(&namespace.cluster).await?;
    // The highest is touched first, so that neither names nor deadlines have the right order.
    let mut workloads = Vec::new();
    for (class, priority) in classes.iter().zip(PRIORITIES).rev() {
        for at in 0..EACH {
            let name = format!("{}-of-{priority}", ["a", "b"][at]);
            workloads.push(
                Workload::new(&name)
                    .on(NODE)
                    .priority_class(class)
                    .in_group("all"),
            );
        }
    }
    let pods = namespace.run_pods(&workloads).await?;
    // All are due at one moment: when what kept all of them is gone.
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "all"},
        "spec": {"minAvailable": pods.len(), "selector": {"matchLabels": {"group": "all"}}},
    }))?;
    let budgets: Api<PodDisruptionBudget> =
        Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    budgets.create(&PostParams::default(), &budget).await?;
    let records: Vec<_> = stream::iter(&pods)
        .map(async |pod| life::touch(namespace, &agents, pod, &["true"]).await)
        .buffered(4)
        .try_collect()
        .await?;
    for record in &records {
        in_state(&agents, record, "blocked", until_deadline(record, SOON)?).await?;
    }
    let audit = now(namespace)?;
    budgets.delete("all", &DeleteParams::default()).await?;
    eventually(
        Duration::from_secs(20),
        "all pods are evicted",
        async || {
            let left = namespace.pods().list_metadata(&Default::default()).await?;
            Ok(left.items.is_empty().then_some(()))
        },
    )
    .await?;

    let priorities: BTreeMap<_, _> = pods
        .iter()
        .map(|pod| {
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
            Ok((pod.name_any(), priority.context("no priority")?))
        })
        .collect::<Result<_>>()?;
    let mut answers = audit.answers(&namespace.name)?;
    ensure!(answers.len() == pods.len(), "{answers:?}");
    answers.sort_by_key(|answer| answer.eviction.asked);
    let mut order: Vec<i32> = answers
        .iter()
        .map(|answer| priorities[&answer.eviction.pod])
        .collect();
    // One may have been asked for again by itself, right before the agent saw that the budget is gone.
    if order[0] > FIRST {
        order.remove(0);
    }
    // Those that are open at a time may overtake each other on their way; nobody overtakes more.
    for (at, priority) in order.iter().enumerate() {
        let overtaken = order[..at]
            .iter()
            .filter(|earlier| *earlier > priority)
            .count();
        ensure!(overtaken < OPEN, "{order:?}");
    }
    // One of the first may be late on its way, and then another one comes before it.
    let early = order[..OPEN].iter().filter(|priority| **priority > FIRST);
    ensure!(early.count() <= 1, "{order:?}");
    let open = most_open(&answers);
    ensure!(open <= OPEN, "{open} requests were open at a time");
    Ok(())
}

/// The most requests that were open at a time.
fn most_open(answers: &[Answer]) -> usize {
    let open_with = |one: &Answer| {
        let overlap = |other: &&Answer| {
            other.eviction.asked <= one.eviction.asked && one.eviction.asked < other.answered
        };
        answers.iter().filter(overlap).count()
    };
    answers.iter().map(open_with).max().unwrap_or_default()
}
