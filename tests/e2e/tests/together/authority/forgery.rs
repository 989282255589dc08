//! What only Curfew writes.

use anyhow::{Result, ensure};
use curfew_cluster::Minor;
use curfew_core::metadata::{DRIFT, EXTENSION, LABEL, PREFIX, TTL};
use curfew_e2e::{Namespace, Workload, eventually, skip, within_namespace, workload::IMAGE};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy, apps::v1::Deployment,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{NODE, SOON, WAYS, Way, annotate, kubectl_of, lasting, passed, people, refused, set};

const POLICY: &str = "curfew-marks";

#[tokio::test]
async fn the_policies_expressions_are_sound() {
    within_namespace("policies", async |namespace| {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(namespace.cluster.client.clone());
        for name in [POLICY, "curfew-accounts", "curfew-exemptions"] {
            let checked = eventually(SOON, "the policy is checked", async || {
                let policy = policies.get(name).await?;
                Ok(policy.status.and_then(|status| status.type_checking))
            })
            .await?;
            let warnings = checked.expression_warnings.unwrap_or_default();
            ensure!(warnings.is_empty(), "{name}: {warnings:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn nobody_changes_what_curfew_wrote() {
    within_namespace("forgery", async |namespace| {
        people(namespace).await?;
        let before = lasting(namespace, "pod").await?;
        let (admin, editor) = (&namespace.kubectl, kubectl_of(namespace, "edit"));
        let forged = json!({TTL: "99h"});
        for kubectl in [admin, &editor] {
            for way in WAYS {
                let said = set(kubectl, way, "pod", &forged).await?;
                refused(
                    &said,
                    POLICY,
                    &format!("only Curfew writes {TTL}; people may set"),
                )?;
            }
            for label in [
                &format!("{LABEL}-"),
                &format!("{LABEL}=false"),
                "curfew.dev/hold=x",
            ] {
                let said = kubectl
                    .run(&["label", "pod", "pod", "--overwrite", label])
                    .await?;
                let key = label.split(['=', '-']).next().unwrap_or_default();
                refused(&said, POLICY, &format!("only Curfew writes {key}"))?;
            }
        }
        let ours = before.annotations().keys();
        let ours: Vec<_> = ours
            .filter(|key| key.starts_with(PREFIX) && !key.starts_with(EXTENSION))
            .collect();
        ensure!(ours.len() >= 9, "{ours:?}");
        for key in ours {
            let said = admin
                .run(&["annotate", "pod", "pod", &format!("{key}-")])
                .await?;
            refused(&said, POLICY, &format!("only Curfew writes {key}"))?;
        }
        let said = annotate(admin, "pod", &[("curfew.dev/new", "1"), (TTL, "1s")], &[]).await?;
        refused(&said, POLICY, "(and 1 more of curfew.dev/ in this request)")?;

        other_paths(namespace).await?;
        let after = namespace.pods().get("pod").await?;
        let kept = |pod: &k8s_openapi::api::core::v1::Pod| {
            let mut annotations = pod.annotations().clone();
            // What the agent finds when it looks into the pod is told when it does.
            annotations.retain(|key, _| key.starts_with(PREFIX) && key != DRIFT);
            (pod.labels().clone(), annotations)
        };
        ensure!(
            kept(&before) == kept(&after),
            "{:?} became {:?}",
            kept(&before),
            kept(&after)
        );
        ensure!(after.annotations().contains_key("example.com/mine"));
        Ok(())
    })
    .await;
}

/// The subresources: what can set metadata is refused, what cannot changes nothing, and whatever is
/// not Curfew's passes.
async fn other_paths(namespace: &Namespace) -> Result<()> {
    let admin = &namespace.kubectl;
    for key in [TTL, EXTENSION] {
        let said = set(admin, Way::Status, "pod", &json!({key: "99h"})).await?;
        refused(&said, POLICY, &format!("only Curfew writes {key}"))?;
    }
    passed(&set(admin, Way::Status, "pod", &json!({"example.com/mine": "1"})).await?)?;
    let forged = json!({"metadata": {"annotations": {TTL: "99h"}, "labels": {LABEL: null}}});
    let mut others = vec!["ephemeralcontainers"];
    let why = "pods/resize is on by default since 1.33";
    if !skip::part_unless(&namespace.cluster, Minor::resizes_pods, why).await? {
        others.push("resize");
    }
    for subresource in others {
        let params = PatchParams::default();
        namespace
            .pods()
            .patch_subresource(subresource, "pod", &params, &Patch::Strategic(&forged))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_created_or_bound_with_marks() {
    within_namespace("premarked", async |namespace| {
        let kubectl = &namespace.kubectl;
        let image = format!("--image={IMAGE}");
        for mark in [
            "--labels=curfew.dev/interacted=true",
            "--annotations=curfew.dev/hold=mine",
        ] {
            let said = kubectl.run(&["run", "marked", &image, mark]).await?;
            refused(
                &said,
                POLICY,
                "remove everything that starts with curfew.dev/ from the Pod, from the template",
            )?;
        }
        let said = kubectl
            .run(&[
                "run",
                "like-it",
                &image,
                "--labels=my.curfew.dev/a=b",
                "--dry-run=server",
            ])
            .await?;
        passed(&said)?;

        lasting(namespace, "pod").await?;
        let copy = ["debug", "pod", "--copy-to=copy", &image, "--attach=false"];
        let faithful = [&copy[..], &["--keep-labels", "--keep-annotations"]].concat();
        let words = ["--", "true"];
        refused(
            &kubectl.run(&[&faithful[..], &words].concat()).await?,
            POLICY,
            "and from copies of other pods",
        )?;
        // Before 1.36, kubectl keeps the annotations by default.
        let general = [&copy[..], &["--profile=general"]].concat();
        passed(&kubectl.run(&[&general[..], &words].concat()).await?)?;

        through_a_template(namespace).await?;
        bound(namespace).await?;
        crowded(namespace).await
    })
    .await;
}

/// The Deployment is taken, and says why it gets no pods.
async fn through_a_template(namespace: &Namespace) -> Result<()> {
    let deployments: Api<Deployment> =
        Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let mut deployment = json!(Workload::new("web").deployment(1)?);
    deployment["spec"]["template"]["metadata"]["annotations"] = json!({TTL: "99h"});
    deployments
        .create(&PostParams::default(), &serde_json::from_value(deployment)?)
        .await?;
    eventually(SOON, "the Deployment tells why", async || {
        let status = deployments.get("web").await?.status;
        let conditions = status.and_then(|status| status.conditions);
        let told = conditions.iter().flatten().any(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            condition.type_ == "ReplicaFailure"
                && message.contains("from the Pod, from the template that it is created from")
        });
        ensure!(told, "{conditions:?}");
        Ok(Some(()))
    })
    .await
}

/// Who places pods may write on them, but not this.
async fn bound(namespace: &Namespace) -> Result<()> {
    for (name, path) in [
        ("by-pod", "pods/by-pod/binding"),
        ("by-binding", "bindings"),
    ] {
        let mut pod = json!(Workload::new(name).pod()?);
        pod["spec"]["schedulerName"] = json!("nobody");
        namespace
            .pods()
            .create(&PostParams::default(), &serde_json::from_value(pod)?)
            .await?;
        let path = format!("/api/v1/namespaces/{}/{path}", namespace.name);
        let bind = async |annotation: &str| {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "annotations": {annotation: "99h"}},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            });
            namespace
                .kubectl
                .feed(&["create", "--raw", &path, "-f", "-"], &binding.to_string())
                .await
        };
        refused(&bind(TTL).await?, POLICY, "from the Binding")?;
        let pod = namespace.pods().get(name).await?;
        ensure!(pod.spec.and_then(|spec| spec.node_name).is_none());
        passed(&bind("example.com/mine").await?)?;
        let pod = namespace.ready(name).await?;
        ensure!(
            pod.annotations().contains_key("example.com/mine"),
            "{pod:?}"
        );
    }
    Ok(())
}

/// What cannot be looked through quickly is refused, before it could take the API server's time.
async fn crowded(namespace: &Namespace) -> Result<()> {
    let annotated = async |name: &str, count: usize| {
        let mut pod = json!(Workload::new(name).pod()?);
        let keys = (0..count).map(|at| (format!("k{at}"), json!("")));
        pod["metadata"]["annotations"] = keys.collect();
        let args = ["create", "-f", "-", "--dry-run=server"];
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": pod["spec"]});
        namespace.kubectl.feed(&args, &pod.to_string()).await
    };
    // With the label that every workload has.
    passed(&annotated("full", 1999).await?)?;
    refused(
        &annotated("overfull", 2000).await?,
        POLICY,
        "at most 2000 labels and annotations",
    )
}
