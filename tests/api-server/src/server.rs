//! The server: it owns the objects, the script and the log of requests.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::pending,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::{Method, Request, Response, header::CONTENT_TYPE, request::Parts},
};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tower::{BoxError, Service};

use crate::{
    answer::{Answer, What, streamed},
    objects::Objects,
    request::{Asked, Target},
    watches,
};

type Script = Box<dyn FnMut(&Asked) -> Answer + Send>;
type Admission = Box<dyn FnMut(&Asked) -> Option<Answer> + Send>;

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    /// How many requests are open, by method and subresource.
    open: BTreeMap<(String, String), usize>,
}

impl Log {
    fn open(&mut self, index: usize) -> &mut usize {
        let asked = &self.asked[index];
        let kind = (asked.method.clone(), asked.target.subresource.clone());
        self.open.entry(kind).or_default()
    }
}

struct Shared {
    begun: Instant,
    objects: Mutex<Objects>,
    log: Mutex<Log>,
    // Locks of their own: a script may look at the objects and change them.
    script: Mutex<Script>,
    admission: Mutex<Admission>,
    /// Told of each change; its value counts how often all watches were broken off.
    changed: watch::Sender<u32>,
}

/// The server. Clones are the same server. It is a service of HTTP requests, so that a client can have layers:
/// `ClientBuilder::new(server.clone(), "default")`.
#[derive(Clone)]
pub struct ApiServer(Arc<Shared>);

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

/// A request that is open until this is dropped.
pub(crate) struct Open {
    pub(crate) server: ApiServer,
    index: usize,
    status: u16,
}

impl Open {
    pub(crate) fn asked(&self) -> Asked {
        self.server.log().asked[self.index].clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = self.server.now();
        let mut log = self.server.log();
        log.asked[self.index].ended = Some((now, self.status));
        *log.open(self.index) -= 1;
    }
}

impl ApiServer {
    /// One without objects, that answers honestly.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            objects: Mutex::default(),
            log: Mutex::default(),
            script: Mutex::new(Box::new(|_| Answer::honest())),
            admission: Mutex::new(Box::new(|_| None)),
            changed: watch::Sender::new(0),
        }))
    }

    /// A client without layers, whose namespace is `default`.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// From now on each request is answered as this says.
    pub fn script(&self, script: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.0.script.lock().unwrap() = Box::new(script);
    }

    /// From now on each eviction is answered as this says, and the rest honestly.
    pub fn script_evictions(&self, mut script: impl FnMut(&Asked) -> Answer + Send + 'static) {
        self.script(move |asked| match asked.is_eviction() {
            true => script(asked),
            false => Answer::honest(),
        });
    }

    /// From now on requests get these answers in turn, and when there are no more, the last one.
    pub fn script_in_turn(&self, first: impl Into<VecDeque<Answer>>, last: Answer) {
        let mut first = first.into();
        self.script(move |_| first.pop_front().unwrap_or_else(|| last.clone()));
    }

    /// From now on this decides which requests are admitted, after the script has said that they are carried out: what
    /// it returns is the refusal.
    pub fn admission(&self, admission: impl FnMut(&Asked) -> Option<Answer> + Send + 'static) {
        *self.0.admission.lock().unwrap() = Box::new(admission);
    }

    /// From now on the server is away: watches break off and each request is answered so.
    pub fn go_away(&self, answer: Answer) {
        self.script(move |_| answer.clone());
        self.0.changed.send_modify(|breaks| *breaks += 1);
    }

    /// From now on each request is answered honestly.
    pub fn come_back(&self) {
        self.script(|_| Answer::honest());
    }

    /// Makes an object, or changes one, whatever the script says. It gets the next version, or the one that it has
    /// if that is later.
    pub fn put(&self, resource: &str, object: Value) -> Value {
        let object = self.objects().put(resource, object);
        self.0.changed.send_modify(|_| {});
        object
    }

    /// Takes the object away.
    pub fn remove(&self, target: &Target) -> Option<Value> {
        let object = self.objects().remove(target);
        self.0.changed.send_modify(|_| {});
        object
    }

    /// The object as it is now.
    pub fn get(&self, target: &Target) -> Option<Value> {
        self.objects().get(target).cloned()
    }

    /// The objects of a resource, by namespace and name.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        self.objects().all(resource)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log().asked.clone()
    }

    /// Every request for an eviction so far.
    pub fn evictions(&self) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(Asked::is_eviction);
        asked
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.objects.lock().unwrap()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u32> {
        self.0.changed.subscribe()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap()
    }

    fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    async fn serve(self, head: Parts, body: &[u8]) -> io::Result<Response<Body>> {
        let mut open = self.open(head, body);
        let asked = open.asked();
        let answer = self.answer(&asked);
        // Even a sleep of no length may take a millisecond.
        if !answer.after.is_zero() {
            tokio::time::sleep(answer.after).await;
        }
        let mut headers = answer.headers;
        if !matches!(answer.what, What::Says(..)) {
            headers.push((CONTENT_TYPE.as_str(), "application/json".to_owned()));
        }
        let (status, body) = match answer.what {
            What::Honest if asked.is_watch() => {
                open.status = 200;
                (200, Body::from_stream(watches::watch(open)))
            }
            What::Streams(lines, end) => {
                open.status = 200;
                (200, streamed(lines, end, open))
            }
            what => {
                let (status, body) = self.whole(&asked, what).await?;
                open.status = status;
                (status, Body::from(body))
            }
        };
        let response = Response::builder().status(status);
        let response = headers
            .into_iter()
            .fold(response, |response, (name, value)| {
                response.header(name, value)
            });
        response.body(body).map_err(io::Error::other)
    }

    /// An answer that is no stream.
    async fn whole(&self, asked: &Asked, what: What) -> io::Result<(u16, String)> {
        match what {
            What::Honest => {
                let (status, body) = self.carry_out(asked);
                Ok((status, body.to_string()))
            }
            What::DoneAs(code) => {
                let (status, body) = self.carry_out(asked);
                let status = if status < 300 { code } else { status };
                Ok((status, body.to_string()))
            }
            What::Says(status, body) => Ok((status, body)),
            What::Lost => {
                self.carry_out(asked);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            What::Panics => panic!("a bug in the client, as a test has it"),
            What::Broken => Err(io::ErrorKind::ConnectionRefused.into()),
            What::Never | What::Streams(..) => pending().await,
        }
    }

    fn open(&self, head: Parts, body: &[u8]) -> Open {
        let asked = Asked::new(self.now(), head, body);
        let mut log = self.log();
        let index = log.asked.len();
        log.asked.push(asked);
        let open = log.open(index);
        *open += 1;
        log.asked[index].open = *open;
        Open {
            server: self.clone(),
            index,
            status: 0,
        }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let answer = (self.0.script.lock().unwrap())(asked);
        if !answer.is_carried_out() || asked.is(&Method::GET) {
            return answer;
        }
        match (self.0.admission.lock().unwrap())(asked) {
            Some(refusal) => refusal.after(answer.after),
            None => answer,
        }
    }

    fn carry_out(&self, asked: &Asked) -> (u16, Value) {
        let mut objects = self.objects();
        let before = objects.version();
        let reply = objects.carry_out(asked);
        let changed = objects.version() > before;
        drop(objects);
        if changed {
            self.0.changed.send_modify(|_| {});
            if asked.is_eviction() || asked.is(&Method::DELETE) {
                self.end(&asked.target);
            }
        }
        reply
    }

    /// Takes a pod away when its grace period ends.
    fn end(&self, target: &Target) {
        let pod = Target::object(&target.resource, &target.namespace, &target.name);
        let Some(ending) = self.get(&pod) else {
            return;
        };
        let grace = ending["spec"]["terminationGracePeriodSeconds"].as_u64();
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(grace.unwrap_or_default())).await;
            let now = server.get(&pod).unwrap_or_default();
            if now["metadata"]["uid"] == ending["metadata"]["uid"] {
                server.remove(&pod);
            }
        });
    }
}

impl<B> Service<Request<B>> for ApiServer
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?;
            server.serve(head, &body.to_bytes()).await
        })
    }
}
