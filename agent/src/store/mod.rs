//! The records of this node's pods on disk.
//!
//! It owns the folder of the store and the one batch that is being written to it. [`writer`] collects batches.
//! [`recovery`] opens the store and recovers from its failures. `db` writes to sled and syncs: a record is durable
//! only after `Store::commit`. [`inspect`] implements `curfew-agent store`. Other code decides when a record is
//! written and what it contains.

mod batches;
mod db;
mod error;
pub mod inspect;
pub mod recovery;
pub(crate) mod writer;

pub use curfew_agent_state::Batch;
pub use db::{Contents, Store, StoreError, decode, encode};
pub use error::NotRecorded;
