//! The admission of an interaction, from the request to the answer.
//!
//! Owns the order of the steps, which requests leave no trace, and what becomes of one that could be
//! recorded nowhere. Reading, finding the pod, recording and wording are for the other modules.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use curfew_core::{Command, Interaction, Kind, Known, terms::DefaultTerms, text::cut};
use jiff::Timestamp;
use kube::Client;

use crate::{
    answer::{self, Answer},
    args::Unrecorded,
    guard,
    metrics::{Home, Metrics, Outcome},
    placement::{self, Pod},
    recording::{self, Recorder},
    review::{self, Deed, Request},
};

/// The largest review that is read.
pub const MAX_BODY: usize = 3 * 1024 * 1024;
/// Where interactions are admitted.
pub const INTERACTION_PATH: &str = "/admit/interaction";
/// Where the evictions of the agents are admitted.
pub const EVICTION_PATH: &str = "/admit/eviction";
/// Where it is proved that the API server reaches a replica.
pub const PROBE_PATH: &str = "/admit/probe";

/// What admissions need.
#[allow(
    missing_debug_implementations,
    reason = "a client of the API server has none"
)]
pub struct Admission {
    /// To read pods.
    pub client: Client,
    /// To record.
    pub recorder: Recorder,
    /// What follows from an interaction.
    pub terms: DefaultTerms,
    /// What becomes of one that could be recorded nowhere.
    pub unrecorded: Unrecorded,
    /// How long reading a pod may take.
    pub pod_timeout: Duration,
    /// To count.
    pub metrics: Metrics,
}

/// The routes. The bound on bodies is for the server, see [`MAX_BODY`].
pub fn router(admission: Arc<Admission>) -> Router {
    Router::new()
        .route(INTERACTION_PATH, post(interaction))
        .route(EVICTION_PATH, post(guard::eviction))
        .route(PROBE_PATH, post(probe))
        // Axum's own limit is below ours.
        .layer(DefaultBodyLimit::disable())
        .with_state(admission)
}

async fn interaction(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
    // Stamped once, before anything takes time. Whole seconds are all that is ever shown.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let read = review::read(&body);
    // Of a review of megabytes a few hundred bytes are left.
    drop(body);
    let review = match read {
        Ok(review) => review,
        Err(error) => {
            admission.metrics.admitted(None, Outcome::Invalid);
            tracing::warn!(event = "unreadable", %error, "a body that is no review");
            return answer::unreadable(&error);
        }
    };
    let answer = match review.request {
        Ok(request) => admission.decide(request, &review.uid, now).await,
        Err(error) => {
            admission.metrics.admitted(None, Outcome::Invalid);
            tracing::warn!(event = "invalid", id = review.uid, %error, "a review of something else");
            answer::invalid(&error)
        }
    };
    answer.to(review.uid).into_response()
}

async fn probe(body: Bytes) -> Response {
    match review::read_probe(&body) {
        Ok((uid, nonce)) => answer::probe(&nonce).to(uid),
        Err(error) => answer::unreadable(&error),
    }
}

/// Why a request leaves no trace: the API server will refuse it, or is only asked what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nothing {
    DryRun,
    NoPod,
    NoNode,
    NoContainer,
}

/// What is to be recorded of a request.
struct Found {
    pod: Pod,
    deeds: Vec<(Option<String>, Command)>,
}

/// Why nothing is to be recorded, or cannot be.
enum Unfound {
    Nothing(Nothing),
    Failure(placement::Failure),
}

impl Admission {
    async fn decide(&self, request: Request, uid: &str, now: Timestamp) -> Answer {
        let (kind, user) = (request.deed.kind(), request.user.clone());
        let named = format!(
            "{}/{}",
            cut(&request.namespace, 63),
            cut(&request.name, 253)
        );
        let found = match self.find(request).await {
            Ok(found) => found,
            Err(Unfound::Nothing(why)) => {
                self.metrics.admitted(Some(kind), Outcome::Nothing);
                tracing::debug!(event = "nothing", id = uid, kind = kind.as_str(), ?why);
                return Answer::Allow(None);
            }
            Err(Unfound::Failure(failure)) => {
                self.metrics.recorded(Home::Nowhere, 1);
                let (authority, why) = match failure {
                    placement::Failure::Unauthorised(why) => (false, why),
                    placement::Failure::Failed(why) => (true, why),
                };
                let subject = Subject {
                    id: uid,
                    kind,
                    user: &user,
                    pod: &named,
                    node: None,
                };
                return self.unrecorded(&subject, authority, &format!("pod: {why}"));
            }
        };
        let known = self.known(&found.deeds, kind, &user, uid, now);
        let node = found.pod.node().map(str::to_owned);
        match self.recorder.record(found.pod, &known).await {
            Ok(trace) => {
                self.metrics.admitted(Some(kind), Outcome::Recorded);
                for known in &known {
                    tracing::info!(
                        event = "interaction",
                        id = known.interaction.request,
                        pod = %trace.pod,
                        uid = trace.pod.uid,
                        node,
                        user,
                        kind = kind.as_str(),
                        container = known.interaction.container,
                        recorded = trace.home.as_str(),
                        without_agent = trace.without_agent,
                        deadline = trace.deadline.map(|deadline| deadline.to_string()),
                    );
                }
                answer::recorded(&trace.pod, trace.deadline)
            }
            Err(recording::Failure::Gone) => {
                self.metrics.admitted(Some(kind), Outcome::Nothing);
                Answer::Allow(None)
            }
            Err(failure) => {
                let authority = !matches!(failure, recording::Failure::Unauthorised(_));
                let subject = Subject {
                    id: uid,
                    kind,
                    user: &user,
                    pod: &named,
                    node: node.as_deref(),
                };
                self.unrecorded(&subject, authority, &failure.to_string())
            }
        }
    }

    /// Finds the pod and what of it is concerned.
    async fn find(&self, request: Request) -> Result<Found, Unfound> {
        let nothing = |why| Err(Unfound::Nothing(why));
        if request.dry_run {
            return nothing(Nothing::DryRun);
        }
        let (asked, command) = match request.deed {
            Deed::Debug { pod, added } => {
                // An update carries the pod as it is, so that it need not be read. It may be on no
                // node yet: the container will run as soon as it is on one.
                let deeds: Vec<_> = added
                    .into_iter()
                    .filter(|added| placement::can_be_container(&added.name))
                    .map(|added| (Some(added.name), added.command))
                    .collect();
                if deeds.is_empty() {
                    return nothing(Nothing::NoContainer);
                }
                return Ok(Found { pod: *pod, deeds });
            }
            Deed::Exec { container, command } => (Some(container), command),
            Deed::Attach { container } => (Some(container), Command::default()),
            Deed::Portforward => (None, Command::default()),
        };
        if !placement::can_exist(&request.namespace, &request.name) {
            return nothing(Nothing::NoPod);
        }
        let pod = placement::find(
            &self.client,
            &request.namespace,
            &request.name,
            self.pod_timeout,
        )
        .await
        .map_err(Unfound::Failure)?
        .ok_or(Unfound::Nothing(Nothing::NoPod))?;
        if pod.node().is_none() {
            return nothing(Nothing::NoNode);
        }
        let container = match asked {
            Some(asked) => match pod.container(asked.as_deref()) {
                Some(container) => Some(container.to_owned()),
                None => return nothing(Nothing::NoContainer),
            },
            None => None,
        };
        Ok(Found {
            pod,
            deeds: vec![(container, command)],
        })
    }

    fn known(
        &self,
        deeds: &[(Option<String>, Command)],
        kind: Kind,
        user: &str,
        uid: &str,
        now: Timestamp,
    ) -> Vec<Known> {
        deeds
            .iter()
            .map(|(container, command)| Known {
                interaction: Interaction {
                    time: now,
                    kind,
                    user: user.to_owned(),
                    container: container.clone(),
                    command: command.clone(),
                    // One request may add several containers, and each is an interaction of its
                    // own: what is told apart by the request has to have another.
                    request: match container {
                        Some(container) if deeds.len() > 1 => format!("{uid}/{container}"),
                        _ => uid.to_owned(),
                    },
                },
                terms: self.terms.of(kind),
            })
            .collect()
    }

    /// What becomes of an interaction that could be recorded nowhere. `authority` says whether this
    /// webhook still may do its work: when it was taken away, Curfew is being removed, and that must
    /// stop nobody.
    fn unrecorded(&self, subject: &Subject<'_>, authority: bool, why: &str) -> Answer {
        let (outcome, answer) = match (authority, self.unrecorded) {
            (false, _) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it may not read pods any more"),
            ),
            (true, Unrecorded::Admit) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it could reach neither agent nor pod"),
            ),
            (true, Unrecorded::Deny) => (
                Outcome::Denied,
                answer::denied(subject.pod, subject.node, subject.id),
            ),
        };
        self.metrics.admitted(Some(subject.kind), outcome);
        tracing::error!(
            event = "unrecorded",
            id = subject.id,
            pod = subject.pod,
            node = subject.node,
            user = subject.user,
            kind = subject.kind.as_str(),
            outcome = outcome.as_str(),
            error = why,
        );
        answer
    }
}

/// What is said of an interaction that was not recorded.
struct Subject<'a> {
    id: &'a str,
    kind: Kind,
    user: &'a str,
    pod: &'a str,
    node: Option<&'a str>,
}

impl Deed {
    /// Its kind.
    fn kind(&self) -> Kind {
        match self {
            Deed::Exec { .. } => Kind::Exec,
            Deed::Attach { .. } => Kind::Attach,
            Deed::Portforward => Kind::Portforward,
            Deed::Debug { .. } => Kind::Debug,
        }
    }
}
