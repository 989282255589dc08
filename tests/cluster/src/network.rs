//! The cluster's network: one bridge, two namespaces on it, and a route to each node's pods.
//!
//! The nodes reach each other over the bridge, so the machine forwards nothing and its settings stay as they are.
//! There is no kube-proxy: the API server dials webhooks' endpoints itself, and in each node one rule turns the address of
//! `kubernetes.default` into the API server's. Nodes have no default route: pods cannot leave.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ipnet::IpNet;

use crate::{
    ip_family::IpFamily,
    layout::{self, BRIDGE, NODES, Node},
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
pub fn check_free(family: IpFamily) -> Result<()> {
    let (flag, network) = (family.ip_flag(), family.network());
    let routes = run::ip(&format!("-o {flag} route show table all"))?;
    let addresses = run::ip(&format!("-o {flag} addr show"))?;
    let mine = |line: &&str| !line.contains(BRIDGE);
    let routed = routes.lines().filter(mine).filter_map(route_destination);
    let assigned = addresses
        .lines()
        .filter(mine)
        .filter_map(|line| line.split_whitespace().nth(3))
        .map(str::to_owned);
    for taken in routed.chain(assigned) {
        if parse_range(&taken).is_some_and(|range| overlap(range, network)) {
            bail!(
                "the cluster needs the addresses {network}, and this machine already uses {taken}"
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
        "anycast",
        "multicast",
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

/// A range, or a single address.
fn parse_range(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).ok()
}

/// Whether one of the ranges holds the other. One of everything is a default route, which leaves room for all others.
fn overlap(one: IpNet, two: IpNet) -> bool {
    let everything = one.prefix_len().min(two.prefix_len()) == 0;
    !everything && (one.contains(&two) || two.contains(&one))
}

/// Refuses a port that something else listens on.
pub fn check_port(address: IpAddr, port: u16, part: &str) -> Result<()> {
    match TcpListener::bind(SocketAddr::new(address, port)) {
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
pub fn ensure(family: IpFamily) -> Result<()> {
    if !link_exists(BRIDGE) {
        run::ip(&format!("link add {BRIDGE} type bridge"))?;
    }
    let host = on_bridge(family, family.host());
    run::ip(&format!("addr replace {host} dev {BRIDGE}"))?;
    run::ip(&format!("link set {BRIDGE} up"))?;
    open_firewall(family)?;
    for node in NODES {
        ensure_node(node, family)
            .with_context(|| format!("the network of {} cannot be made", node.name()))?;
    }
    Ok(())
}

/// An address with the length of its prefix, as `ip` gives it to an interface.
fn on_bridge(family: IpFamily, address: IpAddr) -> String {
    let prefix = family.bridge_range().prefix_len();
    format!("{address}/{prefix} {}", family.at_once())
}

fn ensure_node(node: Node, family: IpFamily) -> Result<()> {
    let (netns, veth, address) = (node.netns(), node.veth(), node.address(family));
    // Made last, so its presence means that the rest is there.
    let done = layout::machine("network").join(node.name());
    if done.exists() {
        return Ok(());
    }
    remove_node(node)?;
    run::ip(&format!("netns add {netns}"))?;
    // Some hold for interfaces that are made later.
    for (setting, value) in family.node_settings() {
        let write = format!("echo {value} >/proc/sys/net/{setting}");
        inside(node, &["sh", "-c", &write])?;
    }
    run::ip(&format!(
        "link add {veth} type veth peer name eth0 netns {netns}"
    ))?;
    run::ip(&format!("link set {veth} master {BRIDGE} up"))?;
    run::ip(&format!("-n {netns} link set lo up"))?;
    let own = on_bridge(family, address);
    run::ip(&format!("-n {netns} addr add {own} dev eth0"))?;
    run::ip(&format!("-n {netns} link set eth0 up"))?;
    run::ip(&format!(
        "-n {netns} route add {} via {}",
        family.service_range(),
        family.host()
    ))?;
    for other in NODES.into_iter().filter(|other| *other != node) {
        run::ip(&format!(
            "-n {netns} route add {} via {}",
            other.pod_range(family),
            other.address(family)
        ))?;
    }
    let (to, port) = (layout::api_server(family).to_string(), "443");
    for chain in ["PREROUTING", "OUTPUT"] {
        let service = family.kubernetes_service().to_string();
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
            &[family.iptables(), "-w", "-t", "nat", "-A", chain],
            &matches[..],
            &["-j", "DNAT", "--to", &to],
        ];
        inside(node, &rule.concat())?;
    }
    run::ip(&format!(
        "route replace {} via {address} dev {BRIDGE}",
        node.pod_range(family)
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
fn open_firewall(family: IpFamily) -> Result<()> {
    let rules = rules(family);
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
        run::check(Command::new(family.iptables()).args(rule))?;
    }
    Ok(())
}

fn close_firewall(family: IpFamily) -> Result<()> {
    for rule in our_rules(&rules(family)) {
        run::check(Command::new(family.iptables()).arg("-w").args(rule))?;
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
fn rules(family: IpFamily) -> Vec<String> {
    let said = run::output(&mut Command::new(family.iptables_save())).unwrap_or_default();
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
    for family in IpFamily::value_variants() {
        close_firewall(*family)?;
    }
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
pub fn wait_for_port(address: IpAddr, port: u16, part: &str) -> Result<()> {
    let socket = SocketAddr::new(address, port);
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
        for (network, taken, free) in [
            (
                "10.203.0.0/16",
                ["10.203.4.0/24", "10.0.0.0/8", "10.203.0.9"],
                ["10.204.0.0/16", "0.0.0.0/0", "fd00:203::/48"],
            ),
            (
                "fd00:203::/48",
                ["fd00:203:0:1::/112", "fd00::/8", "fd00:203::9"],
                ["fd00:204::/48", "::/0", "10.203.0.0/16"],
            ),
        ] {
            let overlaps =
                |text: &str| overlap(parse_range(text).unwrap(), parse_range(network).unwrap());
            assert_eq!(taken.map(overlaps), [true; 3], "{network}");
            assert_eq!(free.map(overlaps), [false; 3], "{network}");
        }
        assert_eq!(parse_range("unreachable"), None);
    }

    #[test]
    fn an_ipv6_address_is_usable_at_once() {
        let host = |family: IpFamily| on_bridge(family, family.host());
        assert_eq!(host(IpFamily::IPv4).trim_end(), "10.203.0.1/24");
        assert_eq!(host(IpFamily::IPv6), "fd00:203::1/64 nodad");
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
        assert_eq!(
            route_destination("anycast fd00:1:: dev x table local proto kernel").as_deref(),
            Some("fd00:1::")
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
        let loopback = listener.local_addr()?.ip();
        let said = check_port(loopback, port, "etcd").map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.contains("which etcd needs, is taken")));
        Ok(())
    }
}
