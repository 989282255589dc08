//! The records of this node's pods on disk.
//!
//! It owns the folder of the store and the one batch that is being written to it. [`writer`] gathers batches,
//! [`recovery`] opens the store and sees it through failures, `db` writes to sled and syncs (`Store::commit`: only then
//! is a record durable), and [`inspect`] is what `curfew-agent store` shows. When a record is to be written, and what is
//! in it, is decided elsewhere.

mod batches;
mod db;
mod error;
pub mod inspect;
pub mod recovery;
pub(crate) mod writer;

pub use curfew_agent_state::Batch;
pub use db::{Contents, Store, StoreError, decode, encode};
pub use error::NotRecorded;
