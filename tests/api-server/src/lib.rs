//! A scripted API server for tests, in memory and in tokio's time, which tests may pause.
//!
//! It keeps objects of any resource as JSON and answers as the API server does: versions, preconditions,
//! selectors, watches with bookmarks, evictions. Where a test has a script, it answers as the script says: a
//! status, a stream, a broken connection, silence. It writes down every request. Tests talk to it through a
//! [`kube::Client`] without a socket, or, from another process, through a port.
//!
//! It does not validate objects and has neither defaults nor authorization. Resources are told apart by their
//! plural name alone, and a list is always complete (`limit` is ignored).

#![warn(missing_docs)]
#![allow(
    clippy::unwrap_used,
    reason = "only tests use this crate, and a test should fail where this goes wrong"
)]

mod answer;
mod listener;
mod objects;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod verbs;
mod watches;

pub use self::{
    answer::{Answer, StreamEnd, failure},
    request::{Asked, Target},
    server::ApiServer,
    watches::{bookmark, end_of_list, event},
};
