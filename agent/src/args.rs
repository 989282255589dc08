//! The flags of the agent, each with an environment variable.
//!
//! Owns their names and defaults. The modules that get the values define what they mean.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use curfew_core::duration;
use curfew_runtime::{default_terms::DefaultTermsArgs, logging::LogArgs};

use crate::evidence::EvidenceMode;

/// Schedules the eviction of touched pods on one node and carries it out
#[derive(Debug, Clone, Parser)]
#[command(name = "curfew-agent", version)]
pub struct Args {
    /// Inspect the store, or test this machine, instead of running the agent
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The node whose pods this agent evicts
    #[arg(long, env = "CURFEW_NODE_NAME")]
    pub node_name: Option<String>,

    /// The name of the agent's own pod, which Events contain as their reporter
    #[arg(long, env = "CURFEW_POD_NAME", default_value = "curfew-agent")]
    pub pod_name: String,

    /// The namespace that Curfew runs in. No flag: the admission policies name the accounts in it.
    #[arg(skip = curfew_core::namespaces::OWN)]
    pub namespace: String,

    /// The folder of the store, on a local file system that outlives the pod
    #[arg(
        long,
        env = "CURFEW_STORE",
        default_value = "/var/lib/curfew",
        global = true
    )]
    pub store: PathBuf,

    /// The address for notices of interactions (mutual TLS)
    #[arg(long, env = "CURFEW_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,

    /// The address of /metrics, /healthz and /readyz
    #[arg(long, env = "CURFEW_METRICS_LISTEN", default_value = "[::]:9090")]
    pub metrics_listen: SocketAddr,

    /// The address of the debug page and its JSON; keep it on loopback
    #[arg(
        long,
        env = "CURFEW_DEBUG_LISTEN",
        default_value = "127.0.0.1:9091",
        global = true
    )]
    pub debug_listen: SocketAddr,

    /// The maximum number of open eviction requests
    #[arg(long, env = "CURFEW_MAX_CONCURRENT_EVICTIONS", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub max_concurrent_evictions: u16,

    /// How long a disruption budget may block an overdue eviction before the pod is reported as stuck
    #[arg(long, env = "CURFEW_BLOCKED_AFTER", default_value = "1h",
          value_parser = duration::parse)]
    pub blocked_after: Duration,

    /// What to look at on the node, to find out whether containers changed and who got into them past the API server:
    /// nothing, processes, or processes and files. It needs rights that the base does not have: see the component
    /// evidence
    #[arg(long, env = "CURFEW_EVIDENCE", value_enum, default_value = "off")]
    pub evidence: EvidenceMode,

    /// What follows from a session that nobody admitted, where no policy says otherwise
    #[command(flatten)]
    pub defaults: DefaultTermsArgs,

    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

/// Commands other than running the agent.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show the content of the store: from the running agent, or from the files if none is running
    Store {
        /// What to do
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Check that the agent works on this machine: write a record below the folder of the store and read it back, make a
    /// key, and shake hands over mutual TLS; it changes nothing that is in the store
    SelfTest,
}

/// What to do with the store.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum StoreCommand {
    /// Print every record as a line of JSON
    Dump,
    /// Check that everything in it can be read; exits with 1 if not
    Verify,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_cannot_be_chosen() {
        let parse = |flags: &[&str]| Args::try_parse_from([&["curfew-agent"], flags].concat());
        assert_eq!(parse(&[]).unwrap().namespace, "curfew");
        parse(&["--namespace=elsewhere"]).unwrap_err();
    }
}
