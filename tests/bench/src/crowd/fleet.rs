//! The nodes, their pods, and how their agents become known.

use std::{net::SocketAddr, ops::Range, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_core::{
    PodId,
    identity::{TRUST, TRUST_KEY},
};
use curfew_e2e::{CURFEW, Namespace, TestCluster, idlers::Addresses};
use curfew_runtime::tls::Trust;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::member::Member;
use crate::{
    agent::{free_port, token},
    node::{self, PretendNode},
    say,
};

/// How many requests of ours are open at a time.
const AT_ONCE: usize = 16;
/// As kubelets do it.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASES: &str = "kube-node-lease";
/// Tests that run at the same time have blocks of their own.
const BLOCK: u8 = 3;
/// How many addresses of a block are used.
const ADDRESSES: usize = 60;
/// How many of a hundred agents are away at a time during a rollout: `maxUnavailable` of their DaemonSet.
const AWAY: usize = 10;

/// All nodes.
pub(super) struct Fleet {
    pub(super) cluster: TestCluster,
    pub(super) namespace: Namespace,
    /// Their names.
    nodes: Vec<String>,
    /// Where their agents listen; no other process of the machine has these.
    addresses: Vec<SocketAddr>,
    _taken: Addresses,
}

impl Fleet {
    /// Makes the nodes. Their names begin with that of the namespace.
    pub(super) async fn make(
        cluster: &TestCluster,
        namespace: Namespace,
        count: usize,
    ) -> Result<Self> {
        say(&format!("making {count} nodes"));
        let taken = Addresses::take(&cluster.machine, BLOCK)?;
        let all: Api<Node> = Api::all(cluster.client.clone());
        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), LEASES);
        let nodes: Vec<_> = (0..count)
            .map(|at| format!("{}-{at}", namespace.name))
            .collect();
        let mut addresses = Vec::with_capacity(count);
        let mut port = 0;
        for at in 0..count {
            let index = at % ADDRESSES;
            if index == 0 {
                port = free_port(taken.at(0))?;
            }
            addresses.push(SocketAddr::new(taken.at(u8::try_from(index)?), port));
        }
        stream::iter(nodes.iter().zip(&addresses))
            .map(async |(name, address)| {
                node::create(&all, name).await?;
                // Without one, the API server would not know where to go on with an exec.
                let status = json!({"status": {"addresses": [
                    {"type": "InternalIP", "address": address.ip()},
                ]}});
                let params = PatchParams::default();
                all.patch_status(name, &params, &Patch::Strategic(status))
                    .await?;
                // As that of a kubelet, so that it goes with the node.
                let uid = all.get_metadata(name).await?.uid();
                let lease: Lease = serde_json::from_value(json!({
                    "metadata": {"name": name, "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid},
                    ]},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()},
                }))?;
                leases.create(&PostParams::default(), &lease).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(Self {
            cluster: cluster.clone(),
            namespace,
            nodes,
            addresses,
            _taken: taken,
        })
    }

    /// Renews the nodes' leases again and again; returns when that is not taken.
    pub(super) async fn keep_alive(&self) -> anyhow::Error {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client.clone(), LEASES);
        // Spread over the time, as those of kubelets are.
        let pause = RENEWAL / u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let params = PatchParams::default();
        for name in self.nodes.iter().cycle() {
            tokio::time::sleep(pause).await;
            let renewal = Patch::Merge(json!({"spec": {"renewTime": now()}}));
            if let Err(error) = leases.patch(name, &params, &renewal).await {
                return anyhow::Error::new(error).context("cannot renew a lease");
            }
        }
        anyhow::anyhow!("there are no nodes")
    }

    /// Makes so many pods on each node. The first of all nodes come first.
    pub(super) async fn run_pods(&self, each: usize) -> Result<Vec<PodId>> {
        let count = self.nodes.len();
        say(&format!("making {} pods", count * each));
        let mut pods: Vec<(usize, PodId)> = stream::iter(0..count * each)
            .map(async |number| {
                let node = PretendNode {
                    name: self.nodes[number % count].clone(),
                    namespace: self.namespace.clone(),
                };
                let mut made = node.make_more_pods(number..number + 1).await?;
                let made = made.pop().context("no pod was made")?;
                anyhow::Ok((number, made))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        pods.sort_by_key(|(number, _)| *number);
        Ok(pods.into_iter().map(|(_, pod)| pod).collect())
    }

    /// The numbers of all nodes.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.nodes.len()
    }

    /// Has the agents of these nodes get certificates and listen, all at the same time. Returns how long each waited for
    /// its certificate.
    pub(super) async fn enlist(&self, which: Range<usize>) -> Result<(Vec<Member>, Vec<Duration>)> {
        let maps: Api<ConfigMap> = Api::namespaced(self.cluster.client.clone(), CURFEW);
        let mut data = maps.get(TRUST).await?.data.unwrap_or_default();
        let trust = data.remove(TRUST_KEY).context("no CA is published")?;
        let trust = Trust::from_pem(&trust)?;
        let acts = self.cluster.kubernetes().await?.agents_act_as_nodes();
        let (nodes, addresses) = (&self.nodes[which.clone()], &self.addresses[which]);
        // The kubelets would have their tokens, one after the other.
        let tokens: Vec<String> = stream::iter(nodes)
            .map(|node| token(&self.cluster, node))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let beginnings = nodes.iter().zip(addresses).zip(&tokens);
        let all = beginnings.map(|((node, address), token)| {
            Member::start(
                &self.cluster,
                &self.namespace.name,
                node,
                *address,
                token,
                &trust,
                acts,
            )
        });
        let all = try_join_all(all).await?;
        ensure!(!all.is_empty(), "there are no agents");
        Ok(all.into_iter().unzip())
    }

    /// Lets the webhook know of the agents.
    pub(super) async fn announce(&self) -> Result<()> {
        let slices = self.slices();
        for at in 0..self.nodes.len().div_ceil(ADDRESSES) {
            // The agents of one slice have one port.
            let port = self.addresses.get(at * ADDRESSES).map(SocketAddr::port);
            let slice: EndpointSlice = serde_json::from_value(json!({
                "metadata": {
                    "name": self.slice(at),
                    "labels": {
                        "kubernetes.io/service-name": "curfew-agent",
                        // The controller leaves those of others alone.
                        "endpointslice.kubernetes.io/managed-by": "curfew-bench",
                    },
                },
                "addressType": self.cluster.machine.ip_family(),
                "ports": [{"name": "notices", "port": port, "protocol": "TCP"}],
                "endpoints": self.endpoints(at, &(0..0)),
            }))?;
            slices.create(&PostParams::default(), &slice).await?;
        }
        Ok(())
    }

    /// Ends the agents and starts others in their places, as many at a time as a rollout of their DaemonSet. Returns how long
    /// each waited for its certificate, too.
    pub(super) async fn restart(&self, crew: Vec<Member>) -> Result<(Vec<Member>, Vec<Duration>)> {
        let at_once = (crew.len() * AWAY).div_ceil(100).max(1);
        let mut old = crew.into_iter();
        let (mut crew, mut waited) = (Vec::new(), Vec::new());
        for from in self.all().step_by(at_once) {
            let which = from..(from + at_once).min(self.nodes.len());
            self.show(&which, false).await?;
            let ending = old.by_ref().take(which.len()).map(Member::stop);
            try_join_all(ending).await?;
            let (new, took) = self.enlist(which.clone()).await?;
            self.show(&which, true).await?;
            crew.extend(new);
            waited.extend(took);
        }
        Ok((crew, waited))
    }

    /// Shows the webhook that these agents are ready, or are not; all others are.
    async fn show(&self, which: &Range<usize>, ready: bool) -> Result<()> {
        let slices = self.slices();
        let nobody = 0..0;
        let away = if ready { &nobody } else { which };
        let params = PatchParams::default();
        for at in which.start / ADDRESSES..which.end.div_ceil(ADDRESSES) {
            let endpoints = Patch::Merge(json!({"endpoints": self.endpoints(at, away)}));
            slices.patch(&self.slice(at), &params, &endpoints).await?;
        }
        Ok(())
    }

    fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.cluster.client.clone(), CURFEW)
    }

    /// The name of the slice of this number.
    fn slice(&self, at: usize) -> String {
        format!("{}-{at}", self.namespace.name)
    }

    /// The agents of a slice, of which some are not ready.
    fn endpoints(&self, slice: usize, away: &Range<usize>) -> Vec<Value> {
        let all = self.nodes.iter().zip(&self.addresses).enumerate();
        let of_slice = all.skip(slice * ADDRESSES).take(ADDRESSES);
        let endpoint = |(at, (node, address)): (usize, (&String, &SocketAddr))| {
            let ready = !away.contains(&at);
            json!({
                "addresses": [address.ip()],
                "nodeName": node,
                "conditions": {"ready": ready, "serving": ready, "terminating": !ready},
            })
        };
        of_slice.map(endpoint).collect()
    }
}

fn now() -> String {
    Timestamp::now().strftime("%FT%T%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_takes_the_time() {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"renewTime": now()},
        }))
        .unwrap();
        assert!(lease.spec.unwrap().renew_time.is_some());
    }
}
