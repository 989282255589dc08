//! The admission of an interaction, from the request to the answer.
//!
//! Owns the order of the steps, and what becomes of an interaction that could be recorded nowhere. Reading,
//! finding the pod (and which requests leave no trace), recording and wording are for the other modules.

pub mod answer;
mod find;
mod removal;
pub mod review;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use curfew_core::{
    Command, Exemption, Interaction, Kind, RecordedInteraction, Terms, policy::RecordCommand,
    text::cut,
};
use curfew_crd::Attempt;
use curfew_runtime::{
    crowd::{Bounds, Visit},
    http::Gate,
};
use jiff::Timestamp;
use kube::Client;

use self::find::{Nothing, Unfound};
pub use self::removal::Removal;
use crate::{
    admission::{
        answer::Answer,
        review::{Request, Subresource},
    },
    args::Unrecorded,
    eviction_guard,
    identity::Identities,
    metrics::{Home, Metrics, Outcome},
    placement,
    policy::{AdmissionDecision, Knowledge, Rules},
    recording::{self, Recorder},
};

/// The largest object that an API server lets into its store, and so into a review, by default.
const MAX_OBJECT: usize = 3 * 1024 * 1024 / 2;
/// The most bytes that one byte of an object becomes in JSON: `<` is written as `\u003c`.
const ESCAPED: usize = 6;
/// The largest review that is read. That of an update of a pod holds the pod twice, as it is and as it is to
/// be; who asks and what else there is has room in the rest.
pub const MAX_BODY: usize = 2 * MAX_OBJECT * ESCAPED + 1024 * 1024;
/// Who may ask, and how much at a time: of the largest reviews one from each API server.
pub const CROWD: Bounds = Bounds {
    bodies: 8 * MAX_BODY,
    ..Bounds::MANY
};
/// How often it is logged that somebody asks under a path that no API server was told.
const TELL_OF_STRANGERS: Duration = Duration::from_secs(10);
/// Where interactions are admitted. What API servers are told ends in a token, see [`crate::identity::paths`].
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
    /// The namespace of Curfew, which it leaves alone.
    pub namespace: String,
    /// To record.
    pub recorder: Recorder,
    /// What follows from an interaction.
    pub rules: Rules,
    /// What becomes of one that could be recorded nowhere.
    pub unrecorded: Unrecorded,
    /// How long reading a pod may take.
    pub pod_timeout: Duration,
    /// Whether Curfew is being removed.
    pub removal: Removal,
    /// To count.
    pub metrics: Metrics,
}

/// Lets in requests under the paths that API servers were told, or will be, and nobody else's.
pub fn gate(identities: Identities, metrics: Metrics) -> Gate {
    let told = Mutex::new(None::<Instant>);
    Arc::new(move |request| {
        let path = request.uri().path();
        let bases = [INTERACTION_PATH, EVICTION_PATH, PROBE_PATH];
        let known = identities.borrow().as_ref().is_some_and(|identity| {
            let paths = &identity.authorities.paths;
            bases
                .iter()
                .fold(false, |known, base| known | paths.accept(base, path))
        });
        if !known {
            metrics.strange();
            let client = request.extensions().get().map(Visit::address);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever tries many would else fill the log.
            if told.is_none_or(|told| told.elapsed() >= TELL_OF_STRANGERS) {
                *told = Some(Instant::now());
                tracing::warn!(
                    event = "unknown-path",
                    client = client.map(|client| client.to_string()),
                    "a request used a path that no API server was given"
                );
            }
        }
        known
    })
}

/// The routes. Which paths are let in is for the [`gate`], and the bound on bodies for the server, see
/// [`MAX_BODY`].
pub fn router(admission: Arc<Admission>) -> Router {
    let token = |base: &str| format!("{base}/{{token}}");
    Router::new()
        .route(INTERACTION_PATH, post(interaction))
        .route(&token(INTERACTION_PATH), post(interaction))
        .route(EVICTION_PATH, post(eviction_guard::eviction))
        .route(&token(EVICTION_PATH), post(eviction_guard::eviction))
        .route(PROBE_PATH, post(probe))
        .route(&token(PROBE_PATH), post(probe))
        // Axum's own limit is below ours.
        .layer(DefaultBodyLimit::disable())
        .with_state(admission)
}

async fn interaction(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
    let began = Instant::now();
    // Stamped once, before anything takes time. Whole seconds are all that is ever shown.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let read = review::read(&body);
    // Of a review of megabytes a few hundred bytes are left.
    drop(body);
    let review = match read {
        Ok(review) => review,
        Err(error) => {
            let took = began.elapsed();
            admission.metrics.admitted(None, Outcome::Invalid, took);
            tracing::warn!(event = "unreadable", %error, "the body is not a review");
            return answer::unreadable(&error);
        }
    };
    let (kind, outcome, answer) = match review.request {
        Ok(request) => {
            let kind = request.subresource.kind();
            let (outcome, answer) = admission.decide(request, &review.uid, now).await;
            (Some(kind), outcome, answer)
        }
        Err(error) => {
            tracing::warn!(event = "invalid", id = review.uid, %error, "a review of another request");
            (None, Outcome::Invalid, answer::invalid(&error))
        }
    };
    admission.metrics.admitted(kind, outcome, began.elapsed());
    answer.to(review.uid).into_response()
}

async fn probe(body: Bytes) -> Response {
    match review::read_probe(&body) {
        Ok((uid, nonce)) => answer::probe(&nonce).to(uid),
        Err(error) => answer::unreadable(&error),
    }
}

impl Admission {
    async fn decide(&self, mut request: Request, uid: &str, now: Timestamp) -> (Outcome, Answer) {
        let (kind, user) = (request.subresource.kind(), request.user.clone());
        let groups = std::mem::take(&mut request.groups);
        let named = format!(
            "{}/{}",
            cut(&request.namespace, 63),
            cut(&request.name, 253)
        );
        // Waiting for the policies takes no time of its own.
        let (found, knowledge) =
            tokio::join!(self.find(request), self.rules.known(self.pod_timeout));
        let found = match found {
            Ok(found) => {
                self.removal.accepted();
                found
            }
            Err(Unfound::Nothing(why)) => {
                return nothing(uid, &named, kind, why);
            }
            Err(Unfound::Failure(failure)) => {
                self.metrics.recorded(Home::Nowhere, 1);
                let (removed, why) = match failure {
                    placement::Failure::Unauthorised(why) => (self.removal.refused(), why),
                    placement::Failure::Failed(why) => (false, why),
                };
                let subject = Subject {
                    id: uid,
                    kind,
                    user: &user,
                    pod: &named,
                    node: None,
                    known: &[],
                };
                return self.unrecorded(&subject, removed, &format!("pod: {why}"));
            }
        };
        if knowledge == Knowledge::None
            && let Some(denied) = self.undecided(uid, &named, kind, &user)
        {
            return denied;
        }
        let attempt = Attempt {
            user: &user,
            groups: &groups,
            kind,
            // Where there are several, what runs in them makes no difference.
            argv: found.commands.first().map_or(&[], |(_, argv)| argv),
            stdin: found.stdin,
            tty: found.tty,
        };
        let ruling = self.rules.decide(attempt, &found.pod);
        let (policy, terms, record_command) = match ruling {
            AdmissionDecision::Admit {
                policy,
                terms,
                record_command,
            } => (policy, terms, record_command),
            AdmissionDecision::Deny {
                policy,
                record_command,
            } => {
                for (container, argv) in &found.commands {
                    tracing::info!(
                        event = "forbidden",
                        id = uid,
                        pod = named,
                        uid = found.pod.metadata.uid,
                        node = found.pod.node(),
                        user,
                        kind = kind.as_str(),
                        container,
                        command = told(&record_command.of(argv)),
                        spo_request = found.spo_request,
                        policy,
                    );
                }
                let answer = answer::forbidden(&named, kind, &policy);
                return (Outcome::Forbidden, answer);
            }
        };
        let interaction = Interaction {
            time: now,
            kind,
            user: user.clone(),
            container: None,
            command: Command::default(),
            stdin: found.stdin,
            tty: found.tty,
            request: uid.to_owned(),
        };
        let known = known(&found.commands, &interaction, terms, record_command);
        let node = found.pod.node().map(str::to_owned);
        let ending = found.pod.ending();
        match self.recorder.record(found.pod, &known).await {
            Ok(trace) => {
                if let Some(exemption) = terms.exemption {
                    self.metrics.exempted(exemption);
                }
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
                        policy,
                        exemption = terms.exemption.map(Exemption::as_str),
                        spo_request = found.spo_request,
                        deadline = trace.deadline.map(|deadline| deadline.to_string()),
                    );
                }
                let answer = answer::recorded(&trace.pod, trace.deadline, ending);
                (Outcome::Recorded, answer)
            }
            Err(recording::Failure::Gone) => nothing(uid, &named, kind, Nothing::NoPod),
            Err(failure) => {
                let removed = matches!(failure, recording::Failure::Unauthorised(_))
                    && self.removal.refused();
                let subject = Subject {
                    id: uid,
                    kind,
                    user: &user,
                    pod: &named,
                    node: node.as_deref(),
                    known: &known,
                };
                self.unrecorded(&subject, removed, &failure.to_string())
            }
        }
    }

    /// What becomes of an interaction while the policies were never read: it is denied, or nothing is returned
    /// and the flags hold.
    fn undecided(&self, id: &str, pod: &str, kind: Kind, user: &str) -> Option<(Outcome, Answer)> {
        let denied = match self.unrecorded {
            Unrecorded::Admit => None,
            Unrecorded::Deny => Some((Outcome::Denied, answer::undecided(pod, id))),
        };
        tracing::error!(
            event = "policies-unknown",
            id,
            pod,
            user,
            kind = kind.as_str(),
            denied = denied.is_some(),
            "this replica has not been able to read the policies yet",
        );
        denied
    }

    /// What becomes of an interaction that could be recorded nowhere. `removed` says whether Curfew is being
    /// removed, which must stop nobody.
    fn unrecorded(&self, subject: &Subject<'_>, removed: bool, why: &str) -> (Outcome, Answer) {
        let (outcome, answer) = match (removed, self.unrecorded) {
            (true, _) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it may no longer read pods"),
            ),
            (false, Unrecorded::Admit) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it could reach neither the agent nor the pod"),
            ),
            (false, Unrecorded::Deny) => (
                Outcome::Denied,
                answer::denied(subject.pod, subject.node, subject.id),
            ),
        };
        tracing::error!(
            event = "unrecorded",
            id = subject.id,
            pod = subject.pod,
            node = subject.node,
            user = subject.user,
            kind = subject.kind.as_str(),
            command = subject.commands(),
            outcome = outcome.as_str(),
            error = why,
        );
        (outcome, answer)
    }
}

/// What is to be recorded of a request: the interaction, in each of these containers.
fn known(
    commands: &[(Option<String>, Vec<String>)],
    interaction: &Interaction,
    terms: Terms,
    record_command: RecordCommand,
) -> Vec<RecordedInteraction> {
    commands
        .iter()
        .map(|(container, argv)| RecordedInteraction {
            interaction: Interaction {
                container: container.clone(),
                command: record_command.of(argv),
                // One request may add several containers, and each is an interaction of its own: what
                // is told apart by the request has to have another.
                request: match container {
                    Some(container) if commands.len() > 1 => {
                        format!("{}/{container}", interaction.request)
                    }
                    _ => interaction.request.clone(),
                },
                ..interaction.clone()
            },
            terms,
        })
        .collect()
}

/// A request leaves no trace.
fn nothing(id: &str, pod: &str, kind: Kind, why: Nothing) -> (Outcome, Answer) {
    tracing::debug!(event = "nothing", id, pod, kind = kind.as_str(), ?why);
    (Outcome::Nothing, Answer::Allow(None))
}

/// What is said of an interaction that was not recorded.
struct Subject<'a> {
    id: &'a str,
    kind: Kind,
    user: &'a str,
    pod: &'a str,
    node: Option<&'a str>,
    /// As it was to be recorded; nothing when the pod could not be read.
    known: &'a [RecordedInteraction],
}

impl Subject<'_> {
    /// The commands, as far as they may be told.
    fn commands(&self) -> Option<String> {
        let commands = self.known.iter().map(|known| &known.interaction.command);
        let told: Vec<_> = commands.filter_map(told).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// A command, where there is one.
fn told(command: &Command) -> Option<&str> {
    (!command.is_empty()).then(|| command.as_str())
}

impl Subresource {
    /// Its kind.
    fn kind(&self) -> Kind {
        match self {
            Subresource::Exec { .. } => Kind::Exec,
            Subresource::Attach { .. } => Kind::Attach,
            Subresource::Portforward => Kind::Portforward,
            Subresource::Debug { .. } => Kind::Debug,
        }
    }
}
