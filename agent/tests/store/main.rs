//! The agent's promise about its disk, kept by the real process: what it acknowledged is there again,
//! whenever it is killed and whatever the file system does.
//!
//! No cluster is needed: an agent takes notices without an API server, and where pods have to end, a
//! scripted one says so.
//!
//! `kill -9` loses what a process has not handed to the kernel, and keeps the kernel's page cache. So this
//! finds what is answered before it is written, what is written in part and what recovery loses. It does
//! not find a sync that is left out: only a machine that loses its power would, and for that stands nothing
//! but the order of the calls in `Store::commit`.
//!
//! The seed says who is killed when; it is fixed. `CURFEW_SEED=$RANDOM CURFEW_KILLS=5000 cargo test -p curfew-agent
//! --test store -- --nocapture kills` searches for longer, with another one. What the agents are doing at that moment
//! depends on the machine as well. On a disk most kills are in a sync; with `TMPDIR=/dev/shm` many more notices are
//! written between two of them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and a run says its seed and its figures"
)]

mod api;
mod books;
mod disk;
mod kills;
mod process;
