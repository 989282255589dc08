//! The admission of an interaction, from the request to the answer.
//!
//! Owns the order of the steps, and decides about interactions that could not be recorded anywhere ([`unrecorded`]).
//! Other modules read the review, find the pod (and the requests to skip), record the interaction and write the
//! messages.

mod answer;
mod find;
mod log;
mod removal;
mod unrecorded;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use curfew_core::{
    Command, Interaction, Kind, RecordedInteraction, Terms, policy::RecordCommand, text::cut,
};
use curfew_crd::Attempt;
use jiff::Timestamp;
use kube::Client;

pub use self::removal::Removal;
use self::{
    find::{PodLookupError, Skipped},
    log::RecordedLog,
    unrecorded::{UnrecordedInteraction, told},
};
use crate::{
    args::Unrecorded,
    behaviour::{self, Behaviour, Compared},
    metrics::{Metrics, Outcome, RecordedIn},
    placement::PodReadError,
    policy::{AdmissionDecision, Knowledge, Rules},
    recording::{RecordError, Recorder},
    review::{
        self, Request,
        answer::{self as response, Answer, AuditAnnotations},
    },
};

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
    /// What is usual.
    pub behaviour: Behaviour,
    /// What becomes of one that could be recorded nowhere.
    pub unrecorded: Unrecorded,
    /// How long reading a pod may take.
    pub pod_timeout: Duration,
    /// Whether Curfew is being removed.
    pub removal: Removal,
    /// To count.
    pub metrics: Metrics,
}

/// Answers the review of an interaction.
pub(crate) async fn interaction(State(admission): State<Arc<Admission>>, body: Bytes) -> Response {
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
            return response::unreadable(&error);
        }
    };
    let mut audit = AuditAnnotations::default();
    let (kind, outcome, answer) = match review.request {
        Ok(request) => {
            let kind = request.subresource.kind();
            let (outcome, answer) = admission
                .decide(request, &review.uid, now, &mut audit)
                .await;
            (Some(kind), outcome, answer)
        }
        Err(error) => {
            tracing::warn!(event = "invalid", id = review.uid, %error, "a review of another request");
            (None, Outcome::Invalid, response::invalid(&error))
        }
    };
    admission.metrics.admitted(kind, outcome, began.elapsed());
    answer.audited(review.uid, audit).into_response()
}

impl Admission {
    /// What becomes of a request; `audit` gets what the audit log is told of it.
    async fn decide(
        &self,
        mut request: Request,
        uid: &str,
        now: Timestamp,
        audit: &mut AuditAnnotations,
    ) -> (Outcome, Answer) {
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
            Err(PodLookupError::Skipped(why)) => {
                return skipped(uid, &named, kind, why);
            }
            Err(PodLookupError::Failed(failure)) => {
                self.metrics.recorded(RecordedIn::Nowhere, 1);
                audit.recorded = Some(RecordedIn::Nowhere.into());
                let (removed, why) = match failure {
                    PodReadError::Unauthorised(why) => (self.removal.refused(), why),
                    PodReadError::Failed(why) => (false, why),
                };
                let subject = UnrecordedInteraction {
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
        let compared = match self.rules.concern_behaviour() {
            true => self
                .behaviour
                .compare(&found.pod, attempt, &found.commands, now),
            false => None,
        };
        let assessment = compared.as_ref().and_then(Compared::assessment);
        let ruling = self.rules.decide(attempt, &found.pod, assessment);
        let (AdmissionDecision::Admit { behaviour, .. }
        | AdmissionDecision::Deny { behaviour, .. }) = ruling;
        let decision = self.behaviour.decide(compared.as_ref(), behaviour);
        let irregular = behaviour::irregular(decision.as_ref());
        audit.irregular.clone_from(&irregular);
        let tell = |learn| {
            if let Some(compared) = compared {
                self.behaviour
                    .tell(compared, decision.as_ref(), behaviour, learn, uid);
            }
        };
        let (policy, terms, record_command, learn) = match ruling {
            AdmissionDecision::Admit {
                policy,
                terms,
                record_command,
                learn,
                ..
            } => {
                audit.policy.clone_from(&policy);
                audit.terms = serde_json::to_string(&terms).ok();
                (policy, terms, record_command, learn)
            }
            AdmissionDecision::Deny {
                policy,
                record_command,
                ..
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
                        irregular,
                    );
                }
                tell(false);
                let answer = answer::forbidden(&named, kind, &policy, irregular.as_deref());
                audit.terms = Some(r#"{"action":"Deny"}"#.to_owned());
                audit.policy = Some(policy);
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
        let known = known(
            &found.commands,
            &interaction,
            terms,
            policy.as_deref(),
            record_command,
            irregular.as_deref(),
        );
        let node = found.pod.node().map(str::to_owned);
        let ending = found.pod.ending();
        match self.recorder.record(found.pod, &known).await {
            Ok(outcome) => {
                if let Some(exemption) = terms.exemption {
                    self.metrics.exempted(exemption);
                }
                tell(learn);
                audit.recorded = Some(outcome.recorded_in.into());
                // A pod that ends by itself is not evicted.
                let eviction_time = outcome.deadline.filter(|_| ending.is_none());
                audit.eviction_time = eviction_time.map(|at| at.to_string());
                let answer = answer::recorded(
                    &outcome.pod,
                    &terms,
                    outcome.deadline,
                    outcome.dry_run,
                    ending,
                );
                RecordedLog {
                    known,
                    outcome,
                    node,
                    spo_request: found.spo_request,
                }
                .after_the_answer();
                (Outcome::Recorded, answer)
            }
            Err(RecordError::Gone) => {
                *audit = AuditAnnotations::default();
                skipped(uid, &named, kind, Skipped::NoPod)
            }
            Err(failure) => {
                let removed =
                    matches!(failure, RecordError::Unauthorised(_)) && self.removal.refused();
                audit.recorded = Some(RecordedIn::Nowhere.into());
                let subject = UnrecordedInteraction {
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
}

/// What is to be recorded of a request: the interaction, in each of these containers.
fn known(
    commands: &[(Option<String>, Vec<String>)],
    interaction: &Interaction,
    terms: Terms,
    policy: Option<&str>,
    record_command: RecordCommand,
    irregular: Option<&str>,
) -> Vec<RecordedInteraction> {
    commands
        .iter()
        .map(|(container, argv)| RecordedInteraction {
            interaction: Interaction {
                container: container.clone(),
                command: record_command.of(argv),
                // One request may add several containers, and each is a separate interaction. Interactions are
                // identified by their request, so each needs its own.
                request: match container {
                    Some(container) if commands.len() > 1 => {
                        format!("{}/{container}", interaction.request)
                    }
                    _ => interaction.request.clone(),
                },
                ..interaction.clone()
            },
            terms,
            policy: policy.map(Into::into),
            irregular: irregular.map(Into::into),
        })
        .collect()
}

/// A request is not recorded.
fn skipped(id: &str, pod: &str, kind: Kind, why: Skipped) -> (Outcome, Answer) {
    tracing::debug!(event = "nothing", id, pod, kind = kind.as_str(), ?why);
    (Outcome::Nothing, Answer::Allow(None))
}
