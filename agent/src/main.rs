//! The agent of one node: see [`curfew_agent`].

use clap::Parser;

/// One thread does it all (the store has its own): an agent mostly waits.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    curfew_agent::run(curfew_agent::Args::parse()).await
}
