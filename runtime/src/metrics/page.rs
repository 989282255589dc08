//! The page on which people read what there is to be scraped.

use std::fmt::Write;

use super::Row;

/// What the kernel counts of every process.
const EVERY: &str = "process_";

/// The tables of these processes, each with its title, below this head. What all of them have stands in a
/// table of its own.
pub fn page(head: &str, parts: &[(&str, &[Row])]) -> String {
    let mut page = head.to_owned();
    for (title, rows) in parts {
        let own = rows.iter().filter(|row| !row.name.starts_with(EVERY));
        table(&mut page, title, own);
    }
    if let Some((_, rows)) = parts.first() {
        let every = rows.iter().filter(|row| row.name.starts_with(EVERY));
        table(&mut page, "Both", every);
    }
    page
}

fn table<'a>(page: &mut String, title: &str, rows: impl Iterator<Item = &'a Row>) {
    // Writing to a text cannot fail.
    let _ = write!(
        page,
        "\n## {title}\n\n| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n"
    );
    for row in rows {
        let labels: Vec<_> = row
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            row.name,
            row.kind,
            labels.join(", "),
            unit(&row.name),
            row.help.replace('|', "\\|"),
        );
    }
}

/// The unit, which by convention the name says.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if name.ends_with("_timestamp_seconds") || name.ends_with("_start_time_seconds") {
        "seconds since 1970"
    } else if name.ends_with("_seconds") {
        "seconds"
    } else if name.ends_with("_bytes") {
        "bytes"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_units() {
        assert_eq!(unit("process_cpu_seconds_total"), "seconds");
        assert_eq!(unit("a_expiry_timestamp_seconds"), "seconds since 1970");
        assert_eq!(unit("a_store_size_bytes"), "bytes");
        assert_eq!(unit("a_records"), "");
    }

    #[test]
    fn what_both_have_stands_once() {
        let row = |name: &str| Row {
            name: name.to_owned(),
            kind: "gauge",
            labels: vec!["state".to_owned()],
            help: "This|that.".to_owned(),
        };
        let (a, b) = (
            [row("a"), row("process_open_fds")],
            [row("b"), row("process_open_fds")],
        );
        let page = page("# Metrics\n", &[("Agent", &a), ("Webhook", &b)]);
        assert!(
            page.contains("\n| `a` | gauge | `state` |  | This\\|that. |\n"),
            "{page}"
        );
        assert_eq!(page.matches("process_open_fds").count(), 1, "{page}");
        assert!(page.ends_with(" |\n"), "{page}");
    }
}
