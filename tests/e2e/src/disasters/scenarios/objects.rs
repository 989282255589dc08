//! Objects of the installation that somebody deletes by hand, and what brings each back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{Any, Fell, Rose, Silent},
    tools,
};
use crate::{CURFEW, disrupt, eventually, policies::PROMPT};

/// What Curfew makes itself and so has to bring back itself.
const OWN: &[&[&str]] = &[
    &["validatingwebhookconfiguration/curfew-webhook"],
    &["configmap/curfew-ca"],
    &["secret/curfew-webhook-ca"],
];
/// What the manifests make, which only applying them brings back.
const APPLIED: &[&[&str]] = &[
    &["daemonset/curfew-agent"],
    &["deployment/curfew-webhook"],
    &[
        "validatingadmissionpolicybinding/curfew-accounts",
        "validatingadmissionpolicybinding/curfew-marks",
        "validatingadmissionpolicybinding/curfew-exemptions",
    ],
    &[
        "validatingadmissionpolicy/curfew-accounts",
        "validatingadmissionpolicy/curfew-marks",
        "validatingadmissionpolicy/curfew-exemptions",
    ],
    &["service/curfew-agent", "service/curfew-webhook"],
    &[
        "clusterrole/curfew-agent",
        "clusterrolebinding/curfew-agent",
        "clusterrole/curfew-agent-evidence",
        "clusterrolebinding/curfew-agent-evidence",
        "role/curfew-agent",
        "rolebinding/curfew-agent",
    ],
    &[
        "clusterrole/curfew-webhook",
        "clusterrolebinding/curfew-webhook",
        "role/curfew-webhook",
        "rolebinding/curfew-webhook",
    ],
    &[
        "clusterrole/curfew-extend",
        "clusterrole/curfew-hold",
        "clusterrole/curfew-evict",
        "clusterrole/curfew-view",
        "clusterrole/curfew-profiles",
        "clusterrole/curfew-profiles-view",
    ],
    &[
        "serviceaccount/curfew-agent",
        "serviceaccount/curfew-webhook",
    ],
    &["flowschema/curfew", "prioritylevelconfiguration/curfew"],
    &[
        "networkpolicy/curfew-nobody",
        "networkpolicy/curfew-webhook",
        "networkpolicy/curfew-agent",
        "poddisruptionbudget/curfew-webhook",
        "resourcequota/curfew-critical-pods",
    ],
    &[
        "customresourcedefinition/interactionpolicies.curfew.dev",
        "customresourcedefinition/interactionprofiles.curfew.dev",
    ],
];
const ITSELF: Duration = Duration::from_secs(60);

/// What Curfew makes, and what the manifests make.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "objects-own",
        what: "objects that Curfew creates are deleted by hand: webhook configuration, ConfigMap and Secret of the CA",
        later: 60,
        told: &[Rose("webhook", "curfew_webhook_registrations_total")],
        strike: |scene| boxed(own(scene)),
        renews: true,
    },
    Scenario {
        name: "objects-applied",
        what: "objects from the manifests are deleted by hand, kind by kind, and applied again",
        later: 120,
        told: &[Any(&[
            Silent("agent"),
            Silent("webhook"),
            Fell("webhook", "curfew_webhook_agents"),
            Fell("webhook", "curfew_webhook_registered"),
        ])],
        strike: |scene| boxed(applied(scene)),
        renews: true,
    },
];

async fn uid(scene: &Scene, object: &str) -> Result<String> {
    let kubectl = disrupt::kubectl(&scene.namespace.cluster);
    kubectl
        .ok(&["get", object, "-o", "jsonpath={.metadata.uid}"])
        .await
}

async fn delete(scene: &Scene, objects: &[&str]) -> Result<()> {
    let kubectl = disrupt::kubectl(&scene.namespace.cluster);
    let args = [&["delete", "--wait=false", "--ignore-not-found"], objects].concat();
    kubectl.ok(&args).await.map(drop)
}

async fn own(scene: &Scene) -> Result<()> {
    scene.touch().await?;
    for objects in OWN {
        for object in *objects {
            let old = uid(scene, object).await?;
            delete(scene, &[object]).await?;
            let deleted = Instant::now();
            let back = eventually(ITSELF, object, async || {
                let new = uid(scene, object).await?;
                ensure!(!new.is_empty() && new != old, "it is not back");
                Ok(Some(deleted.elapsed()))
            });
            match back.await {
                Ok(after) => {
                    let after = after.as_secs_f64();
                    scene.figure(format!("{object}: Curfew itself, after {after:.1} s"));
                }
                Err(_) => scene.find(format!("{object} does not come back")),
            }
        }
    }
    tools::registered(&scene.namespace.cluster).await?;
    scene.returned();
    Ok(())
}

async fn applied(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    let overlay = cluster.overlay("test-cluster").await?;
    let overlay = overlay.to_str().context("a path that is no text")?;
    scene.removal();
    for objects in APPLIED {
        delete(scene, objects).await?;
        sleep(PROMPT * 2).await;
        let deleted = Instant::now();
        eventually(ITSELF, "the manifests can be applied", async || {
            let said = cluster.kubectl().run(&["apply", "-k", overlay]).await?;
            said.success().map(Some)
        })
        .await?;
        let accounts = objects[0].starts_with("serviceaccount/");
        if accounts {
            // The tokens of running pods are of an account that is no more, even if another has its name.
            let restart = [
                "rollout",
                "restart",
                disrupt::DAEMONSET,
                disrupt::DEPLOYMENT,
            ];
            disrupt::kubectl(cluster).ok(&restart).await?;
        }
        for workload in [disrupt::DAEMONSET, disrupt::DEPLOYMENT] {
            disrupt::rolled_out(cluster, workload).await?;
        }
        tools::registered(cluster).await?;
        let after = deleted.elapsed().as_secs_f64();
        let kinds: Vec<_> = objects
            .iter()
            .filter_map(|object| object.split('/').next())
            .collect();
        let restarted = if accounts {
            " and `rollout restart`"
        } else {
            ""
        };
        scene.figure(format!(
            "{}: `kubectl apply`{restarted}, {after:.0} s",
            kinds[0]
        ));
    }
    ensure!(
        cluster.pods_of("agent").await?.len() == 2,
        "agents of {CURFEW} are missing"
    );
    scene.returned();
    Ok(())
}
