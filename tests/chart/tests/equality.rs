//! The chart and the kustomize base are the same objects.

use curfew_chart::{
    objects::{self, Objects},
    render::{COMPONENTS, Renderer},
};
use serde_json::Value;

/// The enforcement of the base.
const ENFORCE: &str = "--set=defaults.enforcement=Enforce";

/// What Helm leaves alone when the release is removed, with the reason.
const KEPT: [&str; 4] = [
    // Deleting them would delete all objects of their kinds.
    "CustomResourceDefinition /interactionpolicies.curfew.dev",
    "CustomResourceDefinition /interactionprofiles.curfew.dev",
    // They serve until the namespace is deleted, so that no exec is denied meanwhile.
    "Deployment curfew/curfew-webhook",
    "Service curfew/curfew-webhook",
];

/// The objects of the chart, without what only Helm reads.
fn helm(renderer: &Renderer, arguments: &[&str]) -> (Objects, Vec<String>) {
    let mut objects = renderer.helm(arguments).expect("it renders");
    let kept = objects::take_kept(&mut objects);
    (objects, kept)
}

fn assert_same(what: &str, kustomize: &Objects, helm: &Objects) {
    let differences = objects::differences(kustomize, helm);
    assert!(
        differences.is_empty(),
        "{what}: kustomize and Helm differ:\n{}",
        differences.join("\n")
    );
}

#[test]
fn without_values_it_is_the_base_with_a_dry_run() {
    let renderer = Renderer::new().unwrap();
    let (helm, kept) = helm(&renderer, &[]);
    assert_same(
        "no values",
        &renderer.kustomize(&["dry-run"]).unwrap(),
        &helm,
    );
    assert_eq!(kept, KEPT);
}

#[test]
fn with_evictions_it_is_the_base() {
    let renderer = Renderer::new().unwrap();
    let (helm, _) = helm(&renderer, &[ENFORCE]);
    assert_same("Enforce", &renderer.kustomize(&[]).unwrap(), &helm);
    assert!(helm.len() > 30, "{:?}", helm.keys());
}

#[test]
fn each_component_has_a_value() {
    let renderer = Renderer::new().unwrap();
    let folder = renderer.root().join("manifests/components");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    let mut known = COMPONENTS.map(|(component, _)| component);
    known.sort_unstable();
    assert_eq!(all, known);
    let base = renderer.kustomize(&[]).unwrap();
    for (component, value) in COMPONENTS {
        let kustomize = renderer.kustomize(&[component]).unwrap();
        assert_ne!(kustomize, base, "{component} changes nothing");
        assert_same(component, &kustomize, &helm(&renderer, &[ENFORCE, value]).0);
    }
}

#[test]
fn the_values_go_together() {
    let renderer = Renderer::new().unwrap();
    let mut kustomize = renderer
        .kustomize(&COMPONENTS.map(|(component, _)| component))
        .unwrap();
    let (mut helm, kept) = helm(&renderer, &COMPONENTS.map(|(_, value)| value));
    objects::sort_environments(&mut kustomize);
    objects::sort_environments(&mut helm);
    assert_same("all", &kustomize, &helm);
    // Pods that name a class that is gone cannot be created.
    let classes = ["dev", "production", "staging"].map(|class| format!("PriorityClass /{class}"));
    let mut expected: Vec<_> = KEPT.map(str::to_owned).into_iter().chain(classes).collect();
    expected.sort();
    assert_eq!(kept, expected);
}

#[test]
fn the_version_of_kubernetes_decides_whether_agents_have_rights_of_their_own() {
    let renderer = Renderer::new().unwrap();
    let legacy = renderer.kustomize(&["legacy"]).unwrap();
    let base = renderer.kustomize(&[]).unwrap();
    let versions = [
        ("v1.32.0", true),
        ("v1.35.9-eks-1a2b3c4", true),
        ("v1.36.0", false),
        ("v1.36.1-gke.1234000", false),
        ("v1.37.2", false),
    ];
    for (version, is_legacy) in versions {
        let version = format!("--kube-version={version}");
        let (of_it, _) = helm(&renderer, &[ENFORCE, &version]);
        assert_same(&version, if is_legacy { &legacy } else { &base }, &of_it);
        let (never, _) = helm(&renderer, &[ENFORCE, &version, "--set=legacy=false"]);
        assert_same(&version, &base, &never);
    }
    let error = renderer.helm(&["--kube-version=v1.31.0"]).unwrap_err();
    assert!(error.to_string().contains(">=1.32.0-0"), "{error}");
}

/// The folder contains links, an archive contains files.
#[test]
fn an_archive_is_the_same_as_the_folder() {
    let renderer = Renderer::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut helm = renderer.program("helm");
    helm.args(["package", "--destination"])
        .arg(folder.path())
        .arg(renderer.chart());
    curfew_cluster::run::check(&mut helm).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let archive = folder.path().join(format!("curfew-{version}.tgz"));
    let packed = objects::read(&renderer.template(&archive, &[]).unwrap()).unwrap();
    assert_same("archive", &packed, &renderer.helm(&[]).unwrap());
}

/// A Job that does not end would keep people from installing, upgrading or removing Curfew.
#[test]
fn there_is_no_hook() {
    let renderer = Renderer::new().unwrap();
    let values = COMPONENTS.map(|(_, value)| value);
    for (name, object) in renderer.helm(&values).unwrap() {
        let annotations = object["metadata"]["annotations"].as_object();
        let mut keys = annotations.into_iter().flat_map(|all| all.keys());
        assert!(!keys.any(|key| key.starts_with("helm.sh/hook")), "{name}");
    }
}

#[test]
fn the_namespace_of_the_release_does_not_matter() {
    let renderer = Renderer::new().unwrap();
    let elsewhere = renderer.helm(&["--namespace=elsewhere"]).unwrap();
    assert_same("elsewhere", &elsewhere, &renderer.helm(&[]).unwrap());
    for (name, object) in elsewhere {
        let namespace = object["metadata"].get("namespace");
        assert!(namespace.is_none_or(|is| is == "curfew"), "{name}");
    }
}

#[test]
fn all_say_the_same_version() {
    let renderer = Renderer::new().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let text = std::fs::read_to_string(renderer.chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(chart["version"], version);
    assert_eq!(chart["appVersion"], version);
    for (name, object) in renderer.helm(&[]).unwrap() {
        let label = &object["metadata"]["labels"]["app.kubernetes.io/version"];
        assert_eq!(label, version, "{name}");
    }
}
