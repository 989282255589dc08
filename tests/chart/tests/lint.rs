//! What Helm and kubeconform say of the manifests.

use std::{collections::BTreeMap, fs, path::Path};

use curfew_chart::{
    objects::Objects,
    render::{COMPONENTS, Renderer},
    schemas::{self, TEMPLATE},
};
use curfew_cluster::run;
use serde_json::{Value, json};

/// The kinds of the Prometheus operator and of OpenShift, whose schemas are not part of Kubernetes.
const FOREIGN: &str = "PodMonitor,PrometheusRule,SecurityContextConstraints,ServiceMonitor";
/// What the values of components do not reach.
const MORE: [&str; 3] = [
    "--set=networkPolicies.apiServer.sources={10.0.0.0/8}",
    "--set=policies.all.ttl=1h",
    "--api-versions=curfew.dev/v1alpha1/InteractionPolicy",
];

#[test]
fn helm_finds_no_fault() {
    let renderer = Renderer::new().unwrap();
    let mut helm = renderer.program("helm");
    helm.args(["lint", "--strict"]).arg(renderer.chart());
    let said = run::output(&mut helm).unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
    assert!(!said.contains("[WARNING]"), "{said}");
}

#[test]
fn kubeconform_finds_no_fault() {
    let renderer = Renderer::new().unwrap();
    let values: Vec<_> = COMPONENTS
        .map(|(_, value)| value)
        .into_iter()
        .chain(MORE)
        .collect();
    let sets = [
        renderer
            .kustomize(&COMPONENTS.map(|(component, _)| component))
            .unwrap(),
        renderer.helm(&[]).unwrap(),
        renderer.helm(&values).unwrap(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let description = schemas::description(renderer.root()).unwrap();
    for objects in &sets {
        schemas::write(folder.path(), &description, objects).unwrap();
        let result = conform(&renderer, folder.path(), objects);
        assert_eq!(result["invalid"], 0, "{result}");
        assert_eq!(result["errors"], 0, "{result}");
        let valid = result["valid"].as_u64().unwrap();
        assert!(valid > 30, "{result}");
        let foreign = objects.keys().filter(|name| {
            let kind = name.split(' ').next().unwrap_or_default();
            FOREIGN.split(',').any(|foreign| foreign == kind)
        });
        assert_eq!(result["skipped"], foreign.count(), "{result}");
    }
    // It would find one.
    let wrong = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "x", "label": {}},
    });
    let wrong = BTreeMap::from([("Namespace /x".to_owned(), wrong)]);
    let result = conform(&renderer, folder.path(), &wrong);
    assert_eq!(result["invalid"], 1, "{result}");
}

/// Its summary.
fn conform(renderer: &Renderer, schemas: &Path, objects: &Objects) -> Value {
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a file");
    let documents: Vec<_> = objects.values().map(Value::to_string).collect();
    fs::write(file.path(), documents.join("\n---\n")).expect("it can be written");
    let mut kubeconform = renderer.program("kubeconform");
    kubeconform
        .args(["-strict", "-summary", "-output=json", "-skip", FOREIGN])
        .args([
            "-schema-location",
            &format!("{}/{TEMPLATE}", schemas.display()),
        ])
        .arg(file.path());
    let output = kubeconform.output().expect("it starts");
    let said: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    let mut summary = said["summary"].clone();
    summary["resources"] = said["resources"].clone();
    summary
}
