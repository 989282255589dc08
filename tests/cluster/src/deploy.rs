//! Curfew itself, from this checkout's manifests onto the running cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use crate::{
    cluster::{self, kubectl},
    go_tools,
    images::Image,
    layout::{self, Checkout},
    manifests, pki, process, progress, run, state,
};

/// How the manifests get onto the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// `kubectl apply -k` of the overlay.
    #[default]
    Kustomize,
    /// `helm upgrade --install` of the chart.
    Chart,
}

/// The release of the chart, and its namespace.
const RELEASE: (&str, &str) = ("curfew", "default");
/// The values that make of the chart what the overlay makes of the base.
pub const VALUES: &str = "manifests/overlays/test-cluster/values.yaml";

const NAMESPACE: &str = "curfew";
const WORKLOADS: [(&str, &str); 2] = [
    ("daemonset/curfew-agent", "curfew-agent"),
    ("deployment/curfew-webhook", "curfew-webhook"),
];
const CONFIGURATION: &str = "curfew-webhook";
/// The webhook that exists only once a replica has shown that it can serve it.
const WEBHOOK: &str = "interaction.curfew.dev";
const PATIENCE: Duration = Duration::from_secs(120);

/// Applies the manifests and waits until Curfew guards the cluster.
pub fn ensure(checkout: &Checkout, images: &[Image], way: Way) -> Result<()> {
    progress::step("Deploying Curfew");
    let existing: Vec<_> = WORKLOADS
        .iter()
        .map(|(workload, _)| exists(workload))
        .collect();
    match way {
        Way::Kustomize => apply_overlay(checkout)?,
        Way::Chart => install_chart(checkout)?,
    }
    for ((workload, image), existed) in WORKLOADS.iter().zip(existing) {
        let image = find(images, image)?;
        // The tag stays the same, so a workload that runs an older image has to be told.
        if existed && fs::read_to_string(rolled_out(image)).ok().as_ref() != Some(&image.key) {
            run::check(in_namespace().args(["rollout", "restart", workload]))?;
            progress::note(&format!("{workload} restarted with its new image"));
        }
    }
    for (workload, image) in WORKLOADS {
        let image = find(images, image)?;
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        run::check(in_namespace().args(["rollout", "status", workload, &timeout]))
            .map_err(explain)?;
        state::replace(&rolled_out(image), image.key.as_bytes())?;
    }
    let names = [
        "get",
        "validatingwebhookconfiguration",
        CONFIGURATION,
        "-o",
        "jsonpath={.webhooks[*].name}",
    ];
    process::wait(&format!("the webhook {WEBHOOK}"), PATIENCE, &[], || {
        let said = run::output(kubectl().args(names)).ok()?;
        said.split_whitespace()
            .any(|name| name == WEBHOOK)
            .then_some(())
    })
    .map_err(explain)
}

fn apply_overlay(checkout: &Checkout) -> Result<()> {
    let overlay = manifests::overlay(checkout, "test-cluster", cluster::minor()?)?;
    // Applying patches some objects even where nothing differs.
    if run::succeeds(kubectl().args(["diff", "-k"]).arg(&overlay)) {
        return Ok(());
    }
    apply(&overlay)
}

/// Helm is this checkout's. The values are those of the chart's version, which may not know all that this one has.
fn install_chart(checkout: &Checkout) -> Result<()> {
    let mut helm = helm(&Checkout::find()?)?;
    helm.args(["upgrade", "--install", RELEASE.0])
        .arg(checkout.root().join("manifests/chart"))
        .arg("--values")
        .arg(checkout.root().join(VALUES));
    run::check(&mut helm).context("the chart cannot be installed")
}

/// Removes what the chart installed, and the CustomResourceDefinitions that it leaves.
pub fn remove_chart() -> Result<()> {
    run::check(helm(&Checkout::find()?)?.args(["uninstall", RELEASE.0, "--ignore-not-found"]))?;
    let left = "--selector=app.kubernetes.io/name=curfew";
    run::check(kubectl().args(["delete", "customresourcedefinition", left]))
}

fn helm(checkout: &Checkout) -> Result<Command> {
    let mut helm = Command::new(go_tools::ensure(checkout)?.program("helm"));
    helm.args(["--namespace", RELEASE.1])
        .env("KUBECONFIG", pki::kubeconfig("admin"));
    Ok(helm)
}

fn apply(overlay: &Path) -> Result<()> {
    let apply = || run::output(kubectl().args(["apply", "-k"]).arg(overlay));
    // A CRD and the objects that it defines may stand in one set: the second attempt knows the kind.
    let applied = apply().or_else(|_| {
        std::thread::sleep(Duration::from_secs(2));
        apply()
    });
    let applied = applied.context("the manifests cannot be applied")?;
    for line in applied.lines().filter(|line| !line.ends_with(" unchanged")) {
        progress::note(line);
    }
    Ok(())
}

fn find<'a>(images: &'a [Image], name: &str) -> Result<&'a Image> {
    let reference = format!("localhost/{name}:e2e");
    images
        .iter()
        .find(|image| image.reference == reference)
        .with_context(|| format!("{reference} was not built"))
}

/// Which image a workload was last seen to run.
fn rolled_out(image: &Image) -> PathBuf {
    layout::machine("rolled-out").join(image.reference.replace(['/', ':'], "_"))
}

fn in_namespace() -> Command {
    let mut kubectl = kubectl();
    kubectl.args(["--namespace", NAMESPACE]);
    kubectl
}

fn exists(workload: &str) -> bool {
    run::output(in_namespace().args(["get", workload, "--ignore-not-found", "-o", "name"]))
        .is_ok_and(|said| !said.trim().is_empty())
}

/// Adds what the pods are doing, and what those that do not run said last.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let pods = run::output(in_namespace().args(["get", "pods", "-o", "wide"])).unwrap_or_default();
    let mut said = String::new();
    for (workload, name) in WORKLOADS {
        let component = name.trim_start_matches("curfew-");
        let selector = format!("app.kubernetes.io/component={component}");
        let logs = run::output(in_namespace().args(["logs", workload, "--tail=8"])).or_else(|_| {
            run::output(in_namespace().args(["logs", "--selector", &selector, "--tail=8"]))
        });
        said += &format!(
            "\n{workload}, last lines of its log:\n{}",
            logs.unwrap_or_default().trim_end()
        );
    }
    anyhow!(
        "Curfew did not become ready: {error:#}\n{}\n{said}",
        pods.trim_end()
    )
}
