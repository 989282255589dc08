//! What has to be true of the machine before anything is touched.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    ip_family::IpFamily,
    layout::{self, API_PORT, CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, SCHEDULER_PORT},
    network, run,
};

const GIB: u64 = 1 << 30;
/// Building Kubernetes leaves about four GiB in Go's caches.
const NEEDED_TO_BUILD: u64 = 6 * GIB;
const NEEDED_TO_RUN: u64 = 2 * GIB;

/// The operating system and the user, without which nothing else makes sense.
pub fn check_privileges() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("the test cluster needs Linux: its nodes are made of network namespaces and cgroups");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the test cluster needs root: it makes network namespaces, mounts and cgroups");
    }
    Ok(())
}

/// The compilers. The C compiler links Rust programs too.
pub fn check_tools() -> Result<()> {
    for (program, from) in [
        ("go", "install Go 1.26 or newer"),
        ("cargo", "install Rust"),
        ("cc", "install gcc"),
    ] {
        if !run::exists(program) {
            bail!("{program} is not in PATH of {}: {from}", user());
        }
    }
    Ok(())
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or("this user".to_owned(), |user| user.name)
}

/// Room for what will be written.
pub fn check_disk(cold: bool) -> Result<()> {
    let needed = if cold { NEEDED_TO_BUILD } else { NEEDED_TO_RUN };
    for dir in [PathBuf::from(layout::MACHINE_DIR), layout::cache_dir()?] {
        let existing = dir
            .ancestors()
            .find(|dir| dir.is_dir())
            .unwrap_or(Path::new("/"));
        let stat = nix::sys::statvfs::statvfs(existing)
            .with_context(|| format!("the free space of {} cannot be read", existing.display()))?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        if free < needed {
            let gib = |bytes: u64| format!("{}.{}", bytes / GIB, bytes % GIB * 10 / GIB);
            bail!(
                "{} has {} GiB free and the cluster needs {}",
                existing.display(),
                gib(free),
                gib(needed)
            );
        }
    }
    // A short write would make a component fail far from here, so see that one works.
    let probe = Path::new(layout::MACHINE_DIR).with_extension("probe");
    fs::write(&probe, b"x").with_context(|| format!("{} cannot be written", probe.display()))?;
    drop(fs::remove_file(&probe));
    Ok(())
}

/// Addresses and ports, before the first start.
pub fn check_network(family: IpFamily) -> Result<()> {
    if family == IpFamily::IPv6 {
        check_ipv6()?;
    }
    network::check_free(family)?;
    // Whoever listens on every address holds the bridge's too.
    network::check_port(family.unspecified(), API_PORT, "kube-apiserver")?;
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    for (port, part) in [
        (ETCD_PORT, "etcd"),
        (ETCD_PEER_PORT, "etcd"),
        (CONTROLLER_MANAGER_PORT, "kube-controller-manager"),
        (SCHEDULER_PORT, "kube-scheduler"),
    ] {
        network::check_port(loopback, port, part)?;
    }
    Ok(())
}

/// The bridge is an interface that is made later, and what the machine says to its address goes over the loopback
/// interface. Where IPv6 is turned off for either, nothing here turns it on: the settings are the machine's.
fn check_ipv6() -> Result<()> {
    for interface in ["default", "lo"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        let value = fs::read_to_string(&setting).unwrap_or_default();
        if value.trim() != "0" {
            bail!("the cluster needs IPv6, which this machine has turned off: {setting} is not 0");
        }
    }
    Ok(())
}
