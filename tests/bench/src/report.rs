//! What was measured, as a table: each figure, what it should be, and whether it is.

use std::{fmt, fs, time::Duration};

use anyhow::{Context, Result};

/// The figures of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    figure: String,
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    text: String,
    met: bool,
}

impl Report {
    /// Adds what is good to know.
    pub(crate) fn figure(&mut self, name: &str, figure: impl fmt::Display) {
        self.rows.push(Row {
            name: name.to_owned(),
            figure: figure.to_string(),
            target: None,
        });
    }

    /// Adds what has to be so.
    pub(crate) fn target(
        &mut self,
        name: &str,
        figure: impl fmt::Display,
        text: impl fmt::Display,
        met: bool,
    ) {
        self.rows.push(Row {
            name: name.to_owned(),
            figure: figure.to_string(),
            target: Some(Target {
                text: text.to_string(),
                met,
            }),
        });
    }

    /// Each figure with its name, what it should be, and whether it is.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str, Option<(&str, bool)>)> {
        self.rows.iter().map(|row| {
            let target = row.target.as_ref();
            let target = target.map(|target| (target.text.as_str(), target.met));
            (row.name.as_str(), row.figure.as_str(), target)
        })
    }

    /// Whether every target is met.
    pub(crate) fn holds(&self) -> bool {
        let mut targets = self.rows.iter().filter_map(|row| row.target.as_ref());
        targets.all(|target| target.met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Row) -> &str| {
            let lengths = self.rows.iter().map(|row| text(row).chars().count());
            lengths.max().unwrap_or_default()
        };
        let (name, figure) = (width(|row| &row.name), width(|row| &row.figure));
        for row in &self.rows {
            write!(f, "  {:name$}  ", row.name)?;
            match &row.target {
                None => writeln!(f, "{}", row.figure)?,
                Some(Target { text, met }) => {
                    let verdict = if *met { "met" } else { "MISSED" };
                    writeln!(f, "{:figure$}  {text}: {verdict}", row.figure)?;
                }
            }
        }
        Ok(())
    }
}

/// A time in milliseconds, as people read it.
pub(crate) fn ms(time: Duration) -> String {
    signed_ms(time.as_secs_f64())
}

/// The same of seconds that may be less than nothing.
pub(crate) fn signed_ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

/// A share of one, in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// So many KiB in MiB, as people read them.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// The one in the middle, or the mean of the two that are; none of none.
pub(crate) fn median_of(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => Some((values.get(half.checked_sub(1)?)? + values.get(half)?) / 2.0),
        _ => values.get(half).copied(),
    }
}

/// What else the machine has to do: the same figures mean other things on a busy one.
pub(crate) fn conditions() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<_> = load.split(' ').take(3).collect();
    let processors = std::thread::available_parallelism().context("no processors")?;
    Ok(format!("{processors} processors, load {}", load.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_medians_are_those_of_people() {
        assert_eq!(percent(-0.0123), "-1.2 %");
        assert_eq!(mib(1536), "1.5 MiB");
        assert_eq!(median_of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median_of(&[]), None);
    }

    #[test]
    fn one_missed_target_is_enough() {
        let mut report = Report::default();
        report.figure("requests", 1200);
        report.target("p50", ms(Duration::from_micros(7250)), "at most 8 ms", true);
        assert!(report.holds());
        report.target("p99 of all", signed_ms(-0.0412), "at most 40 ms", false);
        assert!(!report.holds());
        assert_eq!(
            report.to_string(),
            "  requests    1200\n\
             \x20 p50         7.2 ms    at most 8 ms: met\n\
             \x20 p99 of all  -41.2 ms  at most 40 ms: MISSED\n"
        );
    }
}
