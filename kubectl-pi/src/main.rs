//! `kubectl pi`: which pods somebody interacted with, and when they will be evicted.
//!
//! It reads what stands on the pods, and writes there what people want, with the user's own rights: it talks to the
//! API server only. This file says which verb is run.

mod cli;
mod cluster;
mod output;
mod print;
mod verbs;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Verb},
    verbs::{
        complete, describe, evict, explain, extend, get, hold, node, profile, report, version,
    },
};

fn main() -> ExitCode {
    let done = match complete::asked(std::env::args_os()) {
        Some(words) => run(async {
            complete::run(&words).await?;
            Ok(ExitCode::SUCCESS)
        }),
        None => match Cli::read(std::env::args_os()) {
            Ok(cli) => run(dispatch(cli)),
            Err(error) => return cli::usage(error),
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

async fn dispatch(Cli { target, verb }: Cli) -> anyhow::Result<ExitCode> {
    let done = match verb {
        Verb::Get(args) => get::run(&target, args).await,
        Verb::Describe(args) => describe::run(&target, args).await,
        Verb::Node(args) => node::run(&target, args).await,
        Verb::Explain(args) => explain::run(&target, args).await,
        Verb::Profile(args) => profile::run(&target, args).await,
        Verb::Report(args) => report::run(&target, args).await,
        Verb::Extend(args) => extend::run(&target, args).await,
        Verb::Hold(args) => hold::hold(&target, args).await,
        Verb::Release(args) => hold::release(&target, args).await,
        Verb::Evict(args) => evict::run(&target, args).await,
        Verb::Version(args) => version::run(&target, &args).await,
    }?;
    Ok(match done {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
