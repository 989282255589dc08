//! What follows from what sessions left behind in pods.
//!
//! Agents write it on the pods, and the watch of touched pods shows it. Owns the one task that compares it with the profile
//! of the workload, and what waits to be told again. What is irregular makes the interaction irregular after it was let
//! through: the policies are asked anew, and the agent is told the stricter terms, with the request of the interaction, by
//! which both are one. Nothing that follows is laxer than what people were told. Each replica does all of it, also after a
//! restart; an interaction that is known as irregular is not looked at again.

use std::{
    cmp::Reverse,
    collections::{HashSet, VecDeque},
    time::Duration,
};

use curfew_core::{
    Kind, RecordedInteraction,
    behaviour::{Features, SeenInteraction},
    left, metadata,
    record::Marks,
};
use curfew_crd::Attempt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    behaviour::{self, Behaviour, Compared, PodLeftovers},
    placement::{self, PodName, PodReadError, pod_id},
    policy::{LaterDecision, Rules},
    recording::{RecordError, Recorder},
};

/// How long to wait until policies and profiles are known.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How long to wait before an agent and an API server that did not answer are asked again.
const PAUSE: Duration = Duration::from_secs(10);
/// How often.
const ATTEMPTS: u32 = 30;
/// The most that waits for that.
const MAX_WAITING: usize = 1024;

/// Decides what follows, and has it carried out.
#[allow(
    missing_debug_implementations,
    reason = "a client of the API server has none"
)]
pub(crate) struct Leftovers {
    /// To read the pods in which something irregular was left.
    pub(crate) client: Client,
    /// To tell the agents.
    pub(crate) recorder: Recorder,
    /// What follows.
    pub(crate) rules: Rules,
    /// What is usual.
    pub(crate) behaviour: Behaviour,
    /// How long reading a pod may take.
    pub(crate) pod_timeout: Duration,
}

/// A pod, and what was done about it.
struct Case {
    found: PodLeftovers,
    /// Whether the profile was told.
    told: bool,
    failures: u32,
    again: Instant,
}

/// The session that left something behind, as far as that can be told.
struct Session {
    /// Its interaction.
    known: RecordedInteraction,
    compared: Compared,
    /// It may have been left by a session that nobody admitted, which teaches nothing.
    is_doubtful: bool,
}

/// Why something could not be carried out. It is tried again.
#[derive(Debug, thiserror::Error)]
enum CarryOutError {
    #[error("pod: {0}")]
    Pod(#[from] PodReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Leftovers {
    /// Looks at each pod that is found.
    ///
    /// # Errors
    /// Never: it ends when nothing can be found any more.
    pub(crate) async fn run(self, mut found: mpsc::Receiver<PodLeftovers>) -> anyhow::Result<()> {
        // Without them, nothing would be irregular.
        while !(self.rules.are_known() && self.behaviour.is_known()) {
            sleep(UNKNOWN).await;
        }
        let mut waiting: VecDeque<Case> = VecDeque::new();
        loop {
            // All of them wait for the same time.
            let next = waiting.front().map(|case| case.again);
            let mut case = tokio::select! {
                found = found.recv() => match found {
                    Some(found) => Case::new(found),
                    None => return Ok(()),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    match waiting.pop_front() {
                        Some(case) => case,
                        None => continue,
                    }
                }
            };
            let Err(error) = self.judge(&mut case).await else {
                continue;
            };
            case.failures += 1;
            let dropped = case.failures >= ATTEMPTS || waiting.len() >= MAX_WAITING;
            let pod = pod_id(&case.found.metadata);
            tracing::warn!(
                event = "leftovers-untold", %pod, uid = pod.uid, %error, dropped,
                "what follows from what a session left behind cannot be carried out yet"
            );
            if !dropped {
                case.again = Instant::now() + PAUSE;
                waiting.push_back(case);
            }
        }
    }

    /// The same for one pod that was found.
    #[cfg(test)]
    pub(crate) async fn judge_once(&self, found: PodLeftovers) -> Result<(), String> {
        let judged = self.judge(&mut Case::new(found)).await;
        judged.map_err(|error| error.to_string())
    }

    /// Compares what is found in a pod, and carries out what follows.
    async fn judge(&self, case: &mut Case) -> Result<(), CarryOutError> {
        let Case { found, told, .. } = case;
        let Some(session) = self.compare(found) else {
            return Ok(());
        };
        let Session {
            known, compared, ..
        } = &session;
        let request = &known.interaction.request;
        let Some(later) = self.decide(&session, &found.metadata, None) else {
            let pod = pod_id(&found.metadata);
            tracing::info!(
                event = "leftovers-undecided", %pod, uid = pod.uid, id = request, left = left::text(&found.left),
                "what follows depends on the user's groups or on words of the command, which are not recorded"
            );
            return Ok(());
        };
        let decision = compared.decide(later.behaviour);
        if !std::mem::replace(told, true) {
            let learn = later.learn && !found.is_old && !session.is_doubtful;
            self.behaviour
                .tell_left(compared, decision.as_ref(), later.behaviour, learn, request);
        }
        match behaviour::irregular(decision.as_ref()) {
            Some(reason) => self.correct(&session, found, reason).await,
            None => Ok(()),
        }
    }

    /// The session that left what is found, compared with the profile; none where there is nothing to compare.
    fn compare(&self, found: &PodLeftovers) -> Option<Session> {
        let PodLeftovers { metadata, left, .. } = found;
        let pod = pod_id(metadata);
        if !self.rules.concern_behaviour() || self.rules.is_exempt(&pod.namespace) {
            return None;
        }
        // What cannot be read, the agent writes anew.
        let marks = metadata::read(&pod, metadata.annotations.as_ref()?).ok()?;
        let sessions = sessions(&marks);
        let has_request = |known: &&&RecordedInteraction| !known.interaction.request.is_empty();
        let known = *sessions.iter().find(has_request)?;
        // It was irregular before, or a replica has told the agent.
        if known.irregular.is_some() {
            return None;
        }
        let is_other =
            |other: &&&RecordedInteraction| other.interaction.user != known.interaction.user;
        let others = sessions.iter().filter(is_other).copied();
        let features = [known].into_iter().chain(others);
        let features = features.map(|known| features_of(known).leaving(left.clone()));
        let time = known.interaction.time;
        Some(Session {
            compared: self
                .behaviour
                .compare_left(metadata, features.collect(), time)?,
            known: known.clone(),
            is_doubtful: told(&marks).any(|known| known.interaction.kind == Kind::Bypass),
        })
    }

    /// What follows now; none where that is not known.
    fn decide(
        &self,
        session: &Session,
        metadata: &ObjectMeta,
        priority: Option<i32>,
    ) -> Option<LaterDecision> {
        let RecordedInteraction {
            interaction: did,
            policy,
            ..
        } = &session.known;
        let (words, is_whole) = did.command.words();
        let attempt = Attempt {
            user: &did.user,
            groups: &[],
            kind: did.kind,
            argv: &words,
            stdin: did.stdin,
            tty: did.tty,
        };
        let assessment = session.compared.assessment();
        let pod = (metadata, priority);
        self.rules
            .decide_later(attempt, pod, assessment, policy.as_deref(), is_whole)
    }

    /// Tells the agent that the interaction is irregular, and what follows.
    async fn correct(
        &self,
        session: &Session,
        found: &PodLeftovers,
        reason: String,
    ) -> Result<(), CarryOutError> {
        let id = pod_id(&found.metadata);
        let Some(name) = PodName::new(&id.namespace, &id.name) else {
            return Ok(());
        };
        let pod = placement::find(&self.client, name, self.pod_timeout).await?;
        let Some(pod) = pod.filter(|pod| pod.id() == id) else {
            return Ok(());
        };
        // A pod of this priority may be one that is never evicted.
        let later = self.decide(session, &pod.metadata, pod.spec.priority);
        let known = corrected(&session.known, reason, later);
        let (did, node) = (&known.interaction, pod.node().map(str::to_owned));
        match self.recorder.correct(pod, known.clone()).await {
            Ok(outcome) => tracing::warn!(
                event = "irregular-leftovers", pod = %id, uid = id.uid, node, id = did.request, user = did.user,
                left = left::text(&found.left), irregular = known.irregular.as_deref(),
                policy = known.policy.as_deref(),
                recorded = outcome.recorded_in.as_ref(), without_agent = outcome.without_agent,
                dry_run = outcome.dry_run, deadline = outcome.deadline.map(|deadline| deadline.to_string()),
                "what a session left behind is irregular"
            ),
            Err(RecordError::Gone) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Case {
    fn new(found: PodLeftovers) -> Self {
        Self {
            found,
            told: false,
            failures: 0,
            again: Instant::now(),
        }
    }
}

/// The interaction as it is from now on. Only a policy that applies because it is irregular changes its terms: another
/// one may have been written since, and does not move a deadline that people were told.
fn corrected(
    known: &RecordedInteraction,
    reason: String,
    later: Option<LaterDecision>,
) -> RecordedInteraction {
    let mut known = known.clone();
    known.irregular = Some(reason.into());
    if let Some(later) = later.filter(|later| later.because_irregular) {
        known.terms = known.terms.strictest(later.terms);
        known.policy = later.policy.map(Into::into);
    }
    known
}

/// The interactions of which the pod tells in full or in part.
fn told(marks: &Marks) -> impl Iterator<Item = &RecordedInteraction> {
    marks.known.iter().chain(&marks.unsynced)
}

/// The latest exec of each user: what is left behind is of one of them. Other kinds start no process whose end is seen.
fn sessions(marks: &Marks) -> Vec<&RecordedInteraction> {
    let execs = told(marks).filter(|known| known.interaction.kind == Kind::Exec);
    let mut execs: Vec<_> = execs.collect();
    execs.sort_by_key(|known| {
        let did = &known.interaction;
        Reverse((did.time, !did.request.is_empty()))
    });
    let mut users = HashSet::new();
    execs.retain(|known| users.insert(&known.interaction.user));
    execs
}

/// What is known of an interaction from the pod.
fn features_of(known: &RecordedInteraction) -> Features {
    let did = &known.interaction;
    Features::of(&SeenInteraction {
        user: &did.user,
        groups: &[],
        kind: did.kind,
        container: did.container.as_deref(),
        argv: &did.command.words().0,
        tty: did.tty,
        stdin: did.stdin,
        time: did.time,
        rate: 1,
    })
}
