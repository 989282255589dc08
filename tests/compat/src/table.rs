//! The table in the documentation, of which one row at a time is replaced.

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::{outcome::Outcome, setup::Setup};

const BEGIN: &str = "<!-- make compat writes this table -->\n";
const END: &str = "<!-- end of the table -->\n";
const HEAD: &str =
    "| Kubernetes | tested on | passed | failed | skipped |\n|---|---|---|---|---|\n";

/// A row: a cluster, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    setup: Setup,
    line: String,
}

impl Row {
    pub(crate) fn new(setup: Setup, version: &str, outcome: &Outcome) -> Self {
        let day = Timestamp::now().strftime("%F").to_string();
        Self::of_day(setup, version, outcome, &day)
    }

    fn of_day(setup: Setup, version: &str, outcome: &Outcome, day: &str) -> Self {
        let failed = match outcome.failed.len() {
            0 => "0".to_owned(),
            count => format!("{count}: {}", code(&outcome.failed)),
        };
        let mut skipped = vec![outcome.count_skipped().to_string()];
        for (why, tests) in &outcome.skipped {
            skipped.push(format!("{why} ({})", code(tests)));
        }
        for (why, tests) in &outcome.skipped_in_part {
            skipped.push(format!("in part: {why} ({})", code(tests)));
        }
        let cells = [
            setup.name(version.trim_start_matches('v')),
            day.to_owned(),
            outcome.passed.to_string(),
            failed,
            skipped.join("; "),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        Self {
            setup,
            line: format!("| {} |", cells.join(" | ")),
        }
    }

    /// Reads a line of the table.
    fn parse(line: &str) -> Option<Self> {
        let (name, _) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some(Self {
            setup: Setup::of_name(name)?,
            line: line.to_owned(),
        })
    }
}

fn code(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The page with this row in its table, in the place of the one of the same cluster.
pub(crate) fn with_row(page: &str, row: &Row) -> Result<String> {
    let split = page.split_once(BEGIN);
    let (before, rest) = split.with_context(|| format!("the page has no line {BEGIN:?}"))?;
    let split = rest.split_once(END);
    let (table, after) = split.with_context(|| format!("the page has no line {END:?}"))?;
    let mut rows: Vec<_> = table.lines().filter_map(Row::parse).collect();
    rows.retain(|other| other.setup != row.setup);
    rows.push(row.clone());
    rows.sort_by_key(|row| row.setup);
    let lines: String = rows.into_iter().map(|row| row.line + "\n").collect();
    // A table after a comment begins after an empty line.
    Ok(format!("{before}{BEGIN}\n{HEAD}{lines}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use curfew_cluster::IpFamily;

    use super::*;

    fn row(minor: &str, patch: u8, outcome: &Outcome) -> Row {
        row_of(IpFamily::IPv4, minor, patch, outcome)
    }

    fn row_of(ip_family: IpFamily, minor: &str, patch: u8, outcome: &Outcome) -> Row {
        let version = format!("v{minor}.{patch}");
        let setup = Setup {
            minor: minor.parse().unwrap(),
            ip_family,
        };
        Row::of_day(setup, &version, outcome, "2026-11-27")
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_of_the_same_minor_and_family() {
        let (page, mut outcome) = (format!("before\n{BEGIN}{END}after\n"), Outcome::default());
        outcome.passed = 170;
        let page = with_row(&page, &row("1.36", 3, &outcome)).unwrap();
        let page = with_row(&page, &row("1.9", 0, &outcome)).unwrap();
        let page = with_row(&page, &row("1.37", 2, &outcome)).unwrap();
        let other = |patch: u8, outcome: &Outcome| row_of(IpFamily::IPv6, "1.36", patch, outcome);
        let page = with_row(&page, &other(2, &outcome)).unwrap();
        let page = with_row(&page, &other(3, &outcome)).unwrap();
        outcome.passed = 171;
        let page = with_row(&page, &row("1.36", 4, &outcome)).unwrap();
        assert_eq!(
            page,
            format!(
                "before\n{BEGIN}\n{HEAD}\
                 | 1.9.0 | 2026-11-27 | 170 | 0 | 0 |\n\
                 | 1.36.4 | 2026-11-27 | 171 | 0 | 0 |\n\
                 | 1.36.3, IPv6 only | 2026-11-27 | 170 | 0 | 0 |\n\
                 | 1.37.2 | 2026-11-27 | 170 | 0 | 0 |\n\n{END}after\n"
            )
        );
        with_row("no table", &row("1.36", 3, &outcome)).unwrap_err();
    }

    #[test]
    fn what_failed_and_why_something_was_skipped_stands_in_the_row() {
        let mut outcome = Outcome {
            passed: 1,
            failed: vec!["together::a".into()],
            ..Outcome::default()
        };
        let tests = vec!["together::b".into(), "together::c".into()];
        outcome.skipped.insert("since 1.36".into(), tests);
        let part = vec!["monitoring::d".into()];
        outcome.skipped_in_part.insert("a|b".into(), part);
        assert_eq!(
            row("1.33", 13, &outcome).line,
            "| 1.33.13 | 2026-11-27 | 1 | 1: `together::a` | 2; since 1.36 (`together::b`, `together::c`); \
             in part: a\\|b (`monitoring::d`) |"
        );
    }
}
