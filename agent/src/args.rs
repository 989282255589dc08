//! The flags of the agent.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use curfew_runtime::logging::LogArgs;

/// Keeps the eviction schedule of one node's pods and carries it out
#[derive(Debug, Clone, Parser)]
#[command(name = "curfew-agent", version)]
pub struct Args {
    /// The node whose pods this agent looks after
    #[arg(long, env = "CURFEW_NODE_NAME")]
    pub node_name: String,

    /// The name of the agent's own pod, named in Events as their reporter
    #[arg(long, env = "CURFEW_POD_NAME", default_value = "curfew-agent")]
    pub pod_name: String,

    /// The folder of the store; on a local file system that outlives the pod
    #[arg(long, env = "CURFEW_STORE", default_value = "/var/lib/curfew")]
    pub store: PathBuf,

    /// Where notices of interactions are taken
    #[arg(long, env = "CURFEW_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "CURFEW_METRICS_LISTEN", default_value = "0.0.0.0:9090")]
    pub metrics_listen: SocketAddr,

    /// Where the node's schedule is served to those who look into it; keep it on loopback
    #[arg(long, env = "CURFEW_DEBUG_LISTEN", default_value = "127.0.0.1:9091")]
    pub debug_listen: SocketAddr,

    /// How many eviction requests may be open at a time
    #[arg(long, env = "CURFEW_MAX_CONCURRENT_EVICTIONS", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub max_concurrent_evictions: u16,

    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}
