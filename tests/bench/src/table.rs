//! All that was measured, as one table in Markdown: as it is printed, it stands in `docs/performance.md`.

use std::{
    fmt::{self, Write},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::report::Report;

/// The measurements so far.
#[derive(Debug)]
pub(crate) struct Table {
    began: Instant,
    parts: Vec<(&'static str, Outcome)>,
}

/// What came of a measurement, or why nothing did.
type Outcome = Result<Report, String>;

impl Table {
    /// Without a measurement.
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
            parts: Vec::new(),
        }
    }

    /// How long all took so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds a measurement.
    pub(crate) fn add(&mut self, name: &'static str, outcome: Outcome) {
        self.parts.push((name, outcome));
    }

    /// All of it, with the sentence about the machine.
    ///
    /// # Errors
    /// None in fact: it is written into memory.
    pub(crate) fn text(&self, machine: &str) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let minutes = self.elapsed().as_secs_f64() / 60.0;
        let date = Timestamp::now().strftime("%F %H:%M");
        writeln!(
            text,
            "Measured on {date} UTC, in {minutes:.1} minutes: {machine}"
        )?;
        writeln!(text, "\n| what | figure | target | |\n|---|---|---|---|")?;
        let (mut targets, mut met, mut unmeasured) = (0, 0, Vec::new());
        for (name, outcome) in &self.parts {
            match outcome {
                Ok(report) => {
                    for (what, figure, target) in report.rows() {
                        let (target, verdict) = match target {
                            Some((target, true)) => (target, "met"),
                            Some((target, false)) => (target, "**missed**"),
                            None => ("", ""),
                        };
                        targets += usize::from(!verdict.is_empty());
                        met += usize::from(verdict == "met");
                        let [what, figure, target] = [what, figure, target].map(cell);
                        writeln!(text, "| {name}: {what} | {figure} | {target} | {verdict} |")?;
                    }
                }
                Err(why) => {
                    unmeasured.push(*name);
                    writeln!(text, "| {name} | not measured: {} | | |", cell(why))?;
                }
            }
        }
        write!(text, "\n{met} of {targets} targets are met.")?;
        if !unmeasured.is_empty() {
            write!(text, " Not measured: {}.", unmeasured.join(", "))?;
        }
        writeln!(text)?;
        Ok(text)
    }
}

/// A text that ends neither the cell nor the row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_was_measured_and_what_was_not() {
        let mut report = Report::default();
        report.figure("requests", "a|b");
        report.target("p50", "7 ms", "at most 6 ms", false);
        report.target("p99", "8 ms", "at most 30 ms", true);
        let mut table = Table::begin();
        table.add("recording", Ok(report));
        table.add("crowd", Err("no\nnodes".to_owned()));
        let text = table.text("one machine.").unwrap();
        let (head, rows) = text.split_once("\n\n").unwrap();
        assert!(head.starts_with("Measured on 20") && head.ends_with("minutes: one machine."));
        assert_eq!(
            rows,
            "| what | figure | target | |\n\
             |---|---|---|---|\n\
             | recording: requests | a\\|b |  |  |\n\
             | recording: p50 | 7 ms | at most 6 ms | **missed** |\n\
             | recording: p99 | 8 ms | at most 30 ms | met |\n\
             | crowd | not measured: no nodes | | |\n\
             \n\
             1 of 2 targets are met. Not measured: crowd.\n"
        );
    }
}
