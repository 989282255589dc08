//! What is told of one thing, for people: facts, one a line, and tables below.

use crate::output::visible;

/// What is told.
#[derive(Default)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn line(&mut self, title: &str, value: &str) {
        let title = format!("{title}:");
        self.0 += &format!("{title:<20}{}\n", visible(value));
    }

    pub(crate) fn maybe(&mut self, title: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(title, value);
        }
    }

    /// A table with its title above it, or what is said in its place.
    pub(crate) fn section(&mut self, title: &str, table: Result<&str, &str>) {
        self.0 += &format!("\n{title}:");
        match table {
            Ok(table) => {
                self.0.push('\n');
                self.0
                    .extend(table.lines().map(|line| format!("  {line}\n")));
            }
            Err(instead) => self.0 += &format!("  {}\n", visible(instead)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_reach_the_terminal_raw() {
        let mut page = Page::default();
        page.line("Hold", "a\u{1b}[2J\nb");
        page.section("Events", Err("c\u{1b}[2J"));
        assert_eq!(
            page.0,
            "Hold:               a\\u{1b}[2J\\nb\n\nEvents:  c\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_table_stands_below_its_title() {
        let mut page = Page::default();
        page.section("Events", Ok("A   B\n1   2\n"));
        assert_eq!(page.0, "\nEvents:\n  A   B\n  1   2\n");
    }
}
