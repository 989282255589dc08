//! Lays rows out as a table, fit for any terminal.

use crate::{output::visible, row::Row};

/// What stands where a pod says nothing.
const NONE: &str = "<none>";
/// Between two columns.
const GAP: usize = 3;
/// No cell is longer, in characters; annotations may hold far more than a screen.
const MAX_CELL: usize = 120;

/// A column: its head and what it shows of a pod.
pub(crate) struct Column {
    head: &'static str,
    cell: fn(&Row) -> Option<&str>,
}

/// The columns, from the left.
pub(crate) fn columns(namespace: bool, wide: bool) -> Vec<Column> {
    let column = |head, cell| Column { head, cell };
    let mut columns = Vec::new();
    if namespace {
        columns.push(column("NAMESPACE", |row| row.namespace.as_deref()));
    }
    columns.extend([
        column("POD-NAME", |row| row.name.as_deref()),
        column("INTERACTOR", |row| row.interactor.as_deref()),
        column("POD-TTL", |row| row.ttl.as_deref()),
        column("EXTENSION", |row| row.extension.as_deref()),
        column("EXTENSION-REQUESTER", |row| {
            row.extension_requester.as_deref()
        }),
        column("EVICTION-TIME", |row| row.eviction_time.as_deref()),
    ]);
    if wide {
        columns.extend([
            column("NODE", |row| row.node.as_deref()),
            column("INTERACTION", |row| row.interaction.as_deref()),
            column("COMMAND", |row| row.command.as_deref()),
            column("STATE", |row| Some(row.state())),
        ]);
    }
    columns
}

/// The table with its head, a line each.
pub(crate) fn render(columns: &[Column], rows: &[Row]) -> String {
    let head: Vec<_> = columns
        .iter()
        .map(|column| column.head.to_owned())
        .collect();
    let body = rows.iter().map(|row| {
        columns
            .iter()
            .map(|column| cell((column.cell)(row)))
            .collect()
    });
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| lines.iter().map(|line| width(&line[at])).max().unwrap_or(0))
        .collect();
    let mut table = String::new();
    for line in lines {
        let start = table.len();
        for (cell, column) in line.iter().zip(&widths) {
            table.push_str(cell);
            table.extend(std::iter::repeat_n(' ', column - width(cell) + GAP));
        }
        table.truncate(start + table[start..].trim_end().len());
        table.push('\n');
    }
    table
}

fn cell(text: Option<&str>) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return NONE.to_owned();
    };
    let text = visible(text);
    match text.char_indices().nth(MAX_CELL) {
        None => text,
        Some(_) => text.chars().take(MAX_CELL - 1).chain(['…']).collect(),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::{at, pod};
    use curfew_core::metadata as keys;
    use proptest::prelude::*;

    fn rows(pods: &[&[(&str, &str)]]) -> Vec<Row> {
        let now = at("2026-03-01T12:00:00Z");
        let names = ["web-1", "cart-abcdef", "db-0"];
        pods.iter()
            .zip(names)
            .map(|(marks, name)| Row::new(&pod(name, marks), Some("node-2"), now))
            .collect()
    }

    const TIMED: &[(&str, &str)] = &[
        (keys::INTERACTOR, "alice"),
        (keys::INTERACTION, "exec"),
        (keys::COMMAND, "sh -c 'echo hi'"),
        (keys::TTL, "10m0s"),
        (keys::EXTENSION, "90m"),
        (keys::EXTENSION_REQUESTER, "bob@example.com"),
        (keys::EVICTION_TIME, "2026-03-01T12:09:59Z"),
    ];
    const FORWARDED: &[(&str, &str)] = &[
        (keys::INTERACTOR, "carol"),
        (keys::INTERACTION, "portforward"),
    ];

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        assert_eq!(
            render(&columns(false, false), &rows(&[TIMED, FORWARDED])),
            "\
POD-NAME      INTERACTOR   POD-TTL   EXTENSION   EXTENSION-REQUESTER   EVICTION-TIME
web-1         alice        10m0s     90m         bob@example.com       2026-03-01T12:09:59Z (in 9m59s)
cart-abcdef   carol        <none>    <none>      <none>                <none>
"
        );
    }

    #[test]
    fn all_namespaces_come_first_and_wide_comes_last() {
        assert_eq!(
            render(&columns(true, true), &rows(&[TIMED])),
            "\
NAMESPACE   POD-NAME   INTERACTOR   POD-TTL   EXTENSION   EXTENSION-REQUESTER   EVICTION-TIME                     \
NODE     INTERACTION   COMMAND           STATE
shop        web-1      alice        10m0s     90m         bob@example.com       2026-03-01T12:09:59Z (in 9m59s)   \
node-2   exec          sh -c 'echo hi'   scheduled
"
        );
    }

    #[test]
    fn letters_of_all_scripts_count_as_one() {
        let table = render(
            &columns(false, false),
            &rows(&[&[(keys::INTERACTOR, "jürgen"), (keys::TTL, "5s")]]),
        );
        let lines: Vec<_> = table.lines().collect();
        let column = |line: &str, text| {
            line.chars().count() - line[line.find(text).unwrap()..].chars().count()
        };
        assert_eq!(column(lines[0], "POD-TTL"), column(lines[1], "5s"));
    }

    #[test]
    fn an_endless_cell_is_cut() {
        let long = "x".repeat(100_000);
        let table = render(
            &columns(false, false),
            &rows(&[&[(keys::INTERACTOR, &long)]]),
        );
        assert!(table.len() < 1000 && table.contains("xxx…"));
    }

    proptest! {
        #[test]
        fn a_pod_is_one_line_of_plain_characters(text in any::<String>()) {
            let table = render(&columns(true, true), &rows(&[&[
                (keys::INTERACTOR, &text),
                (keys::COMMAND, &text),
                (keys::EXTENSION, &text),
                (keys::EVICTION_TIME, &text),
            ]]));
            prop_assert_eq!(table.lines().count(), 2);
            prop_assert!(!table.replace('\n', "").chars().any(char::is_control));
        }
    }
}
