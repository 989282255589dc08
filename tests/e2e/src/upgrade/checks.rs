//! What was checked, as a table.

use anyhow::{Result, bail};

/// The checks of one change of versions.
#[derive(Debug)]
pub struct Checks {
    title: String,
    rows: Vec<(&'static str, Result<String, String>)>,
}

impl Checks {
    /// None yet.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds a check, with what was seen or why it failed.
    pub fn note(&mut self, check: &'static str, outcome: Result<String>) {
        self.rows
            .push((check, outcome.map_err(|error| format!("{error:#}"))));
    }

    /// All of them, one per line.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|(check, _)| check.len()).max();
        let width = width.unwrap_or_default();
        let mut table = format!("\n{}\n", self.title);
        for (check, outcome) in &self.rows {
            let (word, text) = match outcome {
                Ok(seen) => ("ok    ", seen),
                Err(why) => ("FAILED", why),
            };
            table += &format!("  {word}  {check:<width$}  {text}\n");
        }
        table
    }

    /// # Errors
    /// Names those that failed.
    pub fn passed(&self) -> Result<()> {
        let failed = self.rows.iter().filter(|(_, outcome)| outcome.is_err());
        let failed: Vec<_> = failed.map(|(check, _)| *check).collect();
        if failed.is_empty() {
            return Ok(());
        }
        bail!("{}: failed: {}", self.title, failed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_failed_fails_all() {
        let mut checks = Checks::new("From a to b");
        checks.note("execs", Ok("3 admitted".to_owned()));
        assert!(checks.passed().is_ok());
        checks.note("stores", Err(anyhow::anyhow!("lost")));
        assert_eq!(
            checks.table(),
            "\nFrom a to b\n  ok      execs   3 admitted\n  FAILED  stores  lost\n"
        );
        let said = checks.passed().unwrap_err().to_string();
        assert_eq!(said, "From a to b: failed: stores");
    }
}
