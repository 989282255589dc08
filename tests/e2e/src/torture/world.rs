//! The pods that people reach into: kept there, and looked at again and again. A watch would break with
//! the API server and miss what happens until it is back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use curfew_core::metadata::{INTERACTIONS, LABEL};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::PostParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    book::{Book, Life, Pages},
    plan::{BYSTANDERS, SLOTS},
};
use crate::{NODES, Namespace, Workload, eventually, namespace::is_ready};

/// The variable that tells a command in which pod it runs.
pub const UID: &str = "POD_UID";
const LOOK: Duration = Duration::from_millis(300);
/// An API server that is killed leaves connections that never answer.
const LIMIT: Duration = Duration::from_secs(5);

/// The name of the pod in a slot.
pub fn name(slot: usize) -> String {
    format!("slot-{slot}")
}

fn bystander(at: usize) -> String {
    format!("bystander-{at}")
}

fn node(at: usize) -> &'static str {
    NODES[at % NODES.len()]
}

/// Which slot has this name.
fn slot_of(name: &str) -> Option<usize> {
    name.strip_prefix("slot-")?.parse().ok()
}

/// Looks, and until it is calm replaces the pods that are gone.
pub(super) async fn keep(namespace: &Namespace, book: &Book, calm: &AtomicBool, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        // What fails because the API server is away is done when it is back.
        if timeout(LIMIT, look(namespace, book))
            .await
            .is_ok_and(|looked| looked.is_ok())
            && !calm.load(Ordering::Relaxed)
        {
            drop(timeout(LIMIT, fill(namespace, book)).await);
        }
        sleep(LOOK).await;
    }
}

/// Writes down which pods there are.
pub async fn look(namespace: &Namespace, book: &Book) -> Result<()> {
    let pods = namespace.pods().list(&Default::default()).await?.items;
    let now = Timestamp::now();
    let mut pages = book.open();
    for pod in &pods {
        see(&mut pages, pod);
    }
    for (uid, life) in &mut pages.lives {
        let there = pods
            .iter()
            .any(|pod| pod.metadata.uid.as_ref() == Some(uid));
        if !there {
            life.gone.get_or_insert(now);
        }
    }
    Ok(())
}

fn see(pages: &mut Pages, pod: &Pod) {
    let (Some(uid), Some(created)) = (pod.uid(), pod.creation_timestamp()) else {
        return;
    };
    let life = pages.lives.entry(uid).or_insert_with(|| Life {
        name: pod.name_any(),
        slot: slot_of(&pod.name_any()),
        created: created.0,
        ready: false,
        gone: None,
        deleted: false,
        marked: false,
        told: 0,
    });
    life.ready = is_ready(pod);
    life.marked |= pod.labels().contains_key(LABEL);
    let told = pod.annotations().get(INTERACTIONS);
    let told = told.and_then(|told| told.parse().ok()).unwrap_or_default();
    life.told = life.told.max(told);
}

async fn fill(namespace: &Namespace, book: &Book) -> Result<()> {
    let slots = (0..SLOTS).map(|at| (name(at), node(at)));
    let bystanders = (0..BYSTANDERS).map(|at| (bystander(at), node(at)));
    for (name, node) in slots.chain(bystanders) {
        let there = book.open().lives.values().any(|life| {
            // A bystander that is gone is not replaced: it should have stayed.
            life.name == name && (life.gone.is_none() || life.slot.is_none())
        });
        if there {
            continue;
        }
        let mut pod = Workload::new(&name).on(node).pod()?;
        if let Some(spec) = &mut pod.spec {
            let env =
                json!([{"name": UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]);
            spec.containers[0].env = serde_json::from_value(env)?;
        }
        let made = namespace
            .pods()
            .create(&PostParams::default(), &pod)
            .await?;
        see(&mut book.open(), &made);
    }
    Ok(())
}

/// Waits until all pods run for the first time.
pub(super) async fn populated(book: &Book) -> Result<()> {
    eventually(Duration::from_secs(60), "all pods run", async || {
        let ready = book.open().lives.values().filter(|life| life.ready).count();
        ensure!(ready == SLOTS + BYSTANDERS, "{ready} run");
        Ok(Some(()))
    })
    .await
}
