//! `kubectl pi`: which pods somebody interacted with, and when they will be evicted.
//!
//! It reads what stands on the pods, with the user's own rights; it talks to no part of Curfew.

mod cli;
mod connection;
mod find;
mod get;
mod output;
mod row;
mod table;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&error.into()),
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}
