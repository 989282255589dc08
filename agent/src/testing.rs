//! What tests of the agent share: a scripted API server, a store in memory, and small builders.

pub(crate) mod api;
pub(crate) mod disk;
pub(crate) mod stage;

pub(crate) use curfew_agent_state::testing::*;
