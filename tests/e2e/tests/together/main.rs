//! All tests that do not mind each other, in one program: they mostly wait for deadlines, and so many wait at the
//! same time. `cargo test --package curfew-e2e --test together exec::` runs those of one module.
//!
//! A test belongs here if it touches nothing outside of namespaces of its own, and if what others do meanwhile does not
//! change what it finds. What replaces or removes a part of Curfew, takes a node away from pods, measures how much the
//! agents use, or looks at the whole log of a part or all of its metrics, is a program of its own.

mod authority;
mod behaviour;
mod events;
mod eviction;
mod exec;
mod fairness;
mod identity;
mod interactions;
mod permissions;
mod plugin;
mod plugin_changes;
mod plugin_connection;
mod plugin_explain;
mod plugin_kubectl;
mod plugin_rights;
mod plugin_views;
mod policies;
mod rollout;
mod runbooks;
mod trail;
