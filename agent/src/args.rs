//! The flags of the agent.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use curfew_core::duration;
use curfew_runtime::logging::LogArgs;

/// Keeps the eviction schedule of one node's pods and carries it out
#[derive(Debug, Clone, Parser)]
#[command(name = "curfew-agent", version)]
pub struct Args {
    /// Looks into the store instead of running
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The node whose pods this agent looks after
    #[arg(long, env = "CURFEW_NODE_NAME")]
    pub node_name: Option<String>,

    /// The name of the agent's own pod, named in Events as their reporter
    #[arg(long, env = "CURFEW_POD_NAME", default_value = "curfew-agent")]
    pub pod_name: String,

    /// The namespace that Curfew runs in. No flag: the admission policies name the accounts in it.
    #[arg(skip = curfew_core::namespaces::OWN)]
    pub namespace: String,

    /// The folder of the store; on a local file system that outlives the pod
    #[arg(
        long,
        env = "CURFEW_STORE",
        default_value = "/var/lib/curfew",
        global = true
    )]
    pub store: PathBuf,

    /// Where notices of interactions are taken (mutual TLS)
    #[arg(long, env = "CURFEW_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "CURFEW_METRICS_LISTEN", default_value = "0.0.0.0:9090")]
    pub metrics_listen: SocketAddr,

    /// Where the node's schedule is served to those who look into it; keep it on loopback
    #[arg(
        long,
        env = "CURFEW_DEBUG_LISTEN",
        default_value = "127.0.0.1:9091",
        global = true
    )]
    pub debug_listen: SocketAddr,

    /// How many eviction requests may be open at a time
    #[arg(long, env = "CURFEW_MAX_CONCURRENT_EVICTIONS", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub max_concurrent_evictions: u16,

    /// How long a disruption budget may refuse a pod past its eviction time before that is reported as
    /// stuck
    #[arg(long, env = "CURFEW_BLOCKED_AFTER", default_value = "1h",
          value_parser = duration::parse)]
    pub blocked_after: Duration,

    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

/// What there is to do but running.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Shows what the store holds: asks the running agent, or reads the files where none runs
    Store {
        /// What to show
        #[command(subcommand)]
        command: StoreCommand,
    },
}

/// What to show of the store.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum StoreCommand {
    /// Prints every record as a line of JSON
    Dump,
    /// Says whether all of it can be read; exits with 1 when not
    Verify,
}
