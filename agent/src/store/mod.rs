//! The records of this node's pods on disk.
//!
//! It owns the folder of the store and the one batch that is being written to it: the sled database, its
//! writer, its recovery from failures, and what `curfew-agent store` shows of it. When a record is to be
//! written, and what is in it, is decided elsewhere.

mod batches;
mod db;
mod error;
pub mod inspect;
pub mod recovery;
pub(crate) mod writer;

pub use curfew_agent_state::Batch;
pub use db::{Contents, Store, StoreError, decode, encode};
pub use error::NotRecorded;
