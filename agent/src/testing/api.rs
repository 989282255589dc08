//! An API server in memory and in the runtime's time, which tests may pause. It keeps objects as the
//! true one does where the agent relies on it, answers as a script says where there is one, and writes
//! down what it was asked.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use curfew_runtime::{client::patience, reach::Reachability};
use futures::{Stream, stream};
use kube::{Client, client, client::ClientBuilder};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::cluster::acting_as::AS_USER;

use super::{
    answer::{Answer, What},
    model::{Model, Target, selects},
};

/// A request and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// When, since the server began.
    pub(crate) at: Duration,
    pub(crate) method: String,
    pub(crate) target: Target,
    /// As whom it was asked, if not as the agent's own account.
    pub(crate) user: Option<String>,
    pub(crate) body: Value,
    /// How many requests of this method and subresource were open then, with this one.
    pub(crate) open: usize,
    /// When it ended and with which status: 0 when it broke or the client gave up.
    pub(crate) ended: Option<(Duration, u16)>,
}

impl Asked {
    pub(crate) fn is_eviction(&self) -> bool {
        self.method == "POST" && self.target.subresource == "eviction"
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.ended
            .is_some_and(|(_, status)| status == 200 || status == 201)
    }
}

type Script = Box<dyn FnMut(&Asked) -> Answer + Send>;

struct State {
    model: Model,
    script: Script,
    asked: Vec<Asked>,
    /// How many requests are open, by method and subresource.
    open: BTreeMap<(String, String), usize>,
}

impl State {
    fn open(&mut self, method: &str, subresource: &str) -> &mut usize {
        let kind = (method.to_owned(), subresource.to_owned());
        self.open.entry(kind).or_default()
    }
}

struct Shared {
    begun: Instant,
    state: Mutex<State>,
    /// Told of each change; its value counts how often all watches were broken off.
    changed: watch::Sender<u32>,
}

/// The server. Clones are the same server.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Shared>);

/// A request that is open until this is dropped.
struct Open {
    server: ApiServer,
    index: usize,
    status: u16,
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = self.server.now();
        let mut state = self.server.state();
        let asked = &mut state.asked[self.index];
        asked.ended = Some((now, self.status));
        let (method, subresource) = (asked.method.clone(), asked.target.subresource.clone());
        *state.open(&method, &subresource) -= 1;
    }
}

impl ApiServer {
    /// One that does what it is asked.
    pub(crate) fn new() -> Self {
        let state = State {
            model: Model::default(),
            script: Box::new(|_| Answer::honest()),
            asked: Vec::new(),
            open: BTreeMap::new(),
        };
        Self(Arc::new(Shared {
            begun: Instant::now(),
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        }))
    }

    pub(crate) fn client(&self, reach: &Reachability) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().serve(request));
        ClientBuilder::new(service, "default")
            .with_layer(&patience())
            .with_layer(&reach.layer())
            .build()
    }

    /// From now on each request is answered as this says.
    pub(crate) fn script(&self, script: impl FnMut(&Asked) -> Answer + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// From now on each eviction is answered as this says, and the rest honestly.
    pub(crate) fn script_evictions(
        &self,
        mut script: impl FnMut(&Asked) -> Answer + Send + 'static,
    ) {
        self.script(move |asked| match asked.is_eviction() {
            true => script(asked),
            false => Answer::honest(),
        });
    }

    /// From now on the server is away: watches break off and each request is answered so.
    pub(crate) fn go_away(&self, answer: Answer) {
        self.script(move |_| answer.clone());
        self.0.changed.send_modify(|breaks| *breaks += 1);
    }

    /// From now on each request is answered honestly.
    pub(crate) fn come_back(&self) {
        self.script(|_| Answer::honest());
    }

    /// Makes an object, or changes one.
    pub(crate) fn put(&self, resource: &str, object: Value) {
        self.state().model.put(resource, object);
        self.0.changed.send_modify(|_| {});
    }

    /// Takes the object away.
    pub(crate) fn remove(&self, target: &Target) {
        self.state().model.remove(target);
        self.0.changed.send_modify(|_| {});
    }

    /// The objects of a resource, by namespace and name.
    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        self.state().model.list(resource, "")
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Every request for an eviction so far.
    pub(crate) fn evictions(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(Asked::is_eviction);
        asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    async fn serve(self, request: Request<client::Body>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(io::Error::other)?;
        let query = head.uri.query().unwrap_or_default();
        let mut open = self.open(
            head.method.as_str(),
            Target::parse(head.uri.path()),
            head.headers
                .get(AS_USER)
                .map(|user| user.to_str().unwrap().to_owned()),
            serde_json::from_slice(&body).unwrap_or_default(),
        );
        let answer = {
            let mut state = self.state();
            let asked = state.asked[open.index].clone();
            (state.script)(&asked)
        };
        tokio::time::sleep(answer.after).await;
        let (status, body) = match answer.what {
            What::AsTheModelSays if query.contains("watch=") => {
                open.status = 200;
                return Ok(Response::new(Body::from_stream(self.watch(query, open))));
            }
            What::AsTheModelSays => self.carry_out(&open),
            What::DoneAs(code) => match self.carry_out(&open) {
                (200..300, body) => (code, body),
                failed => failed,
            },
            What::Says(status, body) => (status, body),
            What::Lost => {
                self.carry_out(&open);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            What::Panics => panic!("a bug in the client, as a test has it"),
            What::Broken => return Err(io::ErrorKind::ConnectionRefused.into()),
            What::Never => pending().await,
        };
        open.status = status;
        let mut response = Response::builder().status(status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(body)).map_err(io::Error::other)
    }

    fn open(&self, method: &str, target: Target, user: Option<String>, body: Value) -> Open {
        let at = self.now();
        let mut state = self.state();
        let open = state.open(method, &target.subresource);
        *open += 1;
        let open = *open;
        state.asked.push(Asked {
            at,
            method: method.to_owned(),
            target,
            user,
            body,
            open,
            ended: None,
        });
        Open {
            server: self.clone(),
            index: state.asked.len() - 1,
            status: 0,
        }
    }

    fn carry_out(&self, open: &Open) -> (u16, String) {
        let mut state = self.state();
        let Asked {
            method,
            target,
            body,
            ..
        } = state.asked[open.index].clone();
        let before = state.model.version();
        let (status, body) = state.model.answer(&method, &target, &body);
        let changed = state.model.version() > before;
        drop(state);
        if changed {
            self.0.changed.send_modify(|_| {});
            if target.subresource == "eviction" {
                self.bury(target);
            }
        }
        (status, body.to_string())
    }

    /// Takes an evicted pod away when its grace period ends.
    fn bury(&self, target: Target) {
        let server = self.clone();
        let pod = Target {
            subresource: String::new(),
            ..target
        };
        let grace = server
            .state()
            .model
            .get(&pod)
            .and_then(|pod| pod.pointer("/spec/terminationGracePeriodSeconds")?.as_u64());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(grace.unwrap_or_default())).await;
            server.remove(&pod);
        });
    }

    /// The events of a watch: those there were since its version or the objects there are, and then
    /// those to come, until its time is over or all watches are broken off.
    fn watch(
        &self,
        query: &str,
        open: Open,
    ) -> impl Stream<Item = io::Result<String>> + Send + use<> {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
            value.unwrap_or_default().replace("%3D", "=")
        };
        let selector = parameter("fieldSelector");
        let seconds = parameter("timeoutSeconds").parse().unwrap_or(290);
        let mut changed = self.0.changed.subscribe();
        let breaks = *changed.borrow_and_update();
        let resource = self.state().asked[open.index].target.resource.clone();
        let mut ready = VecDeque::new();
        let mut version = parameter("resourceVersion").parse().unwrap_or(0);
        if parameter("sendInitialEvents") == "true" {
            let state = self.state();
            version = state.model.version();
            for object in state.model.list(&resource, &selector) {
                ready.push_back(json!({"type": "ADDED", "object": object}));
            }
            let end_of_list = json!({"k8s.io/initial-events-end": "true"});
            ready.push_back(bookmark(version, end_of_list));
        }
        let watching = Watching {
            open,
            resource,
            selector,
            version,
            ready,
            changed,
            breaks,
            until: Instant::now() + Duration::from_secs(seconds),
        };
        stream::unfold(Some(watching), |watching| async { watching?.next().await })
    }
}

/// How long nothing happens until a watch tells that it lives.
const BOOKMARKS: Duration = Duration::from_secs(60);

fn bookmark(version: u64, annotations: Value) -> Value {
    json!({"type": "BOOKMARK", "object": {
        "kind": "Bookmark", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "annotations": annotations},
    }})
}

/// A watch that is open.
struct Watching {
    open: Open,
    resource: String,
    selector: String,
    version: u64,
    ready: VecDeque<Value>,
    changed: watch::Receiver<u32>,
    breaks: u32,
    until: Instant,
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
                () = tokio::time::sleep(BOOKMARKS) => {
                    self.ready.push_back(bookmark(self.version, json!({})));
                }
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }

    fn gather(&mut self) {
        let state = self.open.server.state();
        let news = state.model.changes.iter().filter(|change| {
            change.version > self.version
                && change.resource == self.resource
                && selects(&self.selector, &change.object)
        });
        self.ready
            .extend(news.map(|change| json!({"type": change.kind, "object": change.object})));
        self.version = state.model.version();
    }
}
