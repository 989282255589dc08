//! What every process of Curfew in a cluster shares.
//!
//! It owns the log, signals ([`tasks`]) and timers, the client, calls and watches of the API server, bounded HTTP
//! servers ([`http`], [`connection_limit`]), mutual TLS ([`tls`]), and the plain port for metrics and health ([`ops`]).
//! It contains nothing about pods and interactions, which are the task of the webhook and the agent.
#![warn(missing_docs)]

pub mod api;
pub mod client;
pub mod connection_limit;
pub mod default_terms;
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
