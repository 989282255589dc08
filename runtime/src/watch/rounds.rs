//! The connections of one watch, one after the other.

use std::{collections::VecDeque, fmt::Debug, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Error as CallError, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    runtime::watcher::{Error, Event, Result},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{SILENCE, Watch, seen::Seen};
use crate::{api, error_chain};

/// How long a connection is kept until the objects are listed anew: between these, so that the watches of many
/// processes do not list at the same time.
const ROUND: (Duration, Duration) = (Duration::from_secs(180), Duration::from_secs(300));
/// How much longer the API server is asked to keep a connection than it is used.
const SPARE: Duration = Duration::from_secs(30);
/// How long the API server may take to begin a watch, and from one object of a list to the next.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many objects are listed by one call, where the API server does not stream lists and nobody says it.
const PAGE: u32 = 500;

/// The longest first pause, and the longest of all. Each is cut by chance to as little as half.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// A connection that was good for so long makes earlier failures forgotten.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause once the API server has answered another call.
const ONCE_BACK: Duration = Duration::from_millis(500);
/// The pause when somebody waits for the watch.
const WANTED: Duration = Duration::from_millis(50);
/// An attempt that takes longer is begun anew when the API server has answered another call meanwhile.
const HANGS: Duration = Duration::from_secs(2);

/// How often it is told in the log that a watch still fails.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What the API server should have sent and has not.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error("no answer within {0:?}")]
    Answer(Duration),
    #[error("neither an event nor a bookmark within {0:?}")]
    Watch(Duration),
    #[error("the connection ended before the list was complete")]
    List,
}

type Events<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

enum Phase<K> {
    /// Nothing is open; the next attempt is after this pause.
    Pause(Duration),
    Begin,
    /// The objects are streamed.
    Streaming(Events<K>, Seen),
    /// The objects were listed at this version.
    Listed(VecDeque<K>, Seen, String),
    /// All objects were told.
    Complete(Events<K>),
    Open {
        events: Events<K>,
        since: Instant,
        until: Instant,
    },
}

pub(super) struct Rounds<K> {
    watch: Watch,
    api: Api<K>,
    which: ListParams,
    /// Whether the API server can stream lists, as far as is known.
    streams: bool,
    phase: Phase<K>,
    /// None before the first list.
    seen: Option<Seen>,
    /// How many attempts failed in a row.
    failures: u32,
    returns: watch::Receiver<u64>,
    failing: Option<Failing>,
}

/// What was logged of failures.
struct Failing {
    since: Instant,
    told: Instant,
    error: String,
}

impl<K> Rounds<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    pub(super) fn new(watch: Watch, api: Api<K>, which: ListParams) -> Self {
        watch.life.read(true);
        Self {
            returns: watch.reach.returns(),
            watch,
            api,
            which,
            streams: true,
            phase: Phase::Pause(Duration::ZERO),
            seen: None,
            failures: 0,
            failing: None,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Event<K>> {
        loop {
            let phase = std::mem::replace(&mut self.phase, Phase::Begin);
            let told = match phase {
                Phase::Pause(pause) => {
                    self.pause(pause).await;
                    // Told before anything is asked: what is learned elsewhere after this may be later than the
                    // list.
                    Some(Ok(Event::Init))
                }
                Phase::Begin => match self.begin().await {
                    Ok(phase) => {
                        self.phase = phase;
                        None
                    }
                    Err(error) => Some(Err(self.failed(error, None))),
                },
                Phase::Streaming(events, listed) => self.streamed(events, listed).await,
                Phase::Listed(mut objects, mut listed, version) => match objects.pop_front() {
                    Some(object) => {
                        listed.insert(&object);
                        self.phase = Phase::Listed(objects, listed, version);
                        Some(Ok(Event::InitApply(object)))
                    }
                    None => Some(match self.resume(&version).await {
                        Ok(events) => self.complete(events, listed),
                        Err(error) => Err(self.failed(error, None)),
                    }),
                },
                Phase::Complete(events) => {
                    self.begun();
                    let now = Instant::now();
                    self.phase = Phase::Open {
                        events,
                        since: now,
                        until: now + round(),
                    };
                    None
                }
                Phase::Open {
                    events,
                    since,
                    until,
                } => self.open(events, since, until).await,
            };
            if let Some(told) = told {
                return told;
            }
        }
    }

    /// Waits before the next attempt. It ends early when the API server answers another call, or when somebody
    /// waits for the watch.
    async fn pause(&mut self, pause: Duration) {
        let begun = Instant::now();
        // What this sees stays news for the attempt after the pause.
        let mut returns = self.returns.clone();
        let back = async {
            match returns.changed().await {
                Ok(()) => sleep(some_of(ONCE_BACK)).await,
                Err(_) => std::future::pending().await,
            }
        };
        let wanted = async {
            self.watch.life.wanted().await;
            sleep_until(begun + WANTED).await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = back => {}
            () = wanted => {}
        }
    }

    /// Begins a connection with a list. It is consistent, so it is never older than what was known: where the
    /// server streams lists, it serves them from its memory once that is up to date.
    async fn begin(&mut self) -> Result<Phase<K>> {
        if self.returns.has_changed().unwrap_or(false) {
            // What it does not serve yet it will in a moment, such as a resource that a definition defines.
            self.failures = 0;
            self.returns.mark_unchanged();
        }
        if self.streams {
            match self.connect(self.params(true), "").await {
                Ok(events) => return Ok(Phase::Streaming(events, Seen::default())),
                // A server that cannot stream lists, as 1.33 does by default, says that it is not allowed.
                Err(CallError::Api(status)) if matches!(status.code, 400 | 422) => {
                    self.streams = false;
                }
                Err(error) => return Err(Error::InitialListFailed(error)),
            }
        }
        let mut which = self.which.clone();
        which.limit.get_or_insert(PAGE);
        let mut objects = VecDeque::new();
        loop {
            let listed = api::call(self.api.list(&which)).await;
            let listed = listed.map_err(Error::InitialListFailed)?;
            objects.extend(listed.items);
            which.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
            if which.continue_token.is_none() {
                let version = listed.metadata.resource_version;
                let version = version.ok_or(Error::NoResourceVersion)?;
                return Ok(Phase::Listed(objects, Seen::default(), version));
            }
        }
    }

    async fn resume(&mut self, version: &str) -> Result<Events<K>> {
        let events = self.connect(self.params(false), version).await;
        events.map_err(Error::WatchStartFailed)
    }

    /// Begins a watch. What hangs is given up when the API server has come back meanwhile: it may hang on a
    /// connection that is none any more.
    async fn connect(&mut self, params: WatchParams, version: &str) -> kube::Result<Events<K>> {
        let begun = Instant::now();
        let answer = timeout(PATIENCE, self.api.watch(&params, version));
        let mut returns = self.returns.clone();
        let hangs = async {
            if returns.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep_until(begun + HANGS).await;
        };
        tokio::select! {
            answer = answer => match answer {
                Ok(answer) => answer.map(StreamExt::boxed),
                Err(_) => Err(silent(Silent::Answer(PATIENCE))),
            },
            () = hangs => Err(silent(Silent::Answer(begun.elapsed()))),
        }
    }

    fn params(&self, listing: bool) -> WatchParams {
        WatchParams {
            label_selector: self.which.label_selector.clone(),
            field_selector: self.which.field_selector.clone(),
            timeout: Some((ROUND.1 + SPARE).as_secs() as u32),
            bookmarks: true,
            send_initial_events: listing,
        }
    }

    /// The next object of a list that is streamed, or its end.
    async fn streamed(
        &mut self,
        mut events: Events<K>,
        mut listed: Seen,
    ) -> Option<Result<Event<K>>> {
        let event = match timeout(PATIENCE, events.next()).await {
            Ok(event) => event,
            Err(_) => Some(Err(silent(Silent::Answer(PATIENCE)))),
        };
        let told = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.watch.life.proved();
                listed.insert(&object);
                Some(Ok(Event::InitApply(object)))
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                let annotations = bookmark.metadata.annotations;
                if annotations.contains_key("k8s.io/initial-events-end") {
                    return Some(self.complete(events, listed));
                }
                None
            }
            // There are none in a list.
            Some(Ok(WatchEvent::Deleted(_))) => None,
            Some(Ok(WatchEvent::Error(status))) => {
                return Some(Err(self.failed(Error::WatchError(status), None)));
            }
            // An object that cannot be read does not hide the others.
            Some(Err(error)) if is_unreadable(&error) => {
                Some(Err(self.tell(Error::WatchFailed(error))))
            }
            Some(Err(error)) => return Some(Err(self.failed(Error::WatchFailed(error), None))),
            None => {
                let error = Error::WatchFailed(silent(Silent::List));
                return Some(Err(self.failed(error, None)));
            }
        };
        self.phase = Phase::Streaming(events, listed);
        told
    }

    /// All objects were listed.
    fn complete(&mut self, events: Events<K>, listed: Seen) -> Result<Event<K>> {
        self.watch.life.proved();
        if let Some(before) = &self.seen {
            let objects = before.differences(&listed);
            if objects > 0 {
                self.watch.resynced.inc_by(objects as u64);
                tracing::info!(
                    event = "resynced",
                    watch = self.watch.name,
                    objects,
                    "a new list differs from what the watch had shown"
                );
            }
        }
        self.seen = Some(listed);
        self.phase = Phase::Complete(events);
        Ok(Event::InitDone)
    }

    /// What the list showed was taken.
    fn begun(&mut self) {
        self.watch.life.begun();
        if let Some(failing) = self.failing.take() {
            tracing::info!(
                event = "watch-restored",
                watch = self.watch.name,
                seconds = failing.since.elapsed().as_secs(),
                "the watch continues"
            );
        }
    }

    /// The next event of an open connection.
    async fn open(
        &mut self,
        mut events: Events<K>,
        since: Instant,
        until: Instant,
    ) -> Option<Result<Event<K>>> {
        let silence = Instant::now() + SILENCE;
        let event = match timeout_at(until.min(silence), events.next()).await {
            Ok(event) => event,
            // It is time to list anew.
            Err(_) if until <= silence => {
                self.watch.life.broken();
                self.failures = 0;
                self.phase = Phase::Pause(Duration::ZERO);
                return None;
            }
            Err(_) => Some(Err(silent(Silent::Watch(SILENCE)))),
        };
        let seen = self.seen.get_or_insert_default();
        let told = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                seen.insert(&object);
                Some(Ok(Event::Apply(object)))
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                seen.remove(&object);
                Some(Ok(Event::Delete(object)))
            }
            Some(Ok(WatchEvent::Bookmark(_))) => None,
            Some(Ok(WatchEvent::Error(status))) => {
                return Some(Err(self.failed(Error::WatchError(status), Some(since))));
            }
            Some(Err(error)) if is_unreadable(&error) => {
                Some(Err(self.tell(Error::WatchFailed(error))))
            }
            Some(Err(error)) => {
                return Some(Err(self.failed(Error::WatchFailed(error), Some(since))));
            }
            // The API server closes connections when it stops, among others.
            None => {
                self.lost(Some(since), false);
                return None;
            }
        };
        self.watch.life.proved();
        self.phase = Phase::Open {
            events,
            since,
            until,
        };
        told
    }

    /// The connection, which was good since then, is no more.
    fn failed(&mut self, error: Error, good_since: Option<Instant>) -> Error {
        let code = code(&error);
        self.lost(good_since, code == Some(410));
        if matches!(code, Some(400..=499)) && code != Some(429) {
            self.watch.life.refused();
        }
        self.tell(error)
    }

    /// The same. `expired` says that the API server wants the objects to be listed anew.
    fn lost(&mut self, good_since: Option<Instant>, expired: bool) {
        self.watch.life.broken();
        if good_since.is_some_and(|since| since.elapsed() >= STEADY) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Pause(match self.failures {
            1 if expired => Duration::ZERO,
            // At once, but not all watches of all processes at the same time.
            1 => some_of(PAUSE.0),
            failures => {
                let doubled = PAUSE.0 * 2_u32.saturating_pow(failures.min(8) - 2);
                doubled.min(PAUSE.1).mul_f64(0.5 + fastrand::f64() / 2.0)
            }
        });
    }

    /// Counts a failure, and logs it where it is news.
    fn tell(&mut self, error: Error) -> Error {
        self.watch.errors.inc();
        let (now, text) = (Instant::now(), error_chain::watch(&error));
        let news = match &self.failing {
            None => true,
            Some(failing) => {
                failing.told.elapsed() >= TELL_AGAIN
                    || failing.error != text && failing.told.elapsed() >= PAUSE.1
            }
        };
        if news {
            tracing::warn!(
                event = "watch-failed",
                watch = self.watch.name,
                error = text,
                "continuing with what was known before; retrying"
            );
            let since = self.failing.as_ref().map_or(now, |failing| failing.since);
            self.failing = Some(Failing {
                since,
                told: now,
                error: text,
            });
        }
        error
    }
}

impl<K> Drop for Rounds<K> {
    fn drop(&mut self) {
        self.watch.life.read(false);
    }
}

fn silent(silent: Silent) -> CallError {
    CallError::Service(Box::new(silent))
}

/// Whether an event could not be read. kube takes it for a status, of which it reads nothing.
fn is_unreadable(error: &CallError) -> bool {
    match error {
        CallError::SerdeError(_) => true,
        CallError::Api(status) => status.code == 0,
        _ => false,
    }
}

/// The status that the API server gave, in an answer or in an event.
fn code(error: &Error) -> Option<u16> {
    match error {
        Error::WatchError(status) => Some(status.code),
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => error_chain::code(error),
        Error::NoResourceVersion => None,
    }
}

fn round() -> Duration {
    ROUND.0 + some_of(ROUND.1 - ROUND.0)
}

fn some_of(duration: Duration) -> Duration {
    duration.mul_f64(fastrand::f64())
}
