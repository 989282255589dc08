//! Posts Events, no more than there may be, and again where the API server could not take them.

use std::time::{Duration, SystemTime};

use curfew_agent_state::DomainEvent;
use curfew_core::text::cut;
use curfew_runtime::{api, error_chain, time::until};
use jiff::Timestamp;
use k8s_openapi::{
    api::events::v1::{Event, EventSeries},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    client::Body,
    core::Request,
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use super::{
    TimedEvent, kubernetes_event,
    rate_limit::{EventRateLimiter, Pass, Together},
    retry::{Again, Refused},
};
use crate::{cluster::evict::answer::retry_after, metrics::Metrics};

/// The API server's limit of `reportingInstance`.
const MAX_INSTANCE: usize = 128;

/// How long the API server may take for an Event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether Events that wait may be posted.
const LOOK: Duration = Duration::from_secs(2);

/// Posts the Events, one after the other and no more than there may be, until nobody records any more.
/// An Event that the API server cannot take now is posted again later; one that it will not take is counted.
pub(crate) async fn post_all(
    client: Client,
    instance: String,
    metrics: Metrics,
    mut events: mpsc::Receiver<TimedEvent>,
) -> anyhow::Result<()> {
    let mut post = Post {
        client,
        instance: cut(&instance, MAX_INSTANCE).into_owned(),
        metrics,
        last: 0,
        again: Again::default(),
    };
    let mut limiter = EventRateLimiter::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = look.tick(), if !limiter.is_idle() => {
                for together in limiter.due(Instant::now()) {
                    post.tell(&together).await;
                }
                continue;
            }
            () = until(post.again.next()) => {
                if let Some(refused) = post.again.take(Instant::now()) {
                    post.create(refused).await;
                }
                continue;
            }
        };
        let Some(event) = event else {
            return Ok(());
        };
        match limiter.pass(event, Instant::now()) {
            Pass::Now(together) => post.tell(&together).await,
            Pass::Later => {}
            Pass::Never => post.metrics.events_dropped.inc(),
        }
    }
}

/// Posts Events.
struct Post {
    client: Client,
    instance: String,
    metrics: Metrics,
    last: i128,
    /// What the API server could not take.
    again: Again,
}

impl Post {
    async fn tell(&mut self, together: &Together) {
        let (told, now) = &together.latest;
        // Several things may happen to a pod in one moment; each Event has a name of its own.
        self.last = now.as_nanosecond().max(self.last + 1);
        let Some(mut event) = kubernetes_event::of(told, &self.instance, *now, self.last) else {
            return;
        };
        if together.times > 1 {
            kubernetes_event::stand_for(&mut event, together.times, together.since);
            let folded = u64::from(together.times) - 1;
            self.metrics.events_folded.inc_by(folded);
        }
        let again = match told {
            DomainEvent::StillBlocked(block) => Some(block.times),
            _ => None,
        };
        if let Some(times) = again {
            match prolong(&self.client, &event, times).await {
                Ok(true) => return,
                // Events are not kept for ever: a new one goes on telling.
                Ok(false) => {}
                // It is told again in a few minutes.
                Err(error) => return self.dropped(&event, &error),
            }
        }
        self.create(Refused::new(event, Instant::now())).await;
    }

    async fn create(&mut self, mut refused: Refused) {
        let (wait, error) = match create(&self.client, &refused.event).await {
            Created::Done => return,
            Created::Never(error) => return self.dropped(&refused.event, &error),
            Created::Later(wait, error) => (wait, error),
        };
        if refused.tries == 0 {
            let Event {
                metadata, reason, ..
            } = &refused.event;
            tracing::warn!(
                namespace = metadata.namespace,
                reason,
                error,
                "cannot post an Event now; it will be retried later"
            );
        }
        refused.tries += 1;
        for given_up in self.again.keep(refused, wait, Instant::now()) {
            self.dropped(&given_up.event, &error);
        }
    }

    fn dropped(&self, event: &Event, error: &str) {
        self.metrics.events_dropped.inc();
        tracing::warn!(
            namespace = event.metadata.namespace,
            reason = event.reason,
            error,
            "cannot post an Event"
        );
    }
}

/// Posts the news that what an Event told was seen so many times by now. Returns whether there still is such
/// an Event.
async fn prolong(client: &Client, event: &Event, times: u32) -> Result<bool, String> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let series = EventSeries {
        count: times.try_into().unwrap_or(i32::MAX),
        last_observed_time: event
            .event_time
            .clone()
            .unwrap_or(MicroTime(Timestamp::UNIX_EPOCH)),
    };
    let patch = Patch::Merge(json!({ "series": series }));
    let params = PatchParams::default();
    match api::within(TIMEOUT, events.patch_metadata(name, &params, &patch)).await {
        Ok(_) => Ok(true),
        Err(error) if error_chain::code(&error) == Some(404) => Ok(false),
        Err(error) => Err(error_chain::short(&error)),
    }
}

/// What came of an Event.
enum Created {
    Done,
    /// The API server cannot take it now, and says how long to wait, if it does.
    Later(Option<Duration>, String),
    /// It does not take this Event.
    Never(String),
}

/// Posts an Event. The client's own call would lose the header that says when to ask again.
async fn create(client: &Client, event: &Event) -> Created {
    let namespace = event.metadata.namespace.as_deref();
    let request = serde_json::to_vec(event)
        .map_err(|error| error_chain::causes(&error))
        .and_then(|body| {
            Request::new(Event::url_path(&(), namespace))
                .create(&PostParams::default(), body)
                .map_err(|error| error_chain::causes(&error))
        });
    let request = match request {
        Ok(request) => request.map(Body::from),
        Err(error) => return Created::Never(error),
    };
    let response = match api::within(TIMEOUT, client.send(request)).await {
        Ok(response) => response,
        Err(error) => return Created::Later(None, error_chain::short(&error)),
    };
    let status = response.status();
    let wait = response.headers().get(http::header::RETRY_AFTER);
    let wait = wait.and_then(|wait| retry_after(wait.to_str().ok()?, SystemTime::now()));
    let error = format!("HTTP status {status}");
    match status.as_u16() {
        200..300 => Created::Done,
        // Its name is its own: an answer was lost before.
        409 => Created::Done,
        429 | 500.. => Created::Later(wait, error),
        _ => Created::Never(error),
    }
}
