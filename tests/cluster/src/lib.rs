//! A real two-node Kubernetes on one machine, for the tests and the demo.
//!
//! Nothing here is a simulation: etcd, the API server, the controller manager, the scheduler and two kubelets run as
//! ordinary processes, linked from pinned Go modules into one binary, and each node has its own containerd. What makes
//! two nodes out of one machine:
//!
//! - **network**: each node is a network namespace (`curfew-node-1`, `curfew-node-2`) on a bridge of its own; no packet
//!   leaves the machine ([`network`]);
//! - **mounts**: each node has a mount namespace in which `/run`, `/var/lib` and `/var/log` are its own, so kubelets and
//!   hostPath volumes there do not meet, and every mount is gone when the node's last process is ([`node`]).
//!   Everything else of the file system is the machine's: a hostPath outside of those three is shared by both nodes;
//! - **cgroups**: everything started here lives below one cgroup, `curfew-cluster`, which is how [`teardown`] finds what
//!   a crash left behind ([`cgroup`]).
//!
//! What belongs to the machine stands in one place, `/var/lib/curfew-cluster`, so any checkout can clean it up. What
//! belongs to the checkout (kubeconfig, tools) stands in its `target/cluster`. Build products that a fresh clone should
//! find again stand in the cache ([`layout`]).
//!
//! [`Cluster`] is what tests use; [`cli`] is what people use.

pub mod cargo_tools;
pub mod cgroup;
pub mod cli;
pub mod cluster;
pub mod control_plane;
pub mod deploy;
pub mod go_module;
pub mod go_tools;
pub mod images;
pub mod ip_family;
pub mod kube_binary;
pub mod kubernetes;
pub mod layout;
pub mod manifests;
pub mod network;
pub mod node;
pub mod packages;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod release;
pub mod run;
pub mod rust_binaries;
pub mod state;
pub mod status;
pub mod teardown;
pub mod tools;
pub mod up;

pub use cluster::Cluster;
pub use ip_family::IpFamily;
pub use kubernetes::Minor;
pub use release::Release;
