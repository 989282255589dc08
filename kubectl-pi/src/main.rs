//! `kubectl pi`: which pods somebody interacted with, and when they will be evicted.
//!
//! It reads what stands on the pods, and writes there what people wish, with the user's own rights: it
//! talks to the API server only.

mod access;
mod blocks;
mod change;
mod cli;
mod columns;
mod complete;
mod confirm;
mod connection;
mod describe;
mod detach;
mod explain;
mod extend;
mod find;
mod format;
mod get;
mod hold;
mod jsonpath;
mod node;
mod output;
mod page;
mod row;
mod shortened;
mod style;
mod table;
mod target;
mod version;
mod watch;
mod words;
mod yaml;

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match complete::asked(std::env::args_os()) {
        Some(words) => run(async {
            complete::run(&words).await?;
            Ok(ExitCode::SUCCESS)
        }),
        None => match cli::Cli::read(std::env::args_os()) {
            Ok(cli) => run(cli.run()),
            Err(error) => return output::usage(error),
        },
    };
    done.unwrap_or_else(|error| output::failed(&error))
}

fn run(what: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(what)
}
