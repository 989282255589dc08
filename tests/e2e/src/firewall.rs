//! Rules of iptables within the network of one pod, as a firewall or a NetworkPolicy would stand in its way.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::{self, Command},
};

use anyhow::{Context, Result};
use curfew_cluster::{Cluster, IpFamily, run};

/// A connection that does not come about, as iptables says it.
pub type Rule = &'static [&'static str];

/// Nothing comes in on this port, and nobody is told.
pub const NOTICES: Rule = &["INPUT", "-p", "tcp", "--dport", "8443", "-j", "DROP"];
/// The same for the port that is scraped and probed.
pub const METRICS: Rule = &["INPUT", "-p", "tcp", "--dport", "9090", "-j", "DROP"];
/// The API server seems to be away.
pub const API_SERVER: Rule = &[
    "OUTPUT",
    "-p",
    "tcp",
    "--dport",
    "443",
    "-j",
    "REJECT",
    "--reject-with",
    "tcp-reset",
];

/// What stands in the way of a pod, until it is opened or dropped.
#[derive(Debug)]
pub struct Firewall {
    /// Outlives the container: a restarted one has the same network.
    network: File,
    family: IpFamily,
    rules: Vec<Rule>,
}

impl Firewall {
    /// Closes the way to and from the pod of this process.
    ///
    /// # Errors
    /// When it cannot be closed.
    pub fn close(machine: &Cluster, pid: i32, rules: &[Rule]) -> Result<Self> {
        let network = File::open(format!("/proc/{pid}/ns/net"))
            .with_context(|| format!("the process {pid} has no network"))?;
        let mut firewall = Self {
            network,
            family: machine.ip_family(),
            rules: Vec::new(),
        };
        for rule in rules {
            firewall.apply("-I", rule)?;
            firewall.rules.push(rule);
        }
        Ok(firewall)
    }

    /// Opens it again.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(mut self) -> Result<()> {
        let rules = std::mem::take(&mut self.rules);
        rules
            .into_iter()
            .try_for_each(|rule| self.apply("-D", rule))
    }

    fn apply(&self, action: &str, rule: Rule) -> Result<()> {
        let network = format!(
            "--net=/proc/{}/fd/{}",
            process::id(),
            self.network.as_raw_fd()
        );
        let mut nsenter = Command::new("nsenter");
        nsenter.args([network.as_str(), self.family.iptables(), "-w", action]);
        run::check(nsenter.args(rule))
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        for rule in std::mem::take(&mut self.rules) {
            drop(self.apply("-D", rule));
        }
    }
}
