//! `kubectl pi`: which pods somebody interacted with, and when they will be evicted.
//!
//! It reads what stands on the pods, and writes there what people wish, with the user's own rights: it
//! talks to the API server only.

mod blocks;
mod change;
mod cli;
mod connection;
mod detach;
mod extend;
mod find;
mod format;
mod get;
mod hold;
mod jsonpath;
mod output;
mod row;
mod style;
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
