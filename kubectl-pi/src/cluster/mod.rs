//! The cluster: how it is reached, what may be done there, and what is found of it.
//!
//! It owns the connection to the API server and, through it, to the agents. What is done with what it finds is left to
//! the verbs, and how that looks to print.

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod blocks;
pub(crate) mod connection;
pub(crate) mod detach;
pub(crate) mod find;
pub(crate) mod shortened;
pub(crate) mod target;
pub(crate) mod tunnel;
