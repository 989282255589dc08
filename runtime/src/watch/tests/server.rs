//! An API server that does as it is told.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{client, client::ClientBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;

/// What a request is answered. Of a stream, each line comes so many milliseconds after the one before.
#[derive(Clone)]
pub(super) enum Reply {
    Status(u16, Value),
    Unreachable,
    Never,
    Stream(Vec<(u64, Value)>, End),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    StaysOpen,
    Closes,
    Breaks,
}

pub(super) struct State {
    pub(super) begun: Instant,
    pub(super) asked: Vec<(Duration, String)>,
    pub(super) replies: VecDeque<Reply>,
    pub(super) then: Reply,
}

/// The server. Clones are the same.
#[derive(Clone)]
pub(super) struct Server(pub(super) Arc<Mutex<State>>);

impl Server {
    /// One that answers its first requests so, one after the other, and all others as the last says.
    pub(super) fn new(replies: Vec<Reply>, then: Reply) -> Self {
        Self(Arc::new(Mutex::new(State {
            begun: Instant::now(),
            asked: Vec::new(),
            replies: replies.into(),
            then,
        })))
    }

    pub(super) fn then(&self, reply: Reply) {
        self.0.lock().unwrap().then = reply;
    }

    /// When requests came, in seconds.
    pub(super) fn asked(&self) -> Vec<f64> {
        let state = self.0.lock().unwrap();
        state.asked.iter().map(|(at, _)| at.as_secs_f64()).collect()
    }

    pub(super) fn queries(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.asked.iter().map(|(_, query)| query.clone()).collect()
    }

    pub(super) fn reply(&self, query: &str) -> Reply {
        let mut state = self.0.lock().unwrap();
        let at = state.begun.elapsed();
        state.asked.push((at, query.to_owned()));
        state.replies.pop_front().unwrap_or(state.then.clone())
    }

    pub(super) fn maps(&self, watches: &Watches) -> Api<ConfigMap> {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<client::Body>| {
            let reply = server.reply(request.uri().query().unwrap_or_default());
            async move {
                match reply {
                    Reply::Status(status, body) => {
                        let response = Response::builder().status(status);
                        Ok(response.body(Body::from(body.to_string())).unwrap())
                    }
                    Reply::Unreachable => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                    Reply::Never => std::future::pending().await,
                    Reply::Stream(lines, end) => Ok(Response::new(stream_of(lines, end))),
                }
            }
        });
        let client = ClientBuilder::new(service, "default")
            .with_layer(&watches.reach().layer())
            .build();
        Api::all(client)
    }
}

pub(super) fn stream_of(lines: Vec<(u64, Value)>, end: End) -> Body {
    let lines = stream::iter(lines).then(async |(after, line)| {
        sleep(Duration::from_millis(after)).await;
        Ok(format!("{line}\n"))
    });
    let end = stream::once(async move {
        match end {
            End::StaysOpen => std::future::pending().await,
            End::Closes => None,
            End::Breaks => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
        }
    });
    Body::from_stream(lines.chain(end.filter_map(ready)))
}

pub(super) fn map(name: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "uid": name, "resourceVersion": version}})
}

pub(super) fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

pub(super) fn bookmark(version: &str, annotations: Value) -> Value {
    let meta = json!({"resourceVersion": version, "annotations": annotations});
    event(
        "BOOKMARK",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}),
    )
}

/// A list of these, and then these events.
pub(super) fn listing(maps: &[(&str, &str)], then: Vec<(u64, Value)>, end: End) -> Reply {
    let listed = maps
        .iter()
        .map(|(name, version)| (0, event("ADDED", map(name, version))));
    let done = json!({"k8s.io/initial-events-end": "true"});
    let done = [(0, bookmark("1", done))];
    Reply::Stream(listed.chain(done).chain(then).collect(), end)
}

pub(super) fn alive(maps: &[(&str, &str)]) -> Reply {
    let minutes = (0..60)
        .map(|_| (60_000, bookmark("1", json!({}))))
        .collect();
    listing(maps, minutes, End::StaysOpen)
}

pub(super) fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "scripted",
        "reason": "Scripted"})
}
