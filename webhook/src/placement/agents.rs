//! Which agent is on which node.
//!
//! Owns the watch of the EndpointSlices of the headless Service `curfew-agent`, and the map that is built from them.
//! One task writes the map; all others only read it. [`crate::recording::forward`] sends requests to the agents.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, ResourceExt, api::ListParams, runtime::watcher};
use tokio::sync::watch::Sender;

use curfew_runtime::watch::Watch;

/// The Service of the agents.
pub const SERVICE: &str = "curfew-agent";
/// The port on which they take notices.
const PORT: &str = "notices";

/// The address of the agent of each node that has one.
pub type Agents = Arc<HashMap<String, SocketAddr>>;

/// Keeps the map up to date until it is dropped.
///
/// # Errors
/// When the watch ends, which it does not by itself.
pub async fn run(
    watch: Watch,
    client: Client,
    namespace: String,
    agents: Sender<Agents>,
) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
    follow(watch.events(api, of_service), &agents).await;
    anyhow::bail!("the watch of the agents' endpoints ended")
}

async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<EndpointSlice>>>,
    agents: &Sender<Agents>,
) {
    let mut events = std::pin::pin!(events);
    let mut slices: BTreeMap<String, Vec<(String, SocketAddr)>> = BTreeMap::new();
    let mut listed = BTreeMap::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Ok(Some(watcher::Event::InitApply(slice))) => {
                listed.insert(slice.name_any(), addresses(&slice));
                continue;
            }
            // Only when the list is complete does it replace what was known: an agent is not
            // unknown because the watch had to start anew.
            Ok(Some(watcher::Event::InitDone)) => slices = std::mem::take(&mut listed),
            Ok(Some(watcher::Event::Apply(slice))) => {
                slices.insert(slice.name_any(), addresses(&slice));
            }
            Ok(Some(watcher::Event::Delete(slice))) => {
                slices.remove(&slice.name_any());
            }
            Ok(None) => return,
            // The watch tries again, and logs it.
            Err(_) => continue,
        }
        let map: HashMap<_, _> = slices.values().flatten().cloned().collect();
        agents.send_if_modified(|known| {
            let news = **known != map;
            if news {
                tracing::debug!(event = "agents", agents = map.len());
                *known = Arc::new(map);
            }
            news
        });
    }
}

/// The agents of a slice that take notices, by node.
fn addresses(slice: &EndpointSlice) -> Vec<(String, SocketAddr)> {
    let port = slice
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref() == Some(PORT))
        .and_then(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else {
        return Vec::new();
    };
    slice
        .endpoints
        .iter()
        // One that is not ready has not read its store yet, or is stopping: asking it costs the
        // user time and ends in the pod's metadata all the same.
        .filter(|endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|state| state.ready);
            ready.unwrap_or(true)
        })
        .filter_map(|endpoint| {
            let node = endpoint.node_name.clone()?;
            let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
            Some((node, SocketAddr::new(address, port)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use serde_json::json;

    fn slice(name: &str, endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "addressType": "IPv4",
            "ports": [{"name": "metrics", "port": 9090}, {"name": "notices", "port": 8443}],
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn endpoint(node: &str, address: &str, ready: bool) -> serde_json::Value {
        json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready}})
    }

    async fn after(events: Vec<watcher::Event<EndpointSlice>>) -> Vec<(String, String)> {
        let (send, agents) = tokio::sync::watch::channel(Agents::default());
        follow(stream::iter(events.into_iter().map(Ok)), &send).await;
        let mut map: Vec<_> = agents
            .borrow()
            .iter()
            .map(|(node, address)| (node.clone(), address.to_string()))
            .collect();
        map.sort();
        map
    }

    #[tokio::test]
    async fn the_map_follows_the_slices() {
        use watcher::Event::*;
        let first = slice(
            "a",
            json!([
                endpoint("node-1", "10.0.0.1", true),
                endpoint("node-2", "10.0.0.2", false)
            ]),
        );
        let second = slice("b", json!([endpoint("node-3", "fd00::3", true)]));
        let expected = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter()
                .map(|(node, address)| ((*node).to_owned(), (*address).to_owned()))
                .collect()
        };
        assert_eq!(
            after(vec![
                Init,
                InitApply(first.clone()),
                InitDone,
                Apply(second.clone())
            ])
            .await,
            expected(&[("node-1", "10.0.0.1:8443"), ("node-3", "[fd00::3]:8443")])
        );
        assert_eq!(
            after(vec![
                Apply(first.clone()),
                Apply(second.clone()),
                Delete(first.clone())
            ])
            .await,
            expected(&[("node-3", "[fd00::3]:8443")])
        );
        // A list begun anew takes nothing away before it is complete.
        assert_eq!(
            after(vec![Apply(first), Init, InitApply(second)]).await,
            expected(&[("node-1", "10.0.0.1:8443")])
        );
    }

    #[test]
    fn a_slice_without_the_port_tells_nothing() {
        let mut slice = slice("a", json!([endpoint("node-1", "10.0.0.1", true)]));
        slice.ports = None;
        assert!(addresses(&slice).is_empty());
    }
}
