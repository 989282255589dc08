//! Reads the tables of kubectl and its plugins.

use anyhow::{Context, Result, ensure};

/// The cells of the line in which a cell is `name`, with the heads of their columns.
fn line<'a>(table: &'a str, name: &str) -> Result<Vec<(&'a str, &'a str)>> {
    let mut lines = table.lines().map(|line| {
        line.split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
    });
    let head = lines.next().context("no head")?;
    let line = lines.find(|line| line.clone().any(|cell| cell == name));
    Ok(head
        .zip(line.with_context(|| format!("{name} is not in {table}"))?)
        .collect())
}

/// The cell of this column in the line of `name`.
///
/// # Errors
/// When there is none.
pub fn cell<'a>(table: &'a str, name: &str, column: &str) -> Result<&'a str> {
    let line = line(table, name)?;
    let found = line.iter().find(|(head, _)| *head == column);
    Ok(found
        .with_context(|| format!("no column {column}: {table}"))?
        .1)
}

/// Checks cells of the line of `name`, each by the head of its column.
///
/// # Errors
/// Names the first that is another.
pub fn check(table: &str, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    for (column, value) in expected {
        let found = cell(table, name, column)?;
        ensure!(
            found == *value,
            "{column} is {found:?} and should be {value:?}: {table}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_row_and_column() {
        let table = "NAME   AGE   NOTE\na      1s    two words\nb      2s    x\n";
        assert_eq!(cell(table, "a", "NOTE").unwrap(), "two words");
        assert!(check(table, "b", &[("AGE", "2s"), ("NOTE", "x")]).is_ok());
        assert!(check(table, "b", &[("AGE", "1s")]).is_err());
        assert!(cell(table, "c", "AGE").is_err());
    }
}
