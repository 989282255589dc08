//! The cluster's network: one bridge, two namespaces on it, and a route to each node's pods.
//!
//! The nodes reach each other over the bridge, so the machine forwards nothing and its `ip_forward` stays as it is.
//! There is no kube-proxy: the API server dials webhooks' endpoints itself, and in each node one rule turns the address of
//! `kubernetes.default` into the API server's. Nodes have no default route: pods cannot leave.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    layout::{self, API_PORT, BRIDGE, HOST_ADDRESS, NODES, Node, SERVICE_ADDRESS, SERVICE_RANGE},
    process, run, state,
};

const NETNS_DIR: &str = "/run/netns";
/// Marks our rules in the machine's own tables.
const COMMENT: &str = "curfew-cluster";

/// How many mounts stand on the directory of `ip netns`, which mounts it on itself when it is first used.
pub fn netns_mounts() -> Result<usize> {
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("the mounts cannot be read")?;
    Ok(state::mounts_at(&mountinfo, NETNS_DIR))
}

/// Refuses a network that the machine already uses otherwise.
pub fn check_free() -> Result<()> {
    let routes = run::ip("-o -4 route show table all")?;
    let addresses = run::ip("-o -4 addr show")?;
    let mine = |line: &&str| !line.contains(BRIDGE);
    let routed = routes.lines().filter(mine).filter_map(route_destination);
    let assigned = addresses
        .lines()
        .filter(mine)
        .filter_map(|line| line.split_whitespace().nth(3))
        .map(str::to_owned);
    for taken in routed.chain(assigned) {
        if parse_range(&taken).is_some_and(|range| overlap(range, layout::NETWORK)) {
            let (network, prefix) = layout::NETWORK;
            bail!(
                "the cluster needs the addresses {network}/{prefix}, and this machine already uses {taken}"
            );
        }
    }
    Ok(())
}

fn route_destination(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    // The kinds that come before the destination in what `ip` prints.
    let kinds = [
        "unicast",
        "local",
        "broadcast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
    ];
    let destination = if kinds.contains(&first) {
        words.next()?
    } else {
        first
    };
    (destination != "default").then(|| destination.to_owned())
}

fn parse_range(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    Some((
        address.parse().ok()?,
        prefix.parse().ok().filter(|prefix| *prefix <= 32)?,
    ))
}

fn overlap(one: (Ipv4Addr, u8), two: (Ipv4Addr, u8)) -> bool {
    let shorter = one.1.min(two.1);
    let mask = u32::MAX.checked_shl(u32::from(32 - shorter)).unwrap_or(0);
    shorter > 0 && u32::from(one.0) & mask == u32::from(two.0) & mask
}

/// Refuses a port that something else listens on.
pub fn check_port(address: Ipv4Addr, port: u16, part: &str) -> Result<()> {
    match TcpListener::bind(SocketAddrV4::new(address, port)) {
        Ok(_) => Ok(()),
        Err(_) => bail!(
            "port {port} on {address}, which {part} needs, is taken{}",
            listener(port)
        ),
    }
}

fn listener(port: u16) -> String {
    let mut ss = Command::new("ss");
    ss.args(["-Hltnp", &format!("sport = :{port}")]);
    let said = run::output(&mut ss).unwrap_or_default();
    let user = said
        .split_once("users:((\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    user.map(|(name, _)| format!(" by {name}"))
        .unwrap_or_default()
}

fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Makes the network; what is there stays.
pub fn ensure() -> Result<()> {
    if !link_exists(BRIDGE) {
        run::ip(&format!("link add {BRIDGE} type bridge"))?;
    }
    run::ip(&format!("addr replace {HOST_ADDRESS}/24 dev {BRIDGE}"))?;
    run::ip(&format!("link set {BRIDGE} up"))?;
    open_firewall()?;
    for node in NODES {
        ensure_node(node)
            .with_context(|| format!("the network of {} cannot be made", node.name()))?;
    }
    Ok(())
}

fn ensure_node(node: Node) -> Result<()> {
    let (netns, veth, address) = (node.netns(), node.veth(), node.address());
    // Made last, so its presence means that the rest is there.
    let done = layout::machine("network").join(node.name());
    if done.exists() {
        return Ok(());
    }
    remove_node(node)?;
    run::ip(&format!("netns add {netns}"))?;
    run::ip(&format!(
        "link add {veth} type veth peer name eth0 netns {netns}"
    ))?;
    run::ip(&format!("link set {veth} master {BRIDGE} up"))?;
    run::ip(&format!("-n {netns} link set lo up"))?;
    run::ip(&format!("-n {netns} addr add {address}/24 dev eth0"))?;
    run::ip(&format!("-n {netns} link set eth0 up"))?;
    run::ip(&format!(
        "-n {netns} route add {SERVICE_RANGE} via {HOST_ADDRESS}"
    ))?;
    for other in NODES.into_iter().filter(|other| *other != node) {
        run::ip(&format!(
            "-n {netns} route add {} via {}",
            other.pod_range(),
            other.address()
        ))?;
    }
    inside(node, &["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
    let (to, port) = (format!("{HOST_ADDRESS}:{API_PORT}"), "443");
    for chain in ["PREROUTING", "OUTPUT"] {
        let service = SERVICE_ADDRESS.to_string();
        let matches = [
            "-d",
            &service,
            "-p",
            "tcp",
            "--dport",
            port,
            "-m",
            "comment",
            "--comment",
            COMMENT,
        ];
        let rule = [
            &["iptables", "-w", "-t", "nat", "-A", chain],
            &matches[..],
            &["-j", "DNAT", "--to", &to],
        ];
        inside(node, &rule.concat())?;
    }
    run::ip(&format!(
        "route replace {} via {address} dev {BRIDGE}",
        node.pod_range()
    ))?;
    state::replace(&done, b"")
}

/// Runs a command in the node's network, without the fresh /sys that `ip netns exec` would mount.
fn inside(node: Node, command: &[&str]) -> Result<()> {
    let mut nsenter = Command::new("nsenter");
    nsenter
        .arg(format!("--net={NETNS_DIR}/{}", node.netns()))
        .arg("--")
        .args(command);
    run::check(&mut nsenter)
}

/// Lets the bridge through a firewall that the machine has. Where there is none, no table is made for it.
fn open_firewall() -> Result<()> {
    let rules = rules();
    if !has_firewall(&rules) || rules.iter().any(|line| line.contains(COMMENT)) {
        return Ok(());
    }
    for chain in ["INPUT", "FORWARD"] {
        let rule = [
            "-w",
            "-I",
            chain,
            "-i",
            BRIDGE,
            "-m",
            "comment",
            "--comment",
            COMMENT,
            "-j",
            "ACCEPT",
        ];
        run::check(Command::new("iptables").args(rule))?;
    }
    Ok(())
}

fn close_firewall() -> Result<()> {
    for rule in our_rules(&rules()) {
        run::check(Command::new("iptables").arg("-w").args(rule))?;
    }
    Ok(())
}

fn our_rules(rules: &[String]) -> Vec<Vec<String>> {
    let ours = rules
        .iter()
        .filter(|line| line.starts_with("-A ") && line.contains(COMMENT));
    ours.map(|line| {
        line.replacen("-A", "-D", 1)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    })
    .collect()
}

/// Whether the filter table refuses anything, which takes a rule or a policy other than ACCEPT.
fn has_firewall(rules: &[String]) -> bool {
    let filter = rules
        .iter()
        .skip_while(|line| *line != "*filter")
        .take_while(|line| *line != "COMMIT");
    filter
        .skip(1)
        .any(|line| line.starts_with("-A ") || line.starts_with(':') && !line.contains(" ACCEPT "))
}

/// The rules of all tables. Asking for one table by name would make it.
fn rules() -> Vec<String> {
    let said = run::output(&mut Command::new("iptables-save")).unwrap_or_default();
    said.lines().map(str::to_owned).collect()
}

fn remove_node(node: Node) -> Result<()> {
    if link_exists(&node.veth()) {
        run::ip(&format!("link del {}", node.veth()))?;
    }
    if Path::new(NETNS_DIR).join(node.netns()).exists() {
        run::ip(&format!("netns del {}", node.netns()))?;
    }
    Ok(())
}

/// Removes the network. Its routes go with the bridge, its links inside with the namespaces.
pub fn remove(netns_mounts_before: usize) -> Result<()> {
    for node in NODES {
        remove_node(node)?;
    }
    if link_exists(BRIDGE) {
        run::ip(&format!("link del {BRIDGE}"))?;
    }
    close_firewall()?;
    let empty = || fs::read_dir(NETNS_DIR).is_ok_and(|mut dir| dir.next().is_none());
    while netns_mounts()? > netns_mounts_before && empty() {
        run::check(Command::new("umount").arg(NETNS_DIR))?;
    }
    if netns_mounts_before == 0 && empty() {
        drop(fs::remove_dir(NETNS_DIR));
    }
    Ok(())
}

/// Waits until something accepts connections.
pub fn wait_for_port(address: Ipv4Addr, port: u16, part: &str) -> Result<()> {
    let socket = SocketAddrV4::new(address, port).into();
    process::wait(
        &format!("{part} to listen on port {port}"),
        Duration::from_secs(60),
        &[part],
        || std::net::TcpStream::connect_timeout(&socket, Duration::from_millis(500)).ok(),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_either_way() {
        let range = |text: &str| parse_range(text).unwrap_or((Ipv4Addr::UNSPECIFIED, 0));
        assert!(overlap(range("10.203.4.0/24"), range("10.203.0.0/16")));
        assert!(overlap(range("10.0.0.0/8"), range("10.203.0.0/16")));
        assert!(overlap(range("10.203.0.9"), range("10.203.0.0/16")));
        assert!(!overlap(range("10.204.0.0/16"), range("10.203.0.0/16")));
        assert!(!overlap(range("0.0.0.0/0"), range("10.203.0.0/16")));
    }

    #[test]
    fn destinations_are_found() {
        assert_eq!(route_destination("default via 192.0.2.1 dev eth0"), None);
        assert_eq!(
            route_destination("10.1.0.0/16 dev x").as_deref(),
            Some("10.1.0.0/16")
        );
        assert_eq!(
            route_destination("broadcast 10.1.0.255 dev x table local").as_deref(),
            Some("10.1.0.255")
        );
    }

    #[test]
    fn an_empty_table_is_no_firewall() {
        let with = |line: &str| {
            [
                "*nat",
                "-A POSTROUTING",
                "COMMIT",
                "*filter",
                line,
                "COMMIT",
            ]
            .map(str::to_owned)
        };
        assert!(!has_firewall(&with(":INPUT ACCEPT [0:0]")));
        assert!(has_firewall(&with(":INPUT DROP [0:0]")));
        assert!(has_firewall(&with("-A INPUT -j REJECT")));
        assert!(!has_firewall(&[]));
    }

    #[test]
    fn only_our_rules_are_deleted() {
        let rules = [
            "*filter",
            ":INPUT DROP [0:0]",
            "-A INPUT -i curfew0 -m comment --comment curfew-cluster -j ACCEPT",
            "-A INPUT -i lo -j ACCEPT",
        ];
        let rules: Vec<_> = rules.map(str::to_owned).into();
        let deleted = our_rules(&rules);
        assert_eq!(deleted.len(), 1);
        assert_eq!(
            deleted[0].join(" "),
            "-D INPUT -i curfew0 -m comment --comment curfew-cluster -j ACCEPT"
        );
    }

    #[test]
    fn a_taken_port_is_one_sentence() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let said = check_port(Ipv4Addr::LOCALHOST, port, "etcd").map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.contains("which etcd needs, is taken")));
        Ok(())
    }
}
