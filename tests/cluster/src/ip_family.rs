//! IPv4 or IPv6: all addresses of the cluster, and what else the family decides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strum::Display;

/// The address of kube-dns in clusters that have one, counted from the first of the Services.
const DNS: u8 = 10;

/// The only family of addresses that nodes, pods and Services have, as Kubernetes writes it. Loopback addresses are of
/// both: etcd, the controller manager and the scheduler are found on 127.0.0.1 alone.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Display,
    Serialize,
    Deserialize,
    ValueEnum,
)]
#[value(rename_all = "verbatim")]
pub enum IpFamily {
    /// Private addresses (RFC 1918).
    #[default]
    IPv4,
    /// Unique local addresses (RFC 4193).
    IPv6,
}

impl IpFamily {
    /// Everything that the cluster takes of the machine's address space.
    pub fn network(self) -> IpNet {
        match self {
            Self::IPv4 => range([10, 203, 0, 0], 16),
            Self::IPv6 => range([0xfd00, 0x203, 0, 0, 0, 0, 0, 0], 48),
        }
    }

    /// The part of [`Self::network`] that the bridge joins.
    pub fn bridge_range(self) -> IpNet {
        match self {
            Self::IPv4 => range([10, 203, 0, 0], 24),
            Self::IPv6 => range([0xfd00, 0x203, 0, 0, 0, 0, 0, 0], 64),
        }
    }

    /// The part of [`Self::network`] that the pods of a node have: an IPv4 /23, because
    /// [`MAX_PODS`](crate::layout::MAX_PODS) is more than a /24 holds, or an IPv6 /112.
    pub fn pod_range(self, node: u8) -> IpNet {
        match self {
            Self::IPv4 => range([10, 203, node * 2, 0], 23),
            Self::IPv6 => range([0xfd00, 0x203, 0, node.into(), 0, 0, 0, 0], 112),
        }
    }

    /// The virtual addresses of Services; routed inside the nodes only. Before 1.33, the API server takes no IPv6 range
    /// that is larger than a /108.
    pub fn service_range(self) -> IpNet {
        match self {
            Self::IPv4 => range([10, 96, 0, 0], 16),
            Self::IPv6 => range([0xfd00, 0x96, 0, 0, 0, 0, 0, 0], 112),
        }
    }

    /// An address on the bridge.
    pub fn on_bridge(self, number: u8) -> IpAddr {
        nth(self.bridge_range(), number)
    }

    /// The bridge's own address: the API server listens here and nowhere else.
    pub fn host(self) -> IpAddr {
        self.on_bridge(1)
    }

    /// `kubernetes.default`, the first address of [`Self::service_range`].
    pub fn kubernetes_service(self) -> IpAddr {
        nth(self.service_range(), 1)
    }

    /// Where pods would look for DNS, if there were any.
    pub fn dns(self) -> IpAddr {
        nth(self.service_range(), DNS)
    }

    /// How many bits an address has: the length of the prefix of a range of one.
    pub fn address_bits(self) -> u8 {
        self.network().max_prefix_len()
    }

    /// All addresses of a machine.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::IPv4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::IPv6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The destination of a default route.
    pub fn everywhere(self) -> IpNet {
        match self {
            Self::IPv4 => range([0, 0, 0, 0], 0),
            Self::IPv6 => range([0, 0, 0, 0, 0, 0, 0, 0], 0),
        }
    }

    /// What has `ip` show only this family.
    pub fn ip_flag(self) -> &'static str {
        match self {
            Self::IPv4 => "-4",
            Self::IPv6 => "-6",
        }
    }

    /// What makes an address usable as soon as `ip` has given it to an interface. An IPv6 address would first be
    /// looked for among the neighbours for one or two seconds, in a network that has each only once.
    pub fn at_once(self) -> &'static str {
        match self {
            Self::IPv4 => "",
            Self::IPv6 => "nodad",
        }
    }

    /// What makes rules for packets of this family.
    pub fn iptables(self) -> &'static str {
        match self {
            Self::IPv4 => "iptables",
            Self::IPv6 => "ip6tables",
        }
    }

    /// What writes all of these rules down.
    pub fn iptables_save(self) -> &'static str {
        match self {
            Self::IPv4 => "iptables-save",
            Self::IPv6 => "ip6tables-save",
        }
    }

    /// The settings of a node's network, below `/proc/sys/net`: it forwards packets, and the interfaces that CNI makes
    /// have their addresses at once (see [`Self::at_once`]; the kernel takes the higher of the two values).
    pub fn node_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::IPv4 => &[("ipv4/ip_forward", "1")],
            Self::IPv6 => &[
                ("ipv6/conf/all/accept_dad", "0"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/all/forwarding", "1"),
            ],
        }
    }
}

fn range(first: impl Into<IpAddr>, prefix: u8) -> IpNet {
    IpNet::new_assert(first.into(), prefix)
}

/// The address that is so many after the first of a range.
fn nth(range: IpNet, number: u8) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + u32::from(number)).into(),
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(number)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MAX_PODS, NODES, api_server};

    #[test]
    fn the_addresses_of_each_family_are_these() {
        let shown = |family: IpFamily| {
            let [one, two] = NODES.map(|node| (node.address(family), node.pod_range(family)));
            [
                family.network().to_string(),
                format!("{}/{}", family.host(), family.bridge_range().prefix_len()),
                format!("{} {}", one.0, one.1),
                format!("{} {}", two.0, two.1),
                family.service_range().to_string(),
                format!("{} {}", family.kubernetes_service(), family.dns()),
                api_server(family).to_string(),
                family.everywhere().to_string(),
            ]
        };
        assert_eq!(
            shown(IpFamily::IPv4),
            [
                "10.203.0.0/16",
                "10.203.0.1/24",
                "10.203.0.11 10.203.2.0/23",
                "10.203.0.12 10.203.4.0/23",
                "10.96.0.0/16",
                "10.96.0.1 10.96.0.10",
                "10.203.0.1:17443",
                "0.0.0.0/0",
            ]
        );
        assert_eq!(
            shown(IpFamily::IPv6),
            [
                "fd00:203::/48",
                "fd00:203::1/64",
                "fd00:203::b fd00:203:0:1::/112",
                "fd00:203::c fd00:203:0:2::/112",
                "fd00:96::/112",
                "fd00:96::1 fd00:96::a",
                "[fd00:203::1]:17443",
                "::/0",
            ]
        );
    }

    #[test]
    fn ranges_lie_apart_within_the_network() {
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            let [one, two] = NODES.map(|node| node.pod_range(family));
            let ranges = [family.bridge_range(), one, two];
            for (at, range) in ranges.iter().enumerate() {
                assert!(family.network().contains(range), "{range}");
                let others = ranges.iter().skip(at + 1);
                assert!(others.into_iter().all(|other| !other.contains(range)));
            }
            let host_bits = one.max_prefix_len() - one.prefix_len();
            assert!(1_u32 << host_bits > MAX_PODS + 2);
            assert!(!family.network().contains(&family.service_range()));
        }
    }

    #[test]
    fn families_are_named_as_kubernetes_names_them() {
        for name in ["IPv4", "IPv6"] {
            let family = IpFamily::from_str(name, false).unwrap();
            assert_eq!(family.to_string(), name);
            assert_eq!(serde_json::to_value(family).unwrap(), name);
        }
    }
}
