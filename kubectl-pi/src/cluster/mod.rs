//! Access to the cluster: the connection, the rights of the user, and the objects that the verbs need.
//!
//! It owns the connection to the API server and, through it, the connections to the agents. The verbs decide what to
//! do with the objects, and `print` formats them.

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod blocks;
pub(crate) mod connection;
pub(crate) mod detach;
pub(crate) mod find;
pub(crate) mod placed;
pub(crate) mod profile;
pub(crate) mod shortened;
pub(crate) mod target;
pub(crate) mod tunnel;
