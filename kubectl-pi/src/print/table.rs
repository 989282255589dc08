//! Lays rows out as a table, fit for any terminal. The columns of `kubectl pi get` are in [`columns`]; what a column shows
//! comes from a [`Row`].

use std::borrow::Cow;

use curfew_core::State;
use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{
    output::visible,
    print::{
        row::Row,
        style::{Colour, Style},
    },
};

/// What stands where a pod says nothing.
const NONE: &str = "<none>";
/// Between two columns.
const GAP: usize = 3;
/// No cell is wider, in columns of a terminal; annotations may hold far more than a screen.
const MAX_CELL: usize = 120;
/// What is evicted within so many seconds stands out.
const SOON: i64 = 60;

type Cell = fn(&Row, Timestamp) -> Option<Cow<'_, str>>;

/// A column: its head and what it shows of a pod.
pub(crate) struct Column {
    head: &'static str,
    cell: Cell,
    /// Whether it has the colour of the state.
    tells_state: bool,
}

/// The columns, from the left.
pub(crate) fn columns(namespace: bool, wide: bool) -> Vec<Column> {
    let column = |head, cell: Cell| Column {
        head,
        cell,
        tells_state: matches!(head, "EVICTION-TIME" | "STATE"),
    };
    let mut columns = Vec::new();
    if namespace {
        columns.push(column("NAMESPACE", |row, _| text(&row.namespace)));
    }
    columns.extend([
        column("POD-NAME", |row, _| text(&row.name)),
        column("INTERACTOR", |row, _| text(&row.interactor)),
        column("POD-TTL", |row, _| text(&row.ttl)),
        column("EXTENSION", |row, _| text(&row.extension)),
        column("EXTENSION-REQUESTER", |row, _| {
            text(&row.extension_requester)
        }),
        column("EVICTION-TIME", |row, now| {
            row.eviction_time(now).map(Cow::Owned)
        }),
    ]);
    if wide {
        columns.extend([
            column("NODE", |row, _| text(&row.node)),
            column("ACTOR", |row, _| row.actor.map(Cow::Borrowed)),
            column("INTERACTION", |row, _| text(&row.interaction)),
            column("COMMAND", |row, _| text(&row.command)),
            column("STATE", |row, _| Some(row.state.as_str().into())),
            column("REASON", |row, _| text(&row.reason)),
        ]);
    }
    columns
}

fn text(value: &Option<String>) -> Option<Cow<'_, str>> {
    value.as_deref().map(Cow::Borrowed)
}

/// A table under way: what is added later is aligned with what was printed before, as far as it can.
pub(crate) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    style: Style,
    headed: bool,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>, style: Style, headed: bool) -> Self {
        let width = |column: &Column| if headed { column.head.width() } else { 0 };
        Self {
            widths: columns.iter().map(width).collect(),
            columns,
            style,
            headed,
        }
    }

    /// The head, unless it was not wanted, and these rows, a line each.
    pub(crate) fn render(&mut self, rows: &[Row], now: Timestamp) -> String {
        let lines = self.more(rows, now);
        if !self.headed {
            return lines;
        }
        let heads: Vec<_> = self.columns.iter().map(|c| c.head.to_owned()).collect();
        self.line(&heads, None) + &lines
    }

    /// These rows without a head.
    pub(crate) fn more(&mut self, rows: &[Row], now: Timestamp) -> String {
        let cells: Vec<_> = rows.iter().map(|row| self.cells(row, now)).collect();
        for cells in &cells {
            for (column, cell) in self.widths.iter_mut().zip(cells) {
                *column = (*column).max(cell.width());
            }
        }
        let lines = rows.iter().zip(&cells);
        lines
            .map(|(row, cells)| self.line(cells, colour(row, now)))
            .collect()
    }

    fn cells(&self, row: &Row, now: Timestamp) -> Vec<String> {
        let cells = self.columns.iter().map(|column| (column.cell)(row, now));
        cells.map(cell).collect()
    }

    fn line(&self, cells: &[String], colour: Option<Colour>) -> String {
        aligned(cells, &self.widths, |at, cell| {
            let colour = colour.filter(|_| self.columns[at].tells_state);
            self.style.paint(cell, colour)
        })
    }
}

/// A table of what is no row of a pod, with its heads. Its last column is as long as it has to be.
pub(crate) fn plain<const N: usize>(
    heads: [&str; N],
    lines: impl Iterator<Item = [String; N]>,
) -> String {
    let texts = |line: [String; N]| -> Vec<String> {
        let texts = line.into_iter().enumerate();
        texts
            .map(|(at, text)| match at + 1 == N && !text.is_empty() {
                true => visible(&text).into_owned(),
                false => cell(Some(text.into())),
            })
            .collect()
    };
    let heads = heads.map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(lines.map(texts)).collect();
    all_aligned(&lines)
}

/// A table of these cells; all lines have as many.
pub(crate) fn lines(lines: &[Vec<String>]) -> String {
    let cells = |line: &Vec<String>| line.iter().map(|text| cell(Some(text.into()))).collect();
    all_aligned(&lines.iter().map(cells).collect::<Vec<_>>())
}

fn all_aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns)
        .map(|at| lines.iter().map(|line| line[at].width()).max().unwrap_or(0))
        .collect();
    lines
        .iter()
        .map(|line| aligned(line, &widths, |_, cell| cell.into()))
        .collect()
}

/// A line with each cell as wide as its column, and nothing behind the last.
fn aligned<'a>(
    cells: &'a [String],
    widths: &[usize],
    paint: impl Fn(usize, &'a str) -> Cow<'a, str>,
) -> String {
    let mut line = String::new();
    let mut gap = 0;
    for (at, (cell, wanted)) in cells.iter().zip(widths).enumerate() {
        line.extend(std::iter::repeat_n(' ', gap));
        line.push_str(&paint(at, cell));
        gap = wanted - cell.width() + GAP;
    }
    line.push('\n');
    line
}

fn colour(row: &Row, now: Timestamp) -> Option<Colour> {
    match row.state {
        State::Blocked | State::Stuck | State::Retrying | State::Due => Some(Colour::Red),
        State::Scheduled if row.is_within(SOON, now) => Some(Colour::Yellow),
        State::Held => Some(Colour::Cyan),
        _ => None,
    }
}

fn cell(text: Option<Cow<'_, str>>) -> String {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return NONE.to_owned();
    };
    let mut text = visible(&text).into_owned();
    if text.width() > MAX_CELL {
        let mut room = MAX_CELL - 1;
        let end = text.char_indices().find(|(_, c)| {
            let needed = c.width().unwrap_or_default();
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            !fits
        });
        text.truncate(end.map_or(text.len(), |(end, _)| end));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::blocks::Blocks,
        print::row::{
            Sighting,
            tests::{at, pod},
        },
    };
    use curfew_core::metadata as keys;
    use proptest::prelude::*;

    fn render(columns: Vec<Column>, rows: &[Row]) -> String {
        Table::new(columns, Style::Plain, true).render(rows, at("2026-03-01T12:00:00Z"))
    }

    fn rows(pods: &[&[(&str, &str)]]) -> Vec<Row> {
        let now = at("2026-03-01T12:00:00Z");
        let names = ["web-1", "cart-abcdef", "db-0"];
        pods.iter()
            .zip(names)
            .map(|(marks, name)| {
                let pod = pod(name, marks);
                let seen = Sighting {
                    node: Some("node-2"),
                    ..Sighting::of(&pod)
                };
                Row::new(seen, &Blocks::default(), now)
            })
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
            render(columns(false, false), &rows(&[TIMED, FORWARDED])),
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
            render(columns(true, true), &rows(&[TIMED])),
            "\
NAMESPACE   POD-NAME   INTERACTOR   POD-TTL   EXTENSION   EXTENSION-REQUESTER   EVICTION-TIME                     \
NODE     ACTOR   INTERACTION   COMMAND           STATE       REASON
shop        web-1      alice        10m0s     90m         bob@example.com       2026-03-01T12:09:59Z (in 9m59s)   \
node-2   User    exec          sh -c 'echo hi'   scheduled   <none>
"
        );
    }

    #[test]
    fn a_cell_takes_the_columns_that_a_terminal_gives_it() {
        // Latin, two columns for each letter, and letters made of two characters.
        for user in ["jürgen", "山田太郎", "Владимир", "e\u{301}ve"] {
            let table = render(
                columns(false, false),
                &rows(&[&[(keys::INTERACTOR, user), (keys::TTL, "5s")]]),
            );
            let lines: Vec<_> = table.lines().collect();
            let before = |line: &str, text| line[..line.find(text).unwrap()].width();
            assert_eq!(
                before(lines[0], "POD-TTL"),
                before(lines[1], "5s"),
                "{table}"
            );
        }
    }

    #[test]
    fn an_endless_cell_is_cut() {
        for letter in ["x", "山"] {
            let long = letter.repeat(100_000);
            let table = render(
                columns(false, false),
                &rows(&[&[(keys::INTERACTOR, &long)]]),
            );
            let cut = format!("{}…", letter.repeat(3));
            assert!(table.len() < 1500 && table.contains(&cut), "{table}");
            assert!(table.lines().all(|line| line.width() < 2 * MAX_CELL));
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let rows = rows(&[TIMED, FORWARDED]);
        for now in ["2026-03-01T12:09:30Z", "2026-03-01T12:00:00Z"] {
            let render =
                |style| Table::new(columns(true, true), style, true).render(&rows, at(now));
            let coloured = render(Style::Coloured);
            let plain = coloured.replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
            assert_eq!(plain, render(Style::Plain));
            // Only what goes within a minute stands out.
            assert_eq!(coloured != plain, now.contains("12:09"), "{coloured}");
        }
    }

    #[test]
    fn what_comes_later_keeps_to_the_columns() {
        let rows = rows(&[TIMED, FORWARDED]);
        let now = at("2026-03-01T12:00:00Z");
        let mut table = Table::new(columns(false, false), Style::Plain, true);
        let first = table.render(&rows[1..], now);
        let later = table.more(&rows[..1], now);
        assert_eq!(later.lines().count(), 1);
        assert_eq!(
            first.find("INTERACTOR"),
            later.find("alice"),
            "{first}{later}"
        );
    }

    proptest! {
        #[test]
        fn a_pod_is_one_line_of_plain_characters(text in any::<String>()) {
            let table = render(columns(true, true), &rows(&[&[
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
