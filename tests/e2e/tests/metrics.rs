//! What is scraped from the running parts is what docs/metrics.md says, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Namespace, Workload, agents, disrupt, eventually, life, within_namespace,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

const NODE: &str = "node-1";
const PAGE: &str = include_str!("../../../docs/metrics.md");
/// The time to live, and as much again.
const BLOCKED: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(10);
const SERIES: usize = 300;
/// What a histogram adds to its name, and the label of its buckets.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
const BUCKET: &str = "le";
/// The labels of a target, and those that would tell too much.
const NEVER: [&str; 9] = [
    "namespace",
    "pod",
    "node",
    "job",
    "instance",
    "container",
    "uid",
    "user",
    "command",
];

/// Type and labels of each metric, by its name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// What the page says of a part, with what both have.
fn documented(part: &str) -> Families {
    let mut families = Families::new();
    let mut about = "";
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            about = title;
        }
        let cells: Vec<_> = line
            .split(" | ")
            .map(|cell| cell.trim_matches(['|', ' ']))
            .collect();
        if let [name, kind, labels, ..] = cells[..]
            && name.starts_with('`')
            && [part, "Both"].contains(&about)
        {
            let labels = labels
                .split(", ")
                .map(|label| label.trim_matches('`').to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            families.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        }
    }
    families
}

/// What a scrape says.
fn scraped(text: &str) -> Result<Families> {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("no type")?;
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').context("no value")?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let stem = |end: &str| {
                name.strip_suffix(end)
                    .filter(|stem| families.contains_key(*stem))
            };
            let family = PARTS.into_iter().find_map(stem).unwrap_or(name);
            let (_, known) = families
                .get_mut(family)
                .with_context(|| format!("{family} has no type"))?;
            known.extend(label_names(labels).filter(|label| label != BUCKET));
        }
    }
    Ok(families)
}

/// The names of labels as they stand between braces. No value of ours has such signs in it.
fn label_names(labels: &str) -> impl Iterator<Item = String> {
    let pairs = labels.trim_end_matches('}').split("\",");
    pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// Holds what was scraped against what the page says; all of it is there but for these.
fn compare(who: &str, text: &str, page: &Families, absent: &[&str]) -> Result<()> {
    let scraped = scraped(text)?;
    for (name, (kind, labels)) in &scraped {
        let told = page.get(name);
        let (told, known) = told.with_context(|| format!("{who}: {name} is not documented"))?;
        ensure!(
            kind == told,
            "{who}: {name} is a {kind}, documented is a {told}"
        );
        ensure!(
            labels == known,
            "{who}: {name} has {labels:?}, documented are {known:?}"
        );
        let never = NEVER.iter().find(|label| labels.contains(**label));
        ensure!(never.is_none(), "{who}: {name} has the label {never:?}");
    }
    let missing: Vec<_> = page
        .keys()
        .filter(|name| !scraped.contains_key(*name) && !absent.contains(&name.as_str()))
        .collect();
    ensure!(missing.is_empty(), "{who} has none of {missing:?}");
    ensure!(series(text) < SERIES, "{who} has {} series", series(text));
    Ok(())
}

/// A pod on the node whose time has ended and which its budget keeps.
async fn blocked_pod(namespace: &Namespace, agents: &Agents) -> Result<()> {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
    }))?;
    Api::namespaced(namespace.cluster.client.clone(), &namespace.name)
        .create(&PostParams::default(), &budget)
        .await?;
    let web = Workload::new("web").on(NODE);
    let web = namespace.run_deployment(&web, 1).await?.remove(0);
    life::touch(namespace, agents, &web, &["true"]).await?;
    let series = format!(
        "curfew_agent_blocked_evictions{{pod_namespace=\"{}\",poddisruptionbudget=\"web\"}}",
        namespace.name
    );
    eventually(BLOCKED, "the budget keeps the pod", async || {
        let metrics = agents.of(NODE)?.metrics().await?;
        Ok(agents::sample(&metrics, &series)
            .filter(|count| *count == 1.0)
            .map(drop))
    })
    .await
}

#[tokio::test]
async fn what_is_scraped_is_what_is_documented() {
    within_namespace("metrics", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        blocked_pod(namespace, &agents).await?;
        let page = documented("Agent");
        for agent in agents.iter() {
            // Nothing of ours waits on the other node.
            let absent: &[&str] = match agent.node == NODE {
                true => &[],
                false => &[
                    "curfew_agent_namespace_pending_evictions",
                    "curfew_agent_blocked_evictions",
                ],
            };
            let text = agent.metrics().await?;
            compare(
                &format!("the agent of {}", agent.node),
                &text,
                &page,
                absent,
            )?;
        }
        let metrics = agents.of(NODE)?.metrics().await?;
        let value = |series: &str| agents::sample(&metrics, series);
        let pending = format!(
            "curfew_agent_namespace_pending_evictions{{pod_namespace=\"{}\"}}",
            namespace.name
        );
        ensure!(value(&pending) == Some(1.0), "{metrics}");
        ensure!(
            value("curfew_agent_longest_overdue_seconds") > Some(0.0),
            "{metrics}"
        );
        ensure!(value("curfew_agent_watch_synced") == Some(1.0), "{metrics}");

        let page = documented("Webhook");
        let mut stored = 0.0;
        for pod in namespace.cluster.pods_of("webhook").await? {
            let text = disrupt::metrics(&pod).await?;
            compare(&pod.name_any(), &text, &page, &[])?;
            // Others are admitted meanwhile, and counted one after the other.
            eventually(SETTLED, "as many times as admissions", async || {
                let text = disrupt::metrics(&pod).await?;
                let timed = "curfew_webhook_admission_duration_seconds_count";
                let timed = agents::total(&text, timed);
                let admitted = agents::total(&text, "curfew_webhook_admissions_total");
                Ok((timed == admitted).then_some(()))
            })
            .await?;
            let told = "curfew_webhook_notices_total{result=\"stored\"}";
            stored += agents::sample(&text, told).unwrap_or_default();
        }
        ensure!(stored >= 1.0, "no agent was told of anything");
        Ok(())
    })
    .await;
}

#[test]
fn what_is_not_on_the_page_is_seen() {
    let page = documented("Agent");
    assert!(page.len() > 25, "{page:?}");
    assert!(page.contains_key("process_open_fds") && !page.contains_key("curfew_webhook_agents"));
    let text = "# TYPE curfew_agent_pending_evictions gauge\n\
                curfew_agent_pending_evictions{state=\"due\"} 1\n\
                # TYPE curfew_agent_store_write_seconds histogram\n\
                curfew_agent_store_write_seconds_bucket{le=\"0.1\"} 1\n\
                curfew_agent_store_write_seconds_sum 0.05\n\
                curfew_agent_store_write_seconds_count 1\n";
    let all: Vec<_> = page.keys().map(String::as_str).collect();
    compare("it", text, &page, &all).unwrap();
    assert!(compare("it", text, &page, &[]).is_err(), "much is missing");
    for changed in [
        text.replace("pending", "open"),
        text.replace("gauge", "counter"),
        text.replace("state", "pod"),
        text.replace("{state=\"due\"}", ""),
    ] {
        assert!(compare("it", &changed, &page, &all).is_err(), "{changed}");
    }
}
