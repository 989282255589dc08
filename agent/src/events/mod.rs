//! Reports what happened. This room writes the log line ([`log`]), the metric and the Event on the pod (text in
//! [`kubernetes_event`]) of each [`DomainEvent`].
//!
//! Owns the Events that wait to be posted by a separate task ([`post`]), the limit on their number ([`rate_limit`])
//! and the Events that the API server did not accept ([`retry`]). Other code decides what happened and whether it is
//! new.

mod advice;
mod kubernetes_event;
mod log;
mod post;
mod rate_limit;
mod retry;

use curfew_agent_state::DomainEvent;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

pub(crate) use post::post_all;

/// How many may wait to be posted; what comes on top is logged and counted only.
const WAITING: usize = 1024;

/// What happened, and when.
pub(crate) type TimedEvent = (DomainEvent, Timestamp);

/// Takes what happened, and makes of it all that people see.
pub(crate) struct EventRecorder {
    node: String,
    metrics: Metrics,
    posts: mpsc::Sender<TimedEvent>,
}

impl EventRecorder {
    /// A recorder, and what the task that posts Events is to read.
    pub(crate) fn new(node: &str, metrics: Metrics) -> (Self, mpsc::Receiver<TimedEvent>) {
        let (posts, waiting) = mpsc::channel(WAITING);
        let recorder = Self {
            node: node.to_owned(),
            metrics,
            posts,
        };
        (recorder, waiting)
    }

    /// This happened.
    pub(crate) fn record(&self, event: DomainEvent, now: Timestamp) {
        log::line(&self.node, &event);
        self.metrics.count(&event, now);
        if kubernetes_event::tells(&event) && self.posts.try_send((event, now)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}
