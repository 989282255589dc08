//! What every process of Curfew's in a cluster shares and what has nothing to do with pods: its log,
//! its signals, tasks and timers, its client, calls and watches of the API server, bounded HTTP servers, mutual TLS and the plain
//! port for metrics and health.
#![warn(missing_docs)]

pub mod api;
pub mod client;
pub mod connection_limit;
pub mod error_chain;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod ops;
pub mod reach;
pub mod tasks;
pub mod time;
pub mod tls;
pub mod watch;
