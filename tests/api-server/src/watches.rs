//! Watches of the objects there are.

use std::{collections::VecDeque, io, time::Duration};

use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{objects::Selection, server::Open};

/// How long nothing happens until a watch tells that it lives.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// How long a watch lasts that does not say it, in seconds.
const LASTS: u64 = 290;

/// A line of a watch.
pub fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

/// A bookmark of this version.
pub fn bookmark(version: u64) -> Value {
    let meta = json!({"resourceVersion": version.to_string()});
    event(
        "BOOKMARK",
        &json!({"apiVersion": "v1", "kind": "Bookmark", "metadata": meta}),
    )
}

/// The bookmark that ends the list with which a watch may begin (`sendInitialEvents`, KEP-3157).
pub fn end_of_list(version: u64) -> Value {
    let mut end = bookmark(version);
    end["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    end
}

/// A watch that is open.
struct Watching {
    open: Open,
    selection: Selection,
    version: u64,
    ready: VecDeque<Value>,
    changed: watch::Receiver<u32>,
    breaks: u32,
    bookmarks: bool,
    until: Instant,
}

/// The events of a watch: those there were since its version, or the objects there are, and then those to come,
/// until its time is over or all watches are broken off.
pub(crate) fn watch(open: Open) -> impl Stream<Item = io::Result<String>> + Send + use<> {
    let asked = open.asked();
    let mut changed = open.server.changes();
    let seconds = asked.parameter("timeoutSeconds").parse().unwrap_or(LASTS);
    let breaks = *changed.borrow_and_update();
    let mut watching = Watching {
        selection: Selection::of(&asked),
        version: asked.parameter("resourceVersion").parse().unwrap_or(0),
        ready: VecDeque::new(),
        changed,
        breaks,
        bookmarks: asked.parameter("allowWatchBookmarks") == "true",
        until: Instant::now() + Duration::from_secs(seconds),
        open,
    };
    let asks_for_list = asked.parameter("sendInitialEvents") == "true";
    if asks_for_list || watching.version == 0 {
        watching.list();
    }
    if asks_for_list {
        watching.ready.push_back(end_of_list(watching.version));
    }
    stream::unfold(Some(watching), |watching| async { watching?.next().await })
}

impl Watching {
    async fn next(mut self) -> Option<(io::Result<String>, Option<Self>)> {
        loop {
            if *self.changed.borrow_and_update() != self.breaks {
                return Some((Err(io::ErrorKind::ConnectionReset.into()), None));
            }
            self.gather();
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(format!("{event}\n")), Some(self)));
            }
            tokio::select! {
                _ = self.changed.changed() => {}
                () = tokio::time::sleep(BOOKMARKS), if self.bookmarks => {
                    self.ready.push_back(bookmark(self.version));
                }
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }

    fn list(&mut self) {
        let objects = self.open.server.objects();
        self.version = objects.version();
        let listed = objects.list(&self.selection);
        self.ready
            .extend(listed.iter().map(|object| event("ADDED", object)));
    }

    fn gather(&mut self) {
        let objects = self.open.server.objects();
        let events = objects.events(&self.selection, self.version);
        self.ready
            .extend(events.iter().map(|(kind, object)| event(kind, object)));
        self.version = objects.version();
    }
}
