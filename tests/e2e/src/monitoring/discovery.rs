//! Plays the part of Prometheus's discovery in Kubernetes, with which Debian does not build it: writes down, again
//! and again, what there is to scrape in Curfew's namespace, under the labels that the real one gives. What of it is
//! scraped, and as what, is for the shipped monitors to say.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use curfew_monitoring::scrape::sanitized;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::{CURFEW, TestCluster, disrupt::node_of};

const PAUSE: Duration = Duration::from_secs(1);
/// What all these labels begin with.
const META: &str = "__meta_kubernetes_";
const OF_SERVICE: &str = "kubernetes.io/service-name";

type Labels = BTreeMap<String, String>;

/// Keeps the files in this folder up to date for as long as the handle is kept.
pub(super) async fn start(cluster: &TestCluster, folder: &Path) -> Result<AbortOnDropHandle<()>> {
    let (client, folder) = (cluster.client.clone(), folder.to_owned());
    look(&client, &folder).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(PAUSE).await;
            // An API server that does not answer now is asked again; what was known holds.
            drop(look(&client, &folder).await);
        }
    })))
}

async fn look(client: &Client, folder: &Path) -> Result<()> {
    let all = ListParams::default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), CURFEW);
    let services: Api<Service> = Api::namespaced(client.clone(), CURFEW);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), CURFEW);
    let pods = pods.list(&all).await?.items;
    let services = services.list(&all).await?.items;
    let slices = slices.list(&all).await?.items;
    let of_slices = slices
        .iter()
        .flat_map(|slice| endpoints(slice, &services, &pods));
    write(folder.join("endpointslice.json"), &of_slices.collect())?;
    write(
        folder.join("pod.json"),
        &pods.iter().flat_map(ports).collect(),
    )
}

/// Prometheus may look at any moment, so the file is there as a whole or not at all.
fn write(path: PathBuf, targets: &Vec<Value>) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(targets)?)?;
    Ok(fs::rename(new, path)?)
}

fn target(address: &str, port: i32, labels: Labels) -> Value {
    let host = match address.contains(':') {
        // As Prometheus writes an IPv6 address.
        true => format!("[{address}]"),
        false => address.to_owned(),
    };
    let labels: Labels = labels
        .into_iter()
        .map(|(name, value)| (format!("{META}{name}"), value))
        .collect();
    json!({"targets": [format!("{host}:{port}")], "labels": labels})
}

/// The role `endpointslice`: each port of each address, ready or not.
fn endpoints(slice: &EndpointSlice, services: &[Service], pods: &[Pod]) -> Vec<Value> {
    let name = slice.labels().get(OF_SERVICE).cloned().unwrap_or_default();
    let mut common = common();
    common.insert("service_name".to_owned(), name.clone());
    if let Some(service) = services.iter().find(|service| service.name_any() == name) {
        common.extend(labels("service", service.labels()));
    }
    let by_name: HashMap<_, _> = pods.iter().map(|pod| (pod.name_any(), pod)).collect();
    let mut targets = Vec::new();
    for endpoint in &slice.endpoints {
        let pod = endpoint
            .target_ref
            .as_ref()
            .and_then(|pod| pod.name.as_ref());
        let pod = pod.and_then(|name| by_name.get(name));
        for port in slice.ports.iter().flatten() {
            let mut own = common.clone();
            own.extend(pod.map(|pod| of_pod(pod)).unwrap_or_default());
            own.insert(
                "endpointslice_port_name".to_owned(),
                port.name.clone().unwrap_or_default(),
            );
            let number = port.port.unwrap_or_default();
            let addresses = endpoint.addresses.iter();
            targets.extend(addresses.map(|address| target(address, number, own.clone())));
        }
    }
    targets
}

/// The role `pod`: each port of each container.
fn ports(pod: &Pod) -> Vec<Value> {
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    let (Some(address), Some(spec)) = (address, &pod.spec) else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for container in &spec.containers {
        for port in container.ports.iter().flatten() {
            let mut own = common();
            own.extend(of_pod(pod));
            own.insert("pod_container_name".to_owned(), container.name.clone());
            own.insert(
                "pod_container_port_name".to_owned(),
                port.name.clone().unwrap_or_default(),
            );
            targets.push(target(address, port.container_port, own));
        }
    }
    targets
}

fn common() -> Labels {
    Labels::from([("namespace".to_owned(), CURFEW.to_owned())])
}

fn of_pod(pod: &Pod) -> Labels {
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let mut found = labels("pod", pod.labels());
    found.insert("pod_name".to_owned(), pod.name_any());
    found.insert(
        "pod_node_name".to_owned(),
        node_of(pod).unwrap_or_default().to_owned(),
    );
    found.insert("pod_phase".to_owned(), phase.unwrap_or_default());
    found
}

fn labels(of: &str, all: &BTreeMap<String, String>) -> Labels {
    let named = |(key, value): (&String, &String)| {
        (format!("{of}_label_{}", sanitized(key)), value.clone())
    };
    all.iter().map(named).collect()
}
