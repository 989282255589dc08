//! The log: one line per thing that happens, on standard error.

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for log collectors.
    Json,
    /// For people.
    Text,
}

/// The flags of the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What is logged: a level, or levels by module as in `info,curfew_agent::evict=debug`
    //
    // The client of the API server logs each failed request, which whoever made it logs, too.
    #[arg(
        long,
        env = "CURFEW_LOG_LEVEL",
        default_value = "info,kube_client=off,kube_runtime=off"
    )]
    pub log_level: String,
    /// How it is written
    #[arg(long, env = "CURFEW_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// Starts logging for the process.
    ///
    /// # Errors
    /// When the level cannot be read, or logging was started before.
    pub fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log_level)
            .map_err(|error| anyhow::anyhow!("--log-level {:?}: {error}", self.log_level))?;
        let lines = fmt::layer().with_writer(std::io::stderr);
        // Both escape control characters in fields, so that no user name can forge a line.
        let lines = match self.log_format {
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
            LogFormat::Text => lines.boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()?;
        Ok(())
    }
}
