//! What the log tells of an interaction.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use serde_json::{Value, json};
use tracing::Dispatch;

use super::script::{Agent, Api, Script, exec};

/// What this thread logs.
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

/// With a single subscriber, tracing would remember for all threads that the first thread wants no lines.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

#[tokio::test]
async fn what_a_policy_denies_is_told_with_its_command_and_node() {
    LazyLock::force(&SECOND);
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || written.clone())
        .finish();
    let _kept = tracing::subscriber::set_default(subscriber);
    let script = Script::start(Agent::Stores, Api::default()).await;
    let deny = json!({"action": "Deny", "recordCommand": "Name"});
    script.policies(&[("no-shells", deny)], &[]);
    script.admit(exec()).await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.find(|line| line["event"] == "forbidden").unwrap();
    for (key, value) in [
        ("command", "echo"),
        ("node", "node-1"),
        ("pod", "wh-test/one"),
        ("policy", "no-shells"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
}
