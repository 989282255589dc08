//! What happens is told in one place: its line in the log and its Event on the pod.

mod event;
pub(crate) mod log;
mod pace;

use std::time::Duration;

use curfew_core::text::cut;
use curfew_runtime::{api, explain};
use jiff::Timestamp;
use k8s_openapi::{
    api::events::v1::{Event, EventSeries},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use self::pace::{Pace, Pass, Together};
use crate::{ledger::Announcement, metrics::Metrics};

/// The API server's limit of `reportingInstance`.
const MAX_INSTANCE: usize = 128;

/// How long the API server may take for an Event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether Events that wait may be posted.
const LOOK: Duration = Duration::from_secs(2);

/// An announcement and when it was made.
pub(crate) type Told = (Announcement, Timestamp);

/// Posts the Events, one after the other and no more than there may be, until nobody announces any more.
/// An Event that the API server does not take is counted and not tried again: what it tells stands on the
/// pod, too.
pub(crate) async fn post_all(
    client: Client,
    instance: String,
    metrics: Metrics,
    mut announcements: mpsc::Receiver<Told>,
) -> anyhow::Result<()> {
    let mut post = Post {
        client,
        instance: cut(&instance, MAX_INSTANCE).into_owned(),
        metrics,
        last: 0,
    };
    let mut pace = Pace::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            told = announcements.recv() => told,
            _ = look.tick(), if !pace.is_idle() => {
                for together in pace.due(Instant::now()) {
                    post.tell(&together).await;
                }
                continue;
            }
        };
        let Some(told) = told else {
            return Ok(());
        };
        let since = told.1;
        match pace.pass(told, Instant::now()) {
            Pass::Now(latest) => {
                let times = 1;
                post.tell(&Together {
                    latest: *latest,
                    since,
                    times,
                })
                .await;
            }
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
}

impl Post {
    async fn tell(&mut self, together: &Together) {
        let (announcement, now) = &together.latest;
        // Several things may happen to a pod in one moment; each Event has a name of its own.
        self.last = now.as_nanosecond().max(self.last + 1);
        let mut event = event::of(announcement, &self.instance, *now, self.last);
        if together.times > 1 {
            event::stand_for(&mut event, together.times, together.since);
            let folded = u64::from(together.times) - 1;
            self.metrics.events_folded.inc_by(folded);
        }
        let again = match announcement {
            Announcement::StillBlocked(block) => Some(block.times),
            _ => None,
        };
        if let Err(error) = post(&self.client, &event, again).await {
            self.metrics.events_dropped.inc();
            tracing::warn!(
                namespace = event.metadata.namespace,
                reason = event.reason,
                error,
                "cannot post an Event"
            );
        }
    }
}

/// Posts an Event, or the news that what it told was seen so many times by now.
async fn post(client: &Client, event: &Event, times: Option<u32>) -> Result<(), String> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some(times) = times {
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
            // Events are not kept for ever: a new one goes on telling.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => return result.map(drop).map_err(|error| explain::short(&error)),
        }
    }
    let result = api::within(TIMEOUT, events.create(&PostParams::default(), event)).await;
    result.map(drop).map_err(|error| explain::short(&error))
}
