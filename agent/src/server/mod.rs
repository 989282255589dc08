//! The ports of the agent: for notices, for the debug page and its JSON (on loopback), and for probes and metrics.
//!
//! It owns no state of the node: it passes notices to the controller, and shows snapshots of what others own.

pub mod debug;
pub mod notices;
pub(crate) mod probes;
