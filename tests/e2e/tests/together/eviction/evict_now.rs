//! Pods that somebody ordered to evict now, with `kubectl pi evict`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use curfew_core::metadata::{EVICT_NOW, EVICT_NOW_REQUESTER, INTERACTED, LABEL};
use curfew_e2e::{
    Agents, PodWatch, Workload,
    budgets::{budget, budgets},
    eventually, figures,
    life::{self, TOLERANCE},
    marks,
    namespace::uid,
    policies::Policies,
    table, within_namespace,
};
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{NODE, SOON};

const ORDERED: &str = "PodInteractionEvictNow";

/// Waits until the pod of this UID is on its way out.
async fn goes(watch: &PodWatch, uid: &str, within: Duration) -> Result<Timestamp> {
    let by = Timestamp::now() + jiff::SignedDuration::try_from(within)?;
    watch.going(uid, by).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_keeps_an_untouched_pod_until_there_is_room() {
    within_namespace("ordered-budget", async |namespace| {
        let kubectl = &namespace.kubectl;
        let user = namespace.cluster.administrator().await?;
        let pods = namespace
            .run_deployment(&Workload::new("web").on(NODE), 2)
            .await?;
        budget(namespace, "web", json!({})).await?;
        let watch = namespace.watch().await?;
        let (name, uid) = (pods[0].name_any(), uid(&pods[0])?);
        let said = kubectl
            .run(&["pi", "evict", &name, "--reason", "misused"])
            .await?;
        ensure!(
            said.code == Some(0)
                && said.stdout == format!("pod/{name} eviction ordered\n")
                && said
                    .stderr
                    .contains("is not terminating yet; its eviction is retried"),
            "{said:?}"
        );
        let pod = namespace.pods().get(&name).await?;
        let set = |key: &str| pod.annotations().get(key).map(String::as_str);
        ensure!(set(EVICT_NOW) == Some("misused") && set(EVICT_NOW_REQUESTER) == Some(&*user));

        // It is overdue, and everybody sees why.
        let wide = eventually(SOON, "the table says blocked", async || {
            let wide = kubectl.ok(&["pi", "get", "-o", "wide"]).await?;
            Ok(wide.contains("blocked").then_some(wide))
        })
        .await?;
        table::check(
            &wide,
            &name,
            &[("STATE", "blocked"), ("INTERACTOR", "<none>")],
        )?;
        let time = table::cell(&wide, &name, "EVICTION-TIME")?;
        let says = format!(", blocked by PDB web, ordered by {user})");
        ensure!(time.ends_with(&says), "{wide}");
        let described = kubectl.ok(&["pi", "describe", &name]).await?;
        ensure!(
            described.contains(&format!("misused, by {user}")),
            "{described}"
        );
        let pod = namespace.pods().get(&name).await?;
        ensure!(
            pod.labels()
                .get(LABEL)
                .is_some_and(|value| value == INTERACTED)
        );
        eventually(SOON, "the Event", async || {
            let events = marks::events(namespace, &uid, ORDERED).await?;
            ensure!(events.len() <= 1, "{events:?}");
            let says = format!("{user} ordered to evict the pod now; reason: misused");
            Ok(events
                .iter()
                .any(|event| event.message.as_deref() == Some(&says))
                .then_some(()))
        })
        .await?;
        let node = kubectl.ok(&["pi", "node", NODE]).await?;
        ensure!(node.contains(&name), "{node}");

        // A second order only says who gave the first.
        let again = ["pi", "evict", &name, "--reason", "other"];
        let said = kubectl.run(&again).await?;
        ensure!(
            said.code == Some(0)
                && said.stdout.is_empty()
                && said.stderr.contains("already ordered"),
            "{said:?}"
        );
        ensure!(watch.end(&uid).going.is_none(), "it went past the budget");

        let patch = Patch::Merge(json!({"spec": {"minAvailable": 1}}));
        budgets(namespace)
            .patch("web", &PatchParams::default(), &patch)
            .await?;
        goes(&watch, &uid, SOON).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_pod_of_three_leaves_its_service_and_goes_at_once() {
    within_namespace("ordered-detach", async |namespace| {
        let kubectl = &namespace.kubectl;
        let pods = namespace
            .run_deployment(&Workload::new("web").on(NODE), 3)
            .await?;
        kubectl
            .ok(&["create", "service", "clusterip", "web", "--tcp=80:80"])
            .await?;
        let serving = async || {
            let endpoints = namespace.endpoints("web").await?.into_iter();
            let ready = endpoints.filter(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.and_then(|conditions| conditions.ready) != Some(false)
            });
            let pods = ready.filter_map(|endpoint| endpoint.target_ref?.uid);
            anyhow::Ok(pods.collect::<Vec<_>>())
        };
        eventually(SOON, "all serve", async || {
            Ok((serving().await?.len() == 3).then_some(()))
        })
        .await?;
        let watch = namespace.watch().await?;
        let (name, misused) = (pods[0].name_any(), uid(&pods[0])?);
        let began = (Instant::now(), Timestamp::now());
        let args = ["pi", "evict", &name, "--reason=misused", "--detach"];
        let (said, left) = tokio::join!(
            kubectl.run(&args),
            eventually(SOON, "it serves no longer", async || {
                let gone = !serving().await?.contains(&misused);
                Ok(gone.then(|| began.0.elapsed()))
            })
        );
        let (said, left) = (said?, left?);
        ensure!(
            said.code == Some(0)
                && said.stdout.contains("eviction ordered")
                && said.stdout.contains("detached from replicaset/web-")
                && said.stdout.contains("service/web")
                && said.stderr.contains("is terminating"),
            "{said:?}"
        );
        let went = goes(&watch, &misused, SOON).await?.duration_since(began.1);
        let shown = format!("out of its Service after {left:?}, evicted after {went:#}");
        figures::report(&namespace.cluster, "evict-now", &shown)?;
        ensure!(went <= TOLERANCE && left <= TOLERANCE.unsigned_abs());
        // Its owner and its Service had another before it was gone, and the others stay.
        eventually(SOON * 3, "three serve", async || {
            let pods = serving().await?;
            Ok((pods.len() == 3 && !pods.contains(&misused)).then_some(()))
        })
        .await?;
        for other in &pods[1..] {
            ensure!(watch.end(&uid(other)?).going.is_none(), "another pod went");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_hold_nor_a_dry_run_keeps_a_pod() {
    within_namespace("ordered-kept", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        policies
            .hold(&[("dry", json!({"enforcement": "DryRun", "ttl": "1h"}))])
            .await?;
        let record = life::run_touched(namespace, &agents, "web").await?;
        kubectl
            .ok(&["pi", "hold", "web", "--reason=evidence"])
            .await?;
        let watch = namespace.watch().await?;
        let evict = async |more: &[&str]| {
            let args = [&["pi", "evict", "web"], more].concat();
            kubectl.run(&args).await
        };
        for (flags, sentence) in [
            (
                &["--reason=misused"][..],
                "use --force to evict it all the same",
            ),
            (&["--reason= ", "--force"], "--reason: must not be empty"),
            (&["--reason=\u{202e}", "--force"], "no visible characters"),
            (&["--reason=two\nlines", "--force"], "a control character"),
            (
                &[&format!("--reason={}", "x".repeat(257)), "--force"],
                "has 257 bytes",
            ),
        ] {
            let said = evict(flags).await?;
            ensure!(
                said.code == Some(1) && said.stdout.is_empty() && said.stderr.contains(sentence),
                "{said:?}"
            );
        }
        ensure!(watch.end(&record.uid).going.is_none());
        let said = evict(&["--reason=misused", "--force"]).await?;
        ensure!(
            said.code == Some(0) && said.stderr.ends_with("pod/web is terminating\n"),
            "{said:?}"
        );
        goes(&watch, &record.uid, SOON).await?;
        eventually(SOON, "the Event", async || {
            let events = marks::events(namespace, &record.uid, "PodInteractionEvicted").await?;
            let told = events.iter().any(|event| {
                let note = event.message.as_deref().unwrap_or_default();
                note.contains("ordered it") && note.contains("misused")
            });
            Ok(told.then_some(()))
        })
        .await
    })
    .await;
}
