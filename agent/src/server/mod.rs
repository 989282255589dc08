//! What listens: the port for notices, the page and JSON for people on loopback, and the probes and metrics.
//!
//! It owns no state of the node: it passes notices to the controller, and shows snapshots of what others own.

pub mod debug;
pub mod notices;
pub(crate) mod probes;
