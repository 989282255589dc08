//! One interaction, followed through the log by its request.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use curfew_core::metadata;
use serde_json::Value;
use tracing::{Dispatch, subscriber::DefaultGuard};

use crate::testing::{
    api::Answer,
    shell,
    stage::{NODE, Stage, notice},
};

/// What this thread logs, which is all that a stage does.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// While there is only one subscriber, tracing asks that of whichever thread comes first whether anybody wants a
/// line, and remembers the answer for all: on the threads of other tests there is none. So there are two.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

impl Log {
    fn kept(&self) -> DefaultGuard {
        LazyLock::force(&SECOND);
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// The lines about a pod.
    fn about(&self, pod: &str) -> Vec<Value> {
        let text = self.0.lock().unwrap();
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .filter(|line: &Value| line["uid"] == format!("uid-{pod}"))
            .collect()
    }
}

fn messages(lines: &[Value]) -> Vec<&str> {
    let messages = lines.iter().map(|line| line["message"].as_str());
    messages.collect::<Option<_>>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_id_leads_from_the_notice_to_the_end() {
    let log = Log::default();
    let _kept = log.kept();
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(700.0).await;
    agent.end().await;

    let lines = log.about("a");
    assert_eq!(messages(&lines), ["stored", "marked", "evicted", "gone"]);
    for line in &lines {
        assert_eq!(
            (&line["node"], &line["pod"]),
            (&NODE.into(), &"shop/a".into())
        );
        let ids = [&line["id"], &line["ids"]].map(|ids| ids.as_str().unwrap_or_default());
        assert!(ids.contains(&"request-0"), "{line}");
    }
    let stored = &lines[0];
    assert_eq!(
        (&stored["timer"], &stored["user"]),
        (&"set".into(), &"alice".into())
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_told_with_the_same_id() {
    let log = Log::default();
    let _kept = log.kept();
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.budget(1, "IfHealthyBudget", 0);
    stage.api.script_evictions(|_| Answer::no_room());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(660.0).await;
    agent.end().await;

    let lines = log.about("a");
    assert_eq!(messages(&lines), ["stored", "marked", "eviction blocked"]);
    assert_eq!(lines[2]["id"], "request-0");
}

#[tokio::test(start_paused = true)]
async fn later_interactions_have_their_own_id_on_the_lines_about_all() {
    let log = Log::default();
    let _kept = log.kept();
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(30.0).await;
    stage.exec(&agent, "a").await;
    // The API server asked twice.
    agent
        .controller
        .record(notice("a", shell(30)))
        .await
        .unwrap();
    stage.until(700.0).await;
    agent.end().await;

    let lines = log.about("a");
    let stored: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "stored")
        .collect();
    let timers: Vec<_> = stored.iter().map(|line| line["timer"].as_str()).collect();
    assert_eq!(timers, [Some("set"), Some("stands"), Some("stands")]);
    for told in ["evicted", "gone"] {
        let line = lines.iter().find(|line| line["message"] == told).unwrap();
        assert_eq!(line["id"], "request-0");
        assert_eq!(line["ids"], "request-0 request-30");
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_from_an_extension_is_told_by_its_name() {
    let log = Log::default();
    let _kept = log.kept();
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(30.0).await;
    let mut pod = stage.api.list("pods").remove(0);
    pod["metadata"]["annotations"][metadata::EXTENSION] = "30m".into();
    stage.api.put("pods", pod);
    stage.until(60.0).await;
    agent.end().await;

    let lines = log.about("a");
    let line = lines.iter().find(|line| line["message"] == "extension");
    let line = line.unwrap();
    assert_eq!(line["consequence"], "eviction", "{line}");
    assert_eq!(line["eviction_time"], "2027-01-15T08:40:00Z", "{line}");
}
