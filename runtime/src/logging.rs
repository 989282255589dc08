//! The log: one line per thing that happens, on standard error.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter},
    prelude::*,
};

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for log collectors
    Json,
    /// Text, for people
    Text,
}

/// The flags of the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What is logged: a level, or levels by module, such as `info,curfew_agent=debug`
    //
    // The client of the API server logs each failed request, which whoever made it logs, too.
    #[arg(
        long,
        env = "CURFEW_LOG_LEVEL",
        default_value = "info,kube_client=off,kube_runtime=off"
    )]
    pub log_level: String,
    /// The format of the log
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
        tracing_subscriber::registry()
            .with(lines(self.log_format, std::io::stderr).with_filter(filter))
            .try_init()?;
        Ok(())
    }
}

/// Writes lines of which none can be forged by what a user is called or runs.
fn lines<W>(format: LogFormat, to: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(to);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(false).map_writer(OneLine).boxed(),
    }
}

/// Keeps each event in one line, and what moves a terminal's cursor out of it: the text format escapes them
/// only in the message, and so colours of its own could not be told from a user's.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// Takes a whole event, as the format hands it on.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
        let mut escaped = String::with_capacity(event.len());
        for c in line.chars() {
            match c.is_control() {
                true => escaped.extend(c.escape_default()),
                false => escaped.push(c),
            }
        }
        escaped.push('\n');
        self.0.write_all(escaped.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_forges_a_line() {
        let evil = "eve\n2027-01-15T08:00:00Z  INFO forged\r\x1b[2Kforged";
        for format in [LogFormat::Json, LogFormat::Text] {
            let written = Written::default();
            let to = written.clone();
            let subscriber = tracing_subscriber::registry().with(lines(format, move || to.clone()));
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(user = evil, command = %evil, argv = ?[evil], optional = Some(evil), "{evil}");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 1, "{format:?}: {text}");
            let controls = text.trim_end_matches('\n').contains(char::is_control);
            assert!(!controls, "{format:?}: {text:?}");
        }
    }
}
