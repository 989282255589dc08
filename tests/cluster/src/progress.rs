//! What people see while they wait: whole lines when piped, one moving line on a terminal.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the command line talks"
)]

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often a moving line becomes a whole one when nobody sees it move.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// How wide a moving line is, so that it fits and so that the next covers it.
const WIDTH: usize = 74;

/// Says what begins now.
pub fn step(what: &str) {
    plain(&format!("==> {what}"));
}

/// Says something about the step that runs.
pub fn note(what: &str) {
    plain(&format!("    {what}"));
}

/// Says what made the whole run fail.
pub fn failure(error: &anyhow::Error) {
    drop(writeln!(io::stderr(), "curfew-cluster: {error:#}"));
}

/// Prints as it is.
pub fn plain(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// A long task: how long it has run, and what it did last.
#[derive(Debug)]
pub struct Long {
    last: String,
    began: Instant,
    shown: Instant,
    count: usize,
    terminal: bool,
}

impl Long {
    /// Begins.
    pub fn new(what: &str) -> Self {
        step(what);
        let now = Instant::now();
        Self {
            last: "starting".to_owned(),
            began: now,
            shown: now,
            count: 0,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// One more item is being worked on.
    pub fn item(&mut self, item: &str) {
        self.count += 1;
        item.clone_into(&mut self.last);
        self.tick();
    }

    /// Shows how far it is.
    pub fn tick(&mut self) {
        let elapsed = clock(self.began.elapsed());
        let line = format!("{elapsed}, {} packages, now {}", self.count, self.last);
        if self.terminal {
            let line: String = line.chars().take(WIDTH).collect();
            moving(&format!("\r    {line:<WIDTH$}"));
        } else if self.shown.elapsed() > PLAIN_INTERVAL {
            self.shown = Instant::now();
            note(&line);
        }
    }

    /// Ends.
    pub fn done(self) {
        if self.terminal {
            moving(&format!("\r    {:<WIDTH$}\r", ""));
        }
        note(&format!("took {}", clock(self.began.elapsed())));
    }
}

fn moving(text: &str) {
    let mut out = io::stdout();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// `3m07s`, or `7.3s` when it is less than a minute.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1}s", time.as_secs_f64())
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_millis(7320)), "7.3s");
        assert_eq!(clock(Duration::from_secs(187)), "3m07s");
    }
}
