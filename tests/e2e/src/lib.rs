//! What the end-to-end tests and the demo are made of.
//!
//! Everything here works on the real cluster that `make cluster` brings up, from where its users are:
//! through the API server, with the real kubectl. A test gets a [`Namespace`] of its own, runs a
//! [`Workload`] there, reaches into it with [`Kubectl`], and looks at what the [`Agents`] know, at
//! what [stands on the pods](marks) and, with [`PodWatch`], at when they go.

pub mod agents;
pub mod audit;
pub mod budgets;
pub mod bypass;
pub mod cluster;
pub mod disasters;
pub mod disrupt;
pub mod evictions;
pub mod evidence;
pub mod execs;
pub mod figures;
pub mod firewall;
pub mod footprint;
pub mod granted;
pub mod helm;
pub mod holdings;
mod http;
pub mod idlers;
pub mod installation;
pub mod knock;
pub mod kubectl;
pub mod life;
pub mod marks;
pub mod monitoring;
pub mod namespace;
pub mod policies;
pub mod poll;
pub mod proxies;
pub mod rights;
pub mod rotation;
pub mod shell;
pub mod skip;
pub mod table;
pub mod tokens;
pub mod torture;
pub mod upgrade;
pub mod watch;
pub mod webhook;
pub mod workload;

pub use agents::{Agents, Scheduled};
pub use cluster::TestCluster;
pub use kubectl::Kubectl;
pub use namespace::{Namespace, within_namespace};
pub use poll::eventually;
pub use watch::PodWatch;
pub use workload::Workload;

/// The nodes of the cluster.
pub const NODES: [&str; 2] = ["node-1", "node-2"];
/// The namespace that Curfew lives in.
pub const CURFEW: &str = "curfew";
