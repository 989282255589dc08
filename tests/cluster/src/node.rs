//! A node: a network namespace, a mount namespace, a containerd and a kubelet.
//!
//! The mount namespace is held by a process of its own (`NODE`), which both others join. In it `/run`, `/var/lib` and
//! `/var/log` are directories of the node, because containerd, CNI and the kubelet keep state at fixed paths there, and
//! because two nodes that shared a hostPath below `/var/lib` would be no two nodes. Everything that is mounted for pods is
//! mounted in there, so it ends with the node's processes and the machine never sees it.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    cgroup,
    cluster::kubectl,
    images,
    ip_family::IpFamily,
    layout,
    layout::{MACHINE_DIR, MAX_PODS, Node},
    network, packages, pki,
    process::{self, Process},
    run, state,
};

/// Shadows the directories that are the node's own, then waits for ever. The mounts are shared within the namespace, or
/// no volume could propagate from it into a container.
const HOLD: &str = r#"
set -eu
node=$1 machine=$2
mount --bind "$machine" "$node/var-lib/${machine##*/}"
mount --rbind "$node/var-lib" /var/lib
mount --bind "$node/var-log" /var/log
mount --bind "$node/run" /run
mount --make-rshared /
: >"$node/held"
exec sleep infinity
"#;

/// Where a kubelet listens.
const KUBELET_PORT: u16 = 10250;

/// The names of a node's processes: its holder, its containerd and its kubelet.
pub fn parts(node: Node) -> [String; 3] {
    let name = node.name();
    [
        name.clone(),
        format!("{name}-containerd"),
        format!("{name}-kubelet"),
    ]
}

/// Starts containerd, if it does not run.
pub fn ensure_runtime(node: Node, family: IpFamily) -> Result<()> {
    let [holder, containerd, _] = parts(node);
    let dir = node.dir();
    for sub in [
        "run",
        "var-log",
        "static-pods",
        &format!("var-lib{}", &MACHINE_DIR["/var/lib".len()..]),
    ] {
        fs::create_dir_all(dir.join(sub))
            .with_context(|| format!("{} cannot be made", dir.join(sub).display()))?;
    }
    state::replace(
        &dir.join("containerd.toml"),
        containerd_config(node, packages::cni_dir()?).as_bytes(),
    )?;
    state::replace(
        &dir.join("cni/10-curfew.conflist"),
        cni_config(node, family).to_string().as_bytes(),
    )?;
    state::replace(
        &dir.join("kubelet.json"),
        kubelet_config(node, family).to_string().as_bytes(),
    )?;

    let node_dir = dir.to_string_lossy().into_owned();
    let netns = format!("--net=/run/netns/{}", node.netns());
    let held = [
        "nsenter",
        &netns,
        "--",
        "unshare",
        "--mount",
        "--propagation",
        "private",
    ];
    let hold = ["sh", "-c", HOLD, "sh", &node_dir, MACHINE_DIR];
    let command = [&held[..], &hold]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    Process {
        name: holder.clone(),
        command,
        cgroup: cgroup::system(node),
        namespaces_of: None,
    }
    .ensure()?;
    process::wait(
        "the node's mounts",
        Duration::from_secs(20),
        &[&holder],
        || dir.join("held").exists().then_some(()),
    )?;

    let command = vec![
        "containerd".to_owned(),
        format!("--config={node_dir}/containerd.toml"),
    ];
    let process = Process {
        name: containerd.clone(),
        command,
        cgroup: cgroup::system(node),
        namespaces_of: Some(holder),
    };
    process.ensure()?;
    process::wait(
        "containerd's readiness",
        Duration::from_secs(60),
        &[&containerd],
        || run::succeeds(images::ctr(node).arg("version")).then_some(()),
    )
}

/// Starts the kubelet, if it does not run.
pub fn ensure_kubelet(node: Node, family: IpFamily) -> Result<()> {
    let [holder, _, kubelet] = parts(node);
    let dir = node.dir();
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let command = vec![
        layout::machine("bin/kubelet")
            .to_string_lossy()
            .into_owned(),
        format!("--config={}", path("kubelet.json")),
        format!("--kubeconfig={}", pki::kubeconfig(&node.name()).display()),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.address(family)),
        format!("--root-dir={}", path("kubelet")),
        format!("--cert-dir={}", path("kubelet-pki")),
    ];
    Process {
        name: kubelet,
        command,
        cgroup: cgroup::system(node),
        namespaces_of: Some(holder),
    }
    .ensure()
}

/// Waits until the API server says that the node is ready and that pods may run on it.
pub fn wait_until_ready(node: Node, family: IpFamily) -> Result<()> {
    let name = node.name();
    let parts = parts(node);
    // After a restart the API server goes on believing what it heard before, so ask the kubelet itself too.
    network::wait_for_port(node.address(family), KUBELET_PORT, &parts[2])?;
    let paths = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.spec.taints}";
    process::wait(
        &format!("the readiness of {name}"),
        Duration::from_secs(120),
        &parts.each_ref().map(String::as_str),
        || {
            let said = run::output(kubectl().args(["get", "node", &name, "-o", paths])).ok()?;
            (said.trim() == "True").then_some(())
        },
    )
}

fn containerd_config(node: Node, cni: &Path) -> String {
    let (dir, cni) = (node.dir(), cni.display());
    let (dir, socket) = (dir.display(), node.containerd_socket());
    let (socket, pause) = (socket.display(), images::PAUSE);
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in many virtual machines, runc cannot lower a score and every
    // sandbox dies with «can't get final child's PID from pipe: EOF».
    format!(
        r#"version = 2
root = "{dir}/containerd"
state = "{dir}/containerd-state"

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
max_concurrent_downloads = 3

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{dir}/cni"
"#
    )
}

fn cni_config(node: Node, family: IpFamily) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": node.netns(),
        "plugins": [{
            // A veth pair for each pod and nothing between: no bridge with its limit of 1024 ports.
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": node.pod_range(family).to_string() }]],
                "routes": [{ "dst": family.everywhere().to_string() }],
            },
        }],
    })
}

fn kubelet_config(node: Node, family: IpFamily) -> serde_json::Value {
    let dir = node.dir();
    let serving = |extension: &str| pki::path(&format!("{}-serving.{extension}", node.name()));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address(family),
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki::path("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": serving("crt"),
        "tlsPrivateKeyFile": serving("key"),
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket().display()),
        "staticPodPath": node.static_pods(),
        "volumePluginDir": dir.join("volume-plugins"),
        "maxPods": MAX_PODS,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::pods(node),
        "failCgroupV1": false,
        // The machine is shared with whatever else runs on it: nothing is reserved and nothing is enforced.
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "oomScoreAdj": 0,
        // There is no DNS; an address keeps the kubelet from warning about that on every pod.
        "resolvConf": "",
        "clusterDNS": [family.dns()],
        "clusterDomain": "cluster.local",
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        // Images are imported, not pulled: what is collected does not come back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Three hundred pods should come and go as fast as the machine can, not as fast as a polite client may.
        "kubeAPIQPS": 1000,
        "kubeAPIBurst": 2000,
        "eventRecordQPS": 0,
        "registryPullQPS": 0,
        "serializeImagePulls": false,
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "30s",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::NODES;

    #[test]
    fn the_runtime_of_each_node_has_its_own_places() {
        let [one, two] = NODES.map(|node| containerd_config(node, Path::new("/usr/lib/cni")));
        assert!(one.contains("/var/lib/curfew-cluster/node-1/containerd.sock"));
        assert!(!two.contains("node-1"));
    }

    #[test]
    fn the_kubelet_has_room_for_its_pods() {
        let [one, two] = NODES.map(|node| kubelet_config(node, IpFamily::IPv4));
        assert_eq!(one["maxPods"], 300);
        assert_ne!(one["cgroupRoot"], two["cgroupRoot"]);
    }

    #[test]
    fn pods_and_kubelet_have_addresses_of_the_family() {
        for (family, pods, everywhere, kubelet, dns) in [
            (
                IpFamily::IPv4,
                "10.203.4.0/23",
                "0.0.0.0/0",
                "10.203.0.12",
                "10.96.0.10",
            ),
            (
                IpFamily::IPv6,
                "fd00:203:0:2::/112",
                "::/0",
                "fd00:203::c",
                "fd00:96::a",
            ),
        ] {
            let cni = cni_config(NODES[1], family);
            let addresses = json!({
                "type": "host-local",
                "ranges": [[{ "subnet": pods }]],
                "routes": [{ "dst": everywhere }],
            });
            assert_eq!(cni["plugins"][0]["ipam"], addresses);
            let config = kubelet_config(NODES[1], family);
            assert_eq!(config["address"], kubelet);
            assert_eq!(config["clusterDNS"], json!([dns]));
        }
    }
}
