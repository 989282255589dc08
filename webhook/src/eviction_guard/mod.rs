//! The guard of the evictions that agents request as their own account: an agent evicts the pod that it means, on its
//! own node, and no other. Agents that act as their node need no guard.
//!
//! The API server also compares the UID in an eviction, but only after it has counted the eviction against the pod's
//! disruption budget. After a mismatch, that disruption stays used up for two minutes. And RBAC cannot restrict an
//! agent to the pods of its own node. So the guard checks each eviction of an agent first.
//!
//! Owns which evictions are admitted, and the messages of the denials. [`crate::registration::configuration`]
//! decides which requests are sent here.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use curfew_core::{Overrides, overrides, text::cut};
use jiff::Timestamp;
use kube::Client;

use crate::{
    metrics::{Guarded, Metrics},
    placement::{self, Pod, PodName, PodReadError},
    review::{
        answer::{self, Answer},
        eviction::{self, Eviction},
    },
};

/// What the guard needs.
pub(crate) struct EvictionGuard {
    /// To read pods.
    pub(crate) client: Client,
    /// How long reading a pod may take.
    pub(crate) pod_timeout: Duration,
    /// To count.
    pub(crate) metrics: Metrics,
}

/// Why an eviction is not let through, in words that the agent logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It might hit a pod that its caller does not know.
    #[error(
        "deleteOptions.preconditions.uid: is missing; Curfew's agents evict a pod by its UID, not only by its \
         name"
    )]
    NoUid,
    /// Whose pods the caller may evict is unknown.
    #[error(
        "userInfo.extra[\"authentication.kubernetes.io/node-name\"]: has {0} values instead of one; \
         Curfew's agents evict with the token of their own pod, which names their node"
    )]
    NoNode(usize),
    /// There is nothing to evict.
    #[error("there is no pod {0}")]
    Gone(String),
    /// Another pod has the name by now.
    #[error("pod {pod} has the UID {live}, but the eviction is for {asked}; nothing was done")]
    OtherPod {
        /// Namespace and name.
        pod: String,
        /// The UID of the pod that there is.
        live: String,
        /// The UID in the request.
        asked: String,
    },
    /// Another agent would have to ask, or none.
    #[error("pod {pod} is on {}, and the caller is an agent of node {caller}", on(.node.as_deref()))]
    OtherNode {
        /// Namespace and name.
        pod: String,
        /// The pod's node, if it is on one.
        node: Option<String>,
        /// The caller's node.
        caller: String,
    },
    /// People gave the pod more time, and the caller does not know this yet.
    #[error(
        "the eviction of pod {pod} was moved to {until} in the meantime; its agent must read the pod again"
    )]
    Moved {
        /// Namespace and name.
        pod: String,
        /// When it is to be evicted now.
        until: Timestamp,
    },
    /// It is not known which pod there is. That passes.
    #[error("pod {pod} could not be read, so its eviction must wait: {why}")]
    Unread {
        /// Namespace and name.
        pod: String,
        /// What stood in the way.
        why: String,
    },
}

impl Refusal {
    /// The HTTP status that the agent sees, with its machine-readable reason.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Refusal::NoUid => (400, "BadRequest"),
            Refusal::NoNode(_) | Refusal::OtherNode { .. } => (403, "Forbidden"),
            // To the agent, these two are an end, and not a failure.
            Refusal::Gone(_) => (404, "NotFound"),
            Refusal::OtherPod { .. } => (409, "Conflict"),
            // It asks again, the former after it has looked at the pod.
            Refusal::Moved { .. } => (425, "TooEarly"),
            Refusal::Unread { .. } => (503, "ServiceUnavailable"),
        }
    }

    fn outcome(&self) -> Guarded {
        match self {
            Refusal::NoUid => Guarded::NoUid,
            Refusal::NoNode(_) => Guarded::NoNode,
            Refusal::Gone(_) => Guarded::Gone,
            Refusal::OtherPod { .. } => Guarded::OtherPod,
            Refusal::OtherNode { .. } => Guarded::OtherNode,
            Refusal::Moved { .. } => Guarded::Moved,
            Refusal::Unread { .. } => Guarded::Unread,
        }
    }

    /// Whether it may happen while all do as they should: pods go and come back, and people extend their time,
    /// at any moment.
    fn is_usual(&self) -> bool {
        matches!(
            self,
            Refusal::Gone(_) | Refusal::OtherPod { .. } | Refusal::Moved { .. }
        )
    }
}

/// What the caller says, and is known to be, before any pod is looked at.
#[derive(Debug)]
struct Claim<'a> {
    pod: String,
    uid: &'a str,
    node: &'a str,
    seen: Option<&'a Overrides>,
}

impl<'a> Claim<'a> {
    fn of(eviction: &'a Eviction) -> Result<Self, Refusal> {
        let uid = eviction.uid.as_deref().ok_or(Refusal::NoUid)?;
        let [node] = eviction.nodes.as_slice() else {
            return Err(Refusal::NoNode(eviction.nodes.len()));
        };
        Ok(Self {
            pod: named(eviction),
            uid,
            node,
            seen: eviction.seen.as_ref(),
        })
    }

    /// Whether that pod is to be evicted by that caller. The UID counts before the node: an agent may
    /// still have to learn that its pod's name went to another node.
    fn check(
        &self,
        found: Result<Option<Pod>, PodReadError>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let pod = || self.pod.clone();
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Refusal::Gone(pod())),
            Err(PodReadError::Unauthorised(why) | PodReadError::Failed(why)) => {
                return Err(Refusal::Unread { pod: pod(), why });
            }
        };
        let live = found.metadata.uid.as_deref().unwrap_or_default();
        if live != self.uid {
            return Err(Refusal::OtherPod {
                pod: pod(),
                live: live.to_owned(),
                asked: self.uid.to_owned(),
            });
        }
        if found.node() != Some(self.node) {
            return Err(Refusal::OtherNode {
                pod: pod(),
                node: found.node().map(str::to_owned),
                caller: self.node.to_owned(),
            });
        }
        let moved = self
            .seen
            .and_then(|seen| overrides::moved(seen, &found.id(), &found.annotations()));
        match moved {
            Some(until) if until > now => Err(Refusal::Moved { pod: pod(), until }),
            _ => Ok(()),
        }
    }
}

/// Answers the review of an eviction. A dry run is answered as what it stands for.
pub(crate) async fn eviction(State(guard): State<Arc<EvictionGuard>>, body: Bytes) -> Response {
    let review = match eviction::read(&body) {
        Ok(review) => review,
        Err(error) => {
            guard.metrics.guarded(Guarded::Invalid);
            tracing::warn!(event = "unreadable", %error, "the body is not a review");
            return answer::unreadable(&error);
        }
    };
    let answer = match review.request {
        Ok(eviction) => decide(&guard, &eviction, &review.uid).await,
        Err(error) => {
            guard.metrics.guarded(Guarded::Invalid);
            tracing::warn!(event = "invalid", id = review.uid, %error, "a review of another request");
            answer::invalid(&error)
        }
    };
    answer.to(review.uid).into_response()
}

async fn decide(guard: &EvictionGuard, eviction: &Eviction, id: &str) -> Answer {
    let decided = match Claim::of(eviction) {
        Ok(claim) => claim.check(find(guard, eviction).await, Timestamp::now()),
        Err(refusal) => Err(refusal),
    };
    let outcome = match &decided {
        Ok(()) => Guarded::Admitted,
        Err(refusal) => refusal.outcome(),
    };
    guard.metrics.guarded(outcome);
    let (pod, uid, node) = (named(eviction), &eviction.uid, eviction.nodes.first());
    let outcome = outcome.as_ref();
    match decided {
        // The agent tells of what it evicts; and while a budget blocks, it asks again and again.
        Ok(()) => {
            tracing::debug!(event = "eviction", id, pod, uid, node, outcome);
            Answer::Allow(None)
        }
        Err(refusal) if refusal.is_usual() => {
            tracing::info!(event = "eviction-refused", id, pod, uid, node, outcome, error = %refusal);
            refused(&refusal)
        }
        Err(refusal) => {
            tracing::warn!(event = "eviction-refused", id, pod, uid, node, outcome, error = %refusal);
            refused(&refusal)
        }
    }
}

/// An agent's eviction is not let through.
fn refused(refusal: &Refusal) -> Answer {
    let (code, reason) = refusal.status();
    Answer::Deny {
        code,
        reason,
        message: refusal.to_string(),
    }
}

async fn find(guard: &EvictionGuard, eviction: &Eviction) -> Result<Option<Pod>, PodReadError> {
    let (namespace, name) = (&eviction.namespace, &eviction.name);
    match PodName::new(namespace, name) {
        Some(pod) => placement::find(&guard.client, pod, guard.pod_timeout).await,
        None => Ok(None),
    }
}

fn named(eviction: &Eviction) -> String {
    format!(
        "{}/{}",
        cut(&eviction.namespace, 63),
        cut(&eviction.name, 253)
    )
}

fn on(node: Option<&str>) -> String {
    match node {
        Some(node) => format!("node {node}"),
        None => "no node yet".to_owned(),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
