//! What the output of test programs says.

use std::{collections::BTreeMap, fmt};

use curfew_cluster::kubernetes::{SKIPPED, SKIPPED_IN_PART};

/// What became of the tests of one or more programs. A test is named with its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    /// The tests that failed, and the programs that did not end by themselves.
    pub(crate) failed: Vec<String>,
    /// The tests that do not hold, and those of which a part does not, by the reason.
    pub(crate) skipped: BTreeMap<String, Vec<String>>,
    pub(crate) skipped_in_part: BTreeMap<String, Vec<String>>,
}

impl Outcome {
    /// Reads the output of a program.
    pub(crate) fn read(program: &str, output: &str) -> Self {
        let mut outcome = Self::default();
        let mut skipped = Vec::new();
        for line in output.lines() {
            for (start, into) in [
                (SKIPPED, &mut outcome.skipped),
                (SKIPPED_IN_PART, &mut outcome.skipped_in_part),
            ] {
                let mut parts = line.strip_prefix(start).into_iter().flat_map(|rest| {
                    // The minor, the test and the reason.
                    rest.splitn(3, ": ")
                });
                if let (Some(_), Some(test), Some(why)) = (parts.next(), parts.next(), parts.next())
                {
                    let tests: &mut Vec<String> = into.entry(why.to_owned()).or_default();
                    tests.push(named(program, test));
                    if start == SKIPPED {
                        skipped.push(test.to_owned());
                    }
                }
            }
        }
        let mut ended = false;
        for line in output.lines() {
            ended |= line.starts_with("test result: ");
            let Some((test, how)) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            match how.trim() {
                // libtest knows no test that is skipped while it runs.
                "ok" if skipped.iter().any(|skipped| skipped == test) => {}
                "ok" => outcome.passed += 1,
                "FAILED" => outcome.failed.push(named(program, test)),
                // With a reason, after a comma.
                how if how.starts_with("ignored") => {
                    let why = how.trim_start_matches("ignored").trim_start_matches(", ");
                    let tests = outcome.skipped.entry(why.to_owned()).or_default();
                    tests.push(named(program, test));
                }
                _ => {}
            }
        }
        if !ended {
            outcome.failed.push(format!("{program} (it did not end)"));
        }
        outcome
    }

    /// Adds that of another program.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        for (into, from) in [
            (&mut self.skipped, other.skipped),
            (&mut self.skipped_in_part, other.skipped_in_part),
        ] {
            for (why, tests) in from {
                into.entry(why).or_default().extend(tests);
            }
        }
    }

    pub(crate) fn count_skipped(&self) -> usize {
        self.skipped.values().map(Vec::len).sum()
    }
}

/// Without the name of the module that is the program's own.
fn named(program: &str, test: &str) -> String {
    format!("{program}::{test}")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (skipped, failed) = (self.count_skipped(), self.failed.len());
        write!(
            f,
            "{} passed, {failed} failed, {skipped} skipped",
            self.passed
        )?;
        if failed > 0 {
            write!(f, " ({})", self.failed.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STDOUT: &str = "\nrunning 4 tests\n\
        test accounts::one ... ok\n\
        test as_node::two has been running for over 60 seconds\n\
        test as_node::two ... ok\n\
        test three ... FAILED\n\
        test four ... ignored, needs a browser\n\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured\n";

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let stderr = "   Running tests/together/main.rs\n\
            skipped on Kubernetes 1.33: as_node::two: agents act: since 1.36\n\
            skipped in part on Kubernetes 1.33: accounts::one: no room\n";
        let outcome = Outcome::read("together", &format!("{STDOUT}{stderr}"));
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.failed, ["together::three"]);
        let skipped: Vec<_> = outcome.skipped.iter().collect();
        assert_eq!(skipped[0].0, "agents act: since 1.36");
        assert_eq!(skipped[0].1, &["together::as_node::two"]);
        assert_eq!(skipped[1].0, "needs a browser");
        assert_eq!(
            outcome.skipped_in_part["no room"],
            ["together::accounts::one"]
        );
        assert_eq!(
            outcome.to_string(),
            "1 passed, 1 failed, 2 skipped (together::three)"
        );
    }

    #[test]
    fn a_program_that_does_not_end_has_failed() {
        let begin = &STDOUT[..STDOUT.find("test three").unwrap()];
        let mut outcome = Outcome::read("together", begin);
        assert_eq!(outcome.failed, ["together (it did not end)"]);
        outcome.add(Outcome::read("together", STDOUT));
        assert_eq!((outcome.passed, outcome.failed.len()), (4, 2));
    }
}
