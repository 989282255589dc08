//! What failed, and how often.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
};

/// All tests that ever failed.
#[derive(Debug, Default)]
pub(crate) struct Report(BTreeMap<(String, String), Failures>);

#[derive(Debug)]
struct Failures {
    times: u32,
    /// What the first of them printed.
    log: PathBuf,
}

impl Report {
    /// These tests of a program failed, with this log.
    pub(crate) fn add(&mut self, program: &str, failed: Vec<String>, log: &Path) {
        for test in failed {
            let failures = self.0.entry((program.to_owned(), test));
            let failures = failures.or_insert_with(|| Failures {
                times: 0,
                log: log.to_owned(),
            });
            failures.times += 1;
        }
    }

    /// How many tests ever failed.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The report, those that failed most first.
    pub(crate) fn text(&self, rounds: u32) -> String {
        if self.0.is_empty() {
            return format!("no test failed in {rounds} rounds\n");
        }
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(_, failures)| std::cmp::Reverse(failures.times));
        let mut text = String::new();
        for ((program, test), Failures { times, log }) in rows {
            let log = log.display();
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "failed {times} of {rounds}: {program} {test}, see {log}"
            );
        }
        text
    }
}

/// The tests that failed, by what their program printed.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    let mut failed: Vec<_> = output
        .lines()
        .filter_map(|line| {
            let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            // What should panic and did not is marked so.
            Some(test.trim_end_matches(" - should panic").to_owned())
        })
        .collect();
    failed.sort();
    failed.dedup();
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_found_in_what_a_program_prints() {
        let output = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\nfailures:\n\n\
                      ---- a::c stdout ----\nassertion failed\n\nfailures:\n    a::c\n\n\
                      test result: FAILED. 2 passed; 1 failed\n";
        assert_eq!(failed_tests(output), ["a::c"]);
        assert!(failed_tests("test a::b ... ok\n").is_empty());
    }

    #[test]
    fn the_report_begins_with_what_failed_most() {
        let mut report = Report::default();
        assert_eq!(report.text(5), "no test failed in 5 rounds\n");
        report.add("agent", vec!["a".to_owned()], Path::new("/1"));
        report.add("core", vec!["b".to_owned()], Path::new("/2"));
        report.add("core", vec!["b".to_owned()], Path::new("/3"));
        report.add("core", Vec::new(), Path::new("/4"));
        assert_eq!(report.len(), 2);
        assert_eq!(
            report.text(5),
            "failed 2 of 5: core b, see /2\nfailed 1 of 5: agent a, see /1\n"
        );
    }
}
