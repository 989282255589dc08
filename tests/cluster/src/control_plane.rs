//! etcd, API server, controller manager and scheduler.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use serde_json::json;

use crate::{
    cgroup,
    cluster::kubectl,
    ip_family::IpFamily,
    layout::{self, API_PORT, CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, SCHEDULER_PORT},
    pki,
    process::{self, Process},
    run, state,
};

/// The parts, in the order of their start.
pub const PARTS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// Where the API server writes what it was asked, by whom, at the Metadata level.
pub fn audit_log() -> std::path::PathBuf {
    layout::machine("logs/audit.log")
}

/// Starts what does not run yet and waits until the API server serves.
pub fn ensure(family: IpFamily) -> Result<()> {
    write_configuration()?;
    process("etcd", etcd()).ensure()?;
    process("kube-apiserver", apiserver(family)).ensure()?;
    // The other two give up when the API server does not know their rights yet, and it grants them as it gets ready.
    wait_until_ready()?;
    process("kube-controller-manager", controller_manager()).ensure()?;
    process("kube-scheduler", scheduler()).ensure()
}

/// Waits until the API server answers that all its parts are ready.
pub fn wait_until_ready() -> Result<()> {
    process::wait(
        "the API server's readiness",
        Duration::from_secs(120),
        &["etcd", "kube-apiserver"],
        || {
            run::succeeds(kubectl().args(["get", "--raw=/readyz", "--request-timeout=5s"]))
                .then_some(())
        },
    )
}

fn process(name: &str, flags: Vec<String>) -> Process {
    let program = layout::machine("bin")
        .join(name)
        .to_string_lossy()
        .into_owned();
    Process {
        name: name.to_owned(),
        command: std::iter::once(program).chain(flags).collect(),
        cgroup: cgroup::CONTROL.to_owned(),
        namespaces_of: None,
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn file(name: &str, path: impl AsRef<Path>) -> String {
    flag(name, path.as_ref().display())
}

fn write_configuration() -> Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // One line per request, written when it is answered; a long-running one also when it begins.
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata" }],
    });
    let scheduler = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": { "leaderElect": false },
        "clientConnection": { "kubeconfig": pki::kubeconfig("kube-scheduler"), "qps": 1000, "burst": 2000 },
    });
    for (name, content) in [
        ("audit-policy.json", policy),
        ("kube-scheduler.json", scheduler),
    ] {
        state::replace(
            &layout::machine("config").join(name),
            content.to_string().as_bytes(),
        )?;
    }
    fs::create_dir_all(layout::machine("logs"))?;
    Ok(())
}

fn etcd() -> Vec<String> {
    let url = format!("https://127.0.0.1:{ETCD_PORT}");
    let peer = format!("https://127.0.0.1:{ETCD_PEER_PORT}");
    vec![
        flag("name", "curfew"),
        file("data-dir", layout::machine("etcd")),
        flag("listen-client-urls", &url),
        flag("advertise-client-urls", url),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("curfew={peer}")),
        // Nothing in this cluster outlives the machine, and syncing is most of what etcd would wait for.
        "--unsafe-no-fsync".to_owned(),
        flag("auto-compaction-retention", "10m"),
        flag("log-level", "warn"),
        "--client-cert-auth".to_owned(),
        file("cert-file", pki::path("etcd.crt")),
        file("key-file", pki::path("etcd.key")),
        file("trusted-ca-file", pki::path("etcd-ca.crt")),
        "--peer-client-cert-auth".to_owned(),
        file("peer-cert-file", pki::path("etcd.crt")),
        file("peer-key-file", pki::path("etcd.key")),
        file("peer-trusted-ca-file", pki::path("etcd-ca.crt")),
    ]
}

fn apiserver(family: IpFamily) -> Vec<String> {
    vec![
        flag("bind-address", family.host()),
        flag("advertise-address", family.host()),
        flag("secure-port", API_PORT),
        flag("service-cluster-ip-range", family.service_range()),
        flag("etcd-servers", format!("https://127.0.0.1:{ETCD_PORT}")),
        file("etcd-cafile", pki::path("etcd-ca.crt")),
        file("etcd-certfile", pki::path("apiserver-etcd-client.crt")),
        file("etcd-keyfile", pki::path("apiserver-etcd-client.key")),
        file("client-ca-file", pki::path("ca.crt")),
        file("tls-cert-file", pki::path("apiserver.crt")),
        file("tls-private-key-file", pki::path("apiserver.key")),
        file("kubelet-certificate-authority", pki::path("ca.crt")),
        file(
            "kubelet-client-certificate",
            pki::path("apiserver-kubelet-client.crt"),
        ),
        file(
            "kubelet-client-key",
            pki::path("apiserver-kubelet-client.key"),
        ),
        // There is no DNS for the names of nodes.
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        file(
            "service-account-key-file",
            pki::path("service-accounts.pub"),
        ),
        file(
            "service-account-signing-key-file",
            pki::path("service-accounts.key"),
        ),
        // Without kube-proxy nothing answers on a Service's address: webhooks are dialled at their endpoints.
        "--enable-aggregator-routing".to_owned(),
        file(
            "requestheader-client-ca-file",
            pki::path("front-proxy-ca.crt"),
        ),
        flag("requestheader-allowed-names", "front-proxy-client"),
        flag("requestheader-username-headers", "X-Remote-User"),
        flag("requestheader-group-headers", "X-Remote-Group"),
        flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        file(
            "proxy-client-cert-file",
            pki::path("front-proxy-client.crt"),
        ),
        file("proxy-client-key-file", pki::path("front-proxy-client.key")),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        "--allow-privileged".to_owned(),
        file(
            "audit-policy-file",
            layout::machine("config/audit-policy.json"),
        ),
        file("audit-log-path", audit_log()),
        // Megabytes; one old file is kept, so that a long session does not fill the disk.
        flag("audit-log-maxsize", 500),
        flag("audit-log-maxbackup", 1),
    ]
}

fn controller_manager() -> Vec<String> {
    let kubeconfig = pki::kubeconfig("kube-controller-manager");
    vec![
        file("kubeconfig", &kubeconfig),
        file("authentication-kubeconfig", &kubeconfig),
        file("authorization-kubeconfig", &kubeconfig),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", CONTROLLER_MANAGER_PORT),
        // There is one of it; waiting for a lease would only delay a restart.
        flag("leader-elect", false),
        "--use-service-account-credentials".to_owned(),
        file(
            "service-account-private-key-file",
            pki::path("service-accounts.key"),
        ),
        file("root-ca-file", pki::path("ca.crt")),
        file("cluster-signing-cert-file", pki::path("ca.crt")),
        file("cluster-signing-key-file", pki::path("ca.key")),
        flag("node-monitor-period", "1s"),
        // Looked for, and made, even where no such plugin is used.
        file("flex-volume-plugin-dir", layout::machine("volume-plugins")),
        flag("kube-api-qps", 1000),
        flag("kube-api-burst", 2000),
    ]
}

fn scheduler() -> Vec<String> {
    let kubeconfig = pki::kubeconfig("kube-scheduler");
    vec![
        file("config", layout::machine("config/kube-scheduler.json")),
        file("authentication-kubeconfig", &kubeconfig),
        file("authorization-kubeconfig", &kubeconfig),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", SCHEDULER_PORT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_has_addresses_of_the_family() {
        for (family, host, services) in [
            (IpFamily::IPv4, "10.203.0.1", "10.96.0.0/16"),
            (IpFamily::IPv6, "fd00:203::1", "fd00:96::/112"),
        ] {
            let flags = apiserver(family);
            for flag in [
                format!("--bind-address={host}"),
                format!("--advertise-address={host}"),
                format!("--service-cluster-ip-range={services}"),
            ] {
                assert!(flags.contains(&flag), "{flag}");
            }
        }
    }
}
