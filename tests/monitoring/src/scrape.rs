//! What Prometheus scrapes, told by the shipped ServiceMonitor and PodMonitor in the way in which the Prometheus
//! operator reads them. Only where the operator would let Prometheus itself look for targets in the cluster, files
//! name them, with the labels that it would find: Debian builds Prometheus without that.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where the monitors are.
pub const FILE: &str = "manifests/components/monitoring/monitors.yaml";

#[derive(Debug, Deserialize)]
struct Monitor {
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

/// What is not understood here must not be in a monitor: the test would prove something else.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    selector: LabelSelector,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSelector {
    match_labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    port: String,
    /// How often it is scraped, which the caller decides.
    #[serde(rename = "interval")]
    _interval: String,
    #[serde(default)]
    relabelings: Vec<Relabeling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    #[serde(default)]
    source_labels: Vec<String>,
    target_label: String,
    replacement: Option<String>,
}

/// What a kind of monitor looks for, and what Prometheus calls it.
struct Search {
    role: &'static str,
    /// Of what the labels are selected by.
    object: &'static str,
    port: &'static str,
    endpoints: Vec<Endpoint>,
}

/// The scrape configurations of the shipped monitors. What there is in the cluster stands in files of this folder,
/// one for each role of a target, as `pod.json`.
///
/// # Errors
/// When the monitors cannot be read, or ask for something that is not understood here.
pub fn configs(discovered: &Path) -> Result<Vec<Value>> {
    let monitors: Vec<Monitor> = serde_saphyr::from_multiple(&crate::read(FILE)?).context(FILE)?;
    let mut configs = Vec::new();
    for monitor in monitors {
        let search = match monitor.kind.as_str() {
            "ServiceMonitor" => Search {
                role: "endpointslice",
                object: "service",
                port: "__meta_kubernetes_endpointslice_port_name",
                endpoints: monitor.spec.endpoints,
            },
            "PodMonitor" => Search {
                role: "pod",
                object: "pod",
                port: "__meta_kubernetes_pod_container_port_name",
                endpoints: monitor.spec.pod_metrics_endpoints,
            },
            kind => bail!("a {kind} is no monitor"),
        };
        for (at, endpoint) in search.endpoints.iter().enumerate() {
            let Metadata { name, namespace } = &monitor.metadata;
            let labels = &monitor.spec.selector.match_labels;
            let relabel = relabeling(&search, labels.iter(), namespace, name, endpoint);
            configs.push(json!({
                "job_name": format!("{}/{namespace}/{name}/{at}", monitor.kind),
                "file_sd_configs": [{
                    "files": [discovered.join(format!("{}.json", search.role))],
                    "refresh_interval": "1s",
                }],
                "relabel_configs": relabel,
            }));
        }
    }
    Ok(configs)
}

fn relabeling<'a>(
    search: &Search,
    labels: impl Iterator<Item = (&'a String, &'a String)>,
    namespace: &str,
    name: &str,
    endpoint: &Endpoint,
) -> Vec<Value> {
    let keep = |label: String, value: &str| json!({"action": "keep", "source_labels": [label], "regex": value});
    let copy = |from: &str, to: &str| json!({"source_labels": [from], "target_label": to});
    let object = search.object;
    let mut all = vec![keep("__meta_kubernetes_namespace".to_owned(), namespace)];
    all.extend(labels.map(|(key, value)| {
        keep(
            format!("__meta_kubernetes_{object}_label_{}", sanitized(key)),
            value,
        )
    }));
    all.push(keep(search.port.to_owned(), &endpoint.port));
    all.push(json!({
        "action": "drop",
        "source_labels": ["__meta_kubernetes_pod_phase"],
        "regex": "Failed|Succeeded",
    }));
    all.push(copy("__meta_kubernetes_namespace", "namespace"));
    all.push(copy("__meta_kubernetes_pod_name", "pod"));
    all.push(copy("__meta_kubernetes_pod_container_name", "container"));
    match object {
        "service" => {
            all.push(copy("__meta_kubernetes_service_name", "service"));
            all.push(copy("__meta_kubernetes_service_name", "job"));
        }
        _ => all.push(json!({"target_label": "job", "replacement": format!("{namespace}/{name}")})),
    }
    all.push(json!({"target_label": "endpoint", "replacement": endpoint.port}));
    all.extend(endpoint.relabelings.iter().map(|own| {
        let mut one = json!({"target_label": own.target_label});
        if !own.source_labels.is_empty() {
            one["source_labels"] = json!(own.source_labels);
        }
        if let Some(replacement) = &own.replacement {
            one["replacement"] = json!(replacement);
        }
        one
    }));
    all
}

/// A key of a label as Prometheus writes it.
pub fn sanitized(key: &str) -> String {
    key.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_by_their_service_and_the_webhook_by_its_pods() {
        let configs = configs(Path::new("/k")).unwrap();
        let files: Vec<_> = configs
            .iter()
            .map(|config| &config["file_sd_configs"][0]["files"][0])
            .collect();
        assert_eq!(files, ["/k/endpointslice.json", "/k/pod.json"]);
        let relabel = configs[0]["relabel_configs"].as_array().unwrap();
        let component = json!({
            "action": "keep",
            "source_labels": ["__meta_kubernetes_service_label_app_kubernetes_io_component"],
            "regex": "agent",
        });
        assert!(relabel.contains(&component), "{relabel:#?}");
        // The monitor's own words come last, so that they hold.
        assert_eq!(relabel.last().unwrap()["target_label"], "node");
        let webhook = configs[1]["relabel_configs"].as_array().unwrap();
        assert_eq!(webhook.last().unwrap()["replacement"], "curfew-webhook");
    }
}
