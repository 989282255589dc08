//! etcd is restored from a copy: its revisions go backwards, and what was written since is gone.

use std::time::Duration;

use anyhow::{Context, Result};
use curfew_cluster::layout;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{Any, Fell, Rose},
    tools::{self, Stopped},
};
use crate::{disrupt, eventually, policies::Policies};

const SIGNS: &[super::super::senses::Sign] = &[Any(&[
    Rose("agent", "curfew_agent_watch_errors_total"),
    Fell("agent", "curfew_agent_watch_synced"),
])];
/// How many writes are open at once.
const OPEN: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// What makes revisions.
const WRITTEN: &str = "revisions";

/// With a small gap and with a big one.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "etcd-restore-30",
        what: "etcd restored from a copy that is about 30 revisions old",
        later: 60,
        told: SIGNS,
        strike: |scene| boxed(restore(scene, 0)),
        renews: true,
    },
    Scenario {
        name: "etcd-restore-5000",
        what: "etcd restored from a copy that is 5,000 revisions old",
        later: 60,
        told: SIGNS,
        strike: |scene| boxed(restore(scene, 5_000)),
        renews: true,
    },
];

async fn restore(scene: &Scene, revisions: usize) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &scene.namespace.name);
    let map = serde_json::from_value(json!({"metadata": {"name": WRITTEN}}))?;
    let before = revision(&maps.create(&PostParams::default(), &map).await?)?;
    let (data, kept) = (layout::machine("etcd"), layout::machine("etcd.copy"));
    {
        let (data, kept) = (data.clone(), kept.clone());
        disrupt::on_machine(cluster, move |machine| {
            // One that does nothing is copied as one that was killed at that moment would be found.
            let mut stopped = Stopped::default();
            stopped.stop(machine.pid("etcd").context("etcd does not run")?)?;
            tools::copy(&data, &kept)
        })
        .await?;
    }
    write(&maps, revisions).await?;
    // The restore removes it: after that nobody may be refused because of it.
    let policies = Policies::new(&scene.namespace).await?;
    let group = json!({"matchLabels": {"group": "fresh"}});
    let deny = json!({"priority": 100, "podSelector": group, "action": "Deny"});
    policies.apply("gone", deny).await?;
    scene.touch().await?;
    let last = Patch::Merge(json!({"data": {"last": "yes"}}));
    let after = revision(&maps.patch(WRITTEN, &PatchParams::default(), &last).await?)?;
    scene.figure(format!("{} revisions lost", after - before));
    scene.loses_events();
    disrupt::on_machine(cluster, move |machine| {
        tools::kill_api(machine)?;
        tools::copy(&kept, &data)?;
        std::fs::remove_dir_all(&kept)?;
        tools::start_api(machine)
    })
    .await?;
    scene.returned();
    disrupt::on_machine(cluster, |machine| {
        // They are blind, too: they remember revisions that are still to come.
        disrupt::restart(machine, &disrupt::CONTROLLERS)?;
        disrupt::restart(machine, &["node-1-kubelet", "node-2-kubelet"])?;
        machine.wait_until_ready()
    })
    .await?;
    if let Err(error) = scene
        .marked(super::super::facts::LATEST.unsigned_abs())
        .await
    {
        scene.find(format!("after the restore: {error:#}"));
    }
    Ok(())
}

fn revision(map: &ConfigMap) -> Result<u64> {
    let version = map.metadata.resource_version.as_deref();
    version
        .context("it has no revision")?
        .parse()
        .context("no number")
}

/// Writes so many revisions.
async fn write(maps: &Api<ConfigMap>, revisions: usize) -> Result<()> {
    stream::iter(0..revisions)
        .map(|at| async move {
            let patch = Patch::Merge(json!({"data": {"at": at.to_string()}}));
            // It may take longer than the API server waits where the machine has too much to do.
            eventually(PATIENCE, "a revision is written", async || {
                maps.patch(WRITTEN, &PatchParams::default(), &patch).await?;
                Ok(Some(()))
            })
            .await
        })
        .buffer_unordered(OPEN)
        .try_collect()
        .await
}
