//! `kubectl pi get --watch`: on a terminal one table that changes in place, elsewhere a line for each
//! change.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    pin::pin,
    time::Duration,
};

use curfew_core::metadata::{MIRROR, PREFIX};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Event as Told, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use crate::{
    cli::Get,
    cluster::{
        blocks::{self, Blocks},
        find,
        placed::api,
    },
    output,
    print::{
        format::{Format, Output},
        row::{self, Row, Sighting},
        style::Style,
        table::{self, Table},
    },
    verbs::get,
};

/// Times are told relative to now, and some states come by time alone.
const TICK: Duration = Duration::from_secs(1);

/// As much of a pod as the tables show.
struct Seen {
    meta: ObjectMeta,
    node: Option<String>,
    phase: Option<String>,
}

impl From<DynamicObject> for Seen {
    fn from(pod: DynamicObject) -> Self {
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let node = text(&pod.data["spec"]["nodeName"]);
        let phase = text(&pod.data["status"]["phase"]);
        let mut meta = pod.metadata;
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|key, _| key.starts_with(PREFIX) || key == MIRROR);
        }
        Self { meta, node, phase }
    }
}

impl Seen {
    fn row(&self, blocks: &Blocks, now: Timestamp) -> Row {
        let seen = Sighting {
            meta: &self.meta,
            node: self.node.as_deref(),
            phase: self.phase.as_deref(),
        };
        Row::new(seen, blocks, now)
    }
}

/// Watches until somebody ends it, or until the first list fails.
pub(crate) async fn run(
    client: Client,
    namespace: Option<&str>,
    args: &Get,
) -> anyhow::Result<bool> {
    let pods: Api<DynamicObject> = api(&client, namespace);
    let mut config = watcher::Config::default()
        .labels(&find::labels(args.selector.as_deref()))
        .page_size(find::PAGE);
    config.field_selector.clone_from(&args.field_selector);
    let mut pods = pin!(watcher(pods, config).default_backoff());
    let blocked: Api<Told> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let about_blocks = watcher::Config::default().fields(&format!("reason={}", blocks::REASON));
    let mut blocked = pin!(watcher(blocked, about_blocks).default_backoff());
    let mut tick = tokio::time::interval(TICK);
    let mut screen = Screen::new(namespace, &args.output, !args.no_headers);
    let named: Vec<_> = args.pods.iter().map(|name| find::bare(name)).collect();
    let meant = |pod: &DynamicObject| named.is_empty() || named.contains(&&*pod.name_any());
    loop {
        tokio::select! {
            Some(event) = pods.next() => match event {
                Ok(event) => screen.take(event, meant)?,
                Err(watcher::Error::InitialListFailed(error)) if !screen.listed => {
                    return Err(error.into());
                }
                Err(error) => screen.interrupted(&error)?,
            },
            // Who may not read Events sees blocked pods as due.
            Some(Ok(event)) = blocked.next() => {
                if let Event::Apply(event) | Event::InitApply(event) = event {
                    screen.blocks.learn(event);
                }
            }
            _ = tick.tick() => screen.update()?,
        }
    }
}

/// What was shown, and what is to be shown.
struct Screen<'a> {
    namespace: Option<&'a str>,
    output: &'a Output,
    blocks: Blocks,
    pods: BTreeMap<String, Seen>,
    /// What a list that is under way has named so far.
    named: BTreeMap<String, Seen>,
    /// Whether there was a complete list.
    listed: bool,
    table: Table,
    /// The rows as they were last printed.
    shown: BTreeMap<String, Row>,
    in_place: bool,
    /// So many lines stand on the terminal.
    lines: usize,
    interruption: Option<String>,
    /// Whether the heads of a table of pods are still to be printed.
    heads: bool,
}

impl<'a> Screen<'a> {
    fn new(namespace: Option<&'a str>, output: &'a Output, heads: bool) -> Self {
        let wide = matches!(output, Output::Table { wide: true });
        let is_table = matches!(output, Output::Table { .. });
        let columns = table::columns(namespace.is_none(), wide);
        Self {
            namespace,
            output,
            blocks: Blocks::default(),
            pods: BTreeMap::new(),
            named: BTreeMap::new(),
            listed: false,
            table: Table::new(columns, Style::of_stdout(), heads),
            shown: BTreeMap::new(),
            in_place: is_table && io::stdout().is_terminal(),
            lines: 0,
            interruption: None,
            heads,
        }
    }

    fn take(
        &mut self,
        event: Event<DynamicObject>,
        meant: impl Fn(&DynamicObject) -> bool,
    ) -> anyhow::Result<()> {
        match event {
            Event::Init => self.named.clear(),
            Event::InitApply(pod) if meant(&pod) => {
                self.print_object(&pod)?;
                self.named.insert(uid(&pod), pod.into());
            }
            Event::InitDone => {
                self.pods = std::mem::take(&mut self.named);
                self.listed = true;
                self.interruption = None;
                self.update()?;
            }
            Event::Apply(pod) if meant(&pod) => {
                self.print_object(&pod)?;
                self.pods.insert(uid(&pod), pod.into());
                self.interruption = None;
                self.update()?;
            }
            Event::Delete(pod) if meant(&pod) => {
                self.pods.remove(&uid(&pod));
                self.update()?;
            }
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
        }
        Ok(())
    }

    /// Prints a pod that is new or has changed, where pods themselves are asked for.
    fn print_object(&mut self, pod: &DynamicObject) -> anyhow::Result<()> {
        match self.output {
            Output::Table { .. } => Ok(()),
            Output::Name => Ok(output::print(&format!("pod/{}\n", pod.name_any()))?),
            Output::Object(format) => {
                let shown = get::as_object(pod.clone());
                let mut text = format.render(&shown, std::mem::take(&mut self.heads))?;
                if *format == Format::Yaml {
                    text.insert_str(0, "---\n");
                }
                Ok(output::print(&text)?)
            }
        }
    }

    fn interrupted(&mut self, error: &watcher::Error) -> anyhow::Result<()> {
        let text = format!("the watch was interrupted and is being restarted: {error}");
        if !self.in_place && self.interruption.is_none() {
            output::note(&text);
        }
        self.interruption = Some(text);
        self.update()
    }

    /// Shows what is not shown yet.
    fn update(&mut self) -> anyhow::Result<()> {
        if !self.listed || !matches!(self.output, Output::Table { .. }) {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut order: Vec<_> = self.pods.keys().collect();
        order.sort_by_cached_key(|uid| row::order(&self.pods[*uid].meta));
        let rows: Vec<(String, Row)> = order
            .into_iter()
            .map(|uid| (uid.clone(), self.pods[uid].row(&self.blocks, now)))
            .collect();
        match self.in_place {
            true => self.draw(rows, now),
            false => self.append(rows, now),
        }
    }

    /// Draws the table over the one before.
    fn draw(&mut self, rows: Vec<(String, Row)>, now: Timestamp) -> anyhow::Result<()> {
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| height.0.into());
        // The head, the line below, and the one of the cursor.
        let room = usize::max(height, 5) - 3;
        let hidden = rows.len().saturating_sub(room);
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        rows.truncate(room);
        let mut text = match rows.is_empty() {
            true => find::none_in(self.namespace) + "\n",
            false => self.table.render(&rows, now),
        };
        if hidden > 0 {
            text += &format!("… and {hidden} more\n");
        }
        if let Some(interruption) = &self.interruption {
            text += &output::visible(interruption);
            text.push('\n');
        }
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A"),
        };
        self.lines = text.lines().count();
        // Lines are cut at the edge, or their number would not be known.
        output::print(&format!("{up}\u{1b}[J\u{1b}[?7l{text}\u{1b}[?7h"))?;
        Ok(())
    }

    /// Prints the rows that are others than before.
    fn append(&mut self, rows: Vec<(String, Row)>, now: Timestamp) -> anyhow::Result<()> {
        let first = self.shown.is_empty();
        let mut before = std::mem::take(&mut self.shown);
        let mut changed = Vec::new();
        for (uid, row) in rows {
            if before.remove(&uid).as_ref() != Some(&row) {
                changed.push(row.clone());
            }
            self.shown.insert(uid, row);
        }
        changed.extend(before.into_values().map(Row::gone));
        if changed.is_empty() {
            return Ok(());
        }
        let text = match first && self.lines == 0 {
            true => self.table.render(&changed, now),
            false => self.table.more(&changed, now),
        };
        self.lines += text.lines().count();
        Ok(output::print(&text)?)
    }
}

fn uid(pod: &DynamicObject) -> String {
    pod.uid().unwrap_or_default()
}
