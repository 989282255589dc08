//! The agent's promise about its disk, kept by the real process: what it acknowledged is there again,
//! whenever it is killed and whatever the file system does.
//!
//! No cluster is needed: the API server that its kubeconfig names does not exist, and the agent takes
//! notices all the same. `kill -9` keeps what the kernel has in its page cache, so this shows that records
//! are handed over whole and in order, not that the disk has them; for that the store syncs its file.
//!
//! Longer runs: `CURFEW_KILLS=5000 cargo test --release -p curfew-agent --test store -- --nocapture`, and
//! `CURFEW_SEED=…` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and a run says its seed and its figures"
)]

mod disk;
mod kills;
mod process;
