//! The process of the webhook; everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use curfew_webhook::args::Args;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    args.log.start()?;
    // Two threads: one may be busy with a handshake or a review of megabytes while the other answers.
    let ran = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(curfew_webhook::run(args));
    Ok(match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with all causes, in the form of the others.
            tracing::error!(event = "failed", error = format!("{error:#}"));
            ExitCode::FAILURE
        }
    })
}
