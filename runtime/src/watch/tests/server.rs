//! Watches of ConfigMaps of the scripted API server.

use curfew_api_server::{Answer, ApiServer, StreamEnd};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::ClientBuilder;
use serde_json::{Value, json};

use super::*;

/// The server. Clones are the same.
#[derive(Clone)]
pub(super) struct Server(ApiServer);

impl Server {
    /// One that answers its first requests so, one after the other, and all others as the last says.
    pub(super) fn new(replies: Vec<Answer>, then: Answer) -> Self {
        let server = ApiServer::new();
        server.script_in_turn(replies, then);
        Self(server)
    }

    pub(super) fn then(&self, reply: Answer) {
        self.0.script(move |_| reply.clone());
    }

    /// When requests came, in seconds.
    pub(super) fn asked(&self) -> Vec<f64> {
        let asked = self.0.asked().into_iter();
        asked.map(|asked| asked.at.as_secs_f64()).collect()
    }

    pub(super) fn queries(&self) -> Vec<String> {
        let asked = self.0.asked().into_iter();
        asked.map(|asked| asked.query).collect()
    }

    pub(super) fn maps(&self, watches: &Watches) -> Api<ConfigMap> {
        let client = ClientBuilder::new(self.0.clone(), "default")
            .with_layer(&watches.reach().layer())
            .build();
        Api::all(client)
    }
}

pub(super) fn map(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "uid": name, "resourceVersion": version}})
}

/// A stream of these lines, each so many milliseconds after the one before.
pub(super) fn lines(lines: Vec<(u64, Value)>, end: StreamEnd) -> Answer {
    let lines = lines.into_iter();
    let lines = lines.map(|(after, line)| (Duration::from_millis(after), line));
    Answer::stream(lines.collect(), end)
}

/// A list of these, and then these events.
pub(super) fn listing(maps: &[(&str, &str)], then: Vec<(u64, Value)>, end: StreamEnd) -> Answer {
    let listed = maps
        .iter()
        .map(|(name, version)| (0, event("ADDED", &map(name, version))));
    let done = [(0, end_of_list(1))];
    lines(listed.chain(done).chain(then).collect(), end)
}

pub(super) fn alive(maps: &[(&str, &str)]) -> Answer {
    let minutes = (0..60).map(|_| (60_000, bookmark(1))).collect();
    listing(maps, minutes, StreamEnd::StaysOpen)
}
