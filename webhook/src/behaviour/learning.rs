//! What was seen and is not written yet.
//!
//! One task owns it. It writes each profile at most once in [`INTERVAL`], with the version that it read: after a conflict
//! it reads and merges again, so that replicas and people lose nothing of each other. What a replica has not written
//! when it is killed is not learned.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use curfew_core::behaviour::{Delta, Features, Learner, Period, Thresholds};
use curfew_crd::InteractionProfile;
use jiff::Timestamp;
use kube::{
    Client, Resource,
    api::{GetParams, PostParams},
    core::Request,
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use curfew_runtime::{api, error_chain};

use super::{
    ProfileKey,
    update::{Update, update},
};
use crate::{
    metrics::{Metrics, ProfileWrite},
    names::MANAGER,
};

/// How often a profile is written at most.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long it is waited for more of the same before a profile is written that was not written lately.
const GATHER: Duration = Duration::from_secs(2);
/// What is seen at the same time by two replicas is written with up to so much time between.
const SPREAD: Duration = Duration::from_secs(2);
/// How often a conflict is resolved before the profile waits for its next turn.
const ATTEMPTS: usize = 5;
/// After so many turns that failed, what was seen is dropped: its namespace may be gone.
const MAX_FAILURES: u32 = 20;
/// The most workloads of which something waits.
const MAX_WORKLOADS: usize = 1024;
/// The most criteria that wait, of all workloads together.
const MAX_CRITERIA: usize = 4096;
/// How many requests are remembered: the API server repeats one that it got no answer to.
const MAX_REQUESTS: usize = 256;
/// How long the last writes may take when the process stops.
const LAST: Duration = Duration::from_secs(3);

/// What the task is told.
#[derive(Debug)]
pub(super) enum Seen {
    /// An interaction that is to be learned.
    Usual {
        key: ProfileKey,
        /// Of each container.
        features: Vec<Features>,
        time: Timestamp,
        /// The UID of the request.
        request: String,
        thresholds: Thresholds,
    },
    /// What the session of an interaction left behind, which is to be learned, too.
    Left {
        key: ProfileKey,
        features: Features,
        time: Timestamp,
        /// The UID of the request, and what was left.
        request: String,
        thresholds: Thresholds,
    },
    /// An interaction that is not, or what its session left.
    Irregular {
        key: ProfileKey,
        user: Option<String>,
        reason: String,
        time: Timestamp,
        request: String,
        thresholds: Thresholds,
    },
    /// A pod of the workload was found misused.
    Misused { key: ProfileKey, period: Period },
    /// The status does not show what becomes of the spec.
    Unreported { key: ProfileKey },
}

/// Learns.
pub(super) struct LearningTask {
    client: Client,
    metrics: Metrics,
    /// No other process has this name, nor had.
    process: String,
    /// How many learners there were: the numbers of each begin anew.
    learners: u64,
    workloads: HashMap<ProfileKey, Pending>,
    requests: VecDeque<String>,
}

/// What waits of one workload.
#[derive(Debug)]
struct Pending {
    learner: Learner,
    thresholds: Thresholds,
    unreported: bool,
    written: Option<Instant>,
    due: Option<Instant>,
    failures: u32,
}

/// What became of a write.
enum WriteError {
    /// The profile is not there, and nothing was learned that it would have to be created for.
    NoProfile,
    /// It has to be tried again.
    Failed(String),
}

impl LearningTask {
    pub(super) fn new(client: Client, process: String, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            process,
            learners: 0,
            workloads: HashMap::new(),
            requests: VecDeque::new(),
        }
    }

    /// Learns until `stop`, and writes what is left then.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Seen>, stop: CancellationToken) {
        loop {
            let due = self.workloads.values().filter_map(|pending| pending.due);
            let due = due.min();
            tokio::select! {
                () = stop.cancelled() => break,
                seen = queue.recv() => match seen {
                    Some(seen) => self.absorb(seen),
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.write_next().await,
            }
        }
        while let Ok(seen) = queue.try_recv() {
            self.absorb(seen);
        }
        let last = async {
            while self.workloads.values().any(|pending| pending.due.is_some()) {
                self.write_next().await;
            }
        };
        if timeout(LAST, last).await.is_err() {
            tracing::warn!(
                event = "unlearned",
                "not all that was seen could be written before the end"
            );
        }
    }

    /// Adds it to what waits.
    pub(super) fn absorb(&mut self, seen: Seen) {
        let (key, thresholds) = match &seen {
            Seen::Usual {
                key,
                request,
                thresholds,
                ..
            }
            | Seen::Left {
                key,
                request,
                thresholds,
                ..
            }
            | Seen::Irregular {
                key,
                request,
                thresholds,
                ..
            } => {
                if self.requests.contains(request) {
                    return;
                }
                self.requests.truncate(MAX_REQUESTS - 1);
                self.requests.push_front(request.clone());
                (key, Some(*thresholds))
            }
            Seen::Misused { key, .. } | Seen::Unreported { key } => (key, None),
        };
        let waiting: usize = self
            .workloads
            .values()
            .map(|pending| pending.learner.criteria())
            .sum();
        let Some(pending) = self.pending(key.clone()) else {
            return self.metrics.unlearned();
        };
        pending.thresholds = thresholds.unwrap_or(pending.thresholds);
        match seen {
            Seen::Usual { features, time, .. } if waiting < MAX_CRITERIA => {
                for features in &features {
                    pending.learner.gathered().learn(features, time);
                }
            }
            Seen::Left { features, time, .. } if waiting < MAX_CRITERIA => {
                pending.learner.gathered().learn_left(&features, time);
            }
            Seen::Usual { .. } | Seen::Left { .. } => return self.metrics.unlearned(),
            Seen::Irregular {
                user, reason, time, ..
            } => {
                let user = user.unwrap_or_default();
                pending.learner.gathered().irregular(&user, &reason, time);
            }
            Seen::Misused { period, .. } => pending.learner.gathered().distrust(period),
            Seen::Unreported { .. } => pending.unreported = true,
        }
        pending.wait();
    }

    fn pending(&mut self, key: ProfileKey) -> Option<&mut Pending> {
        if !self.workloads.contains_key(&key) && self.workloads.len() >= MAX_WORKLOADS {
            self.workloads.retain(|_, pending| !pending.is_idle());
            if self.workloads.len() >= MAX_WORKLOADS {
                return None;
            }
        }
        let (process, learners) = (&self.process, &mut self.learners);
        Some(self.workloads.entry(key).or_insert_with(|| {
            *learners += 1;
            Pending {
                learner: Learner::new(&format!("{process}-{learners}")),
                thresholds: Thresholds::default(),
                unreported: false,
                written: None,
                due: None,
                failures: 0,
            }
        }))
    }

    /// Writes what has waited longest.
    async fn write_next(&mut self) {
        let waiting = self
            .workloads
            .iter()
            .filter_map(|(key, pending)| Some((pending.due?, key)));
        let Some((_, key)) = waiting.min_by_key(|(due, _)| *due) else {
            return;
        };
        let key = key.clone();
        let Some(pending) = self.workloads.get_mut(&key) else {
            return;
        };
        let delta = pending.learner.next_delta().cloned();
        let thresholds = pending.thresholds;
        let written = self.write(&key, delta, thresholds).await;
        let result = match &written {
            Ok(result) => *result,
            Err(WriteError::NoProfile) => ProfileWrite::Unchanged,
            Err(WriteError::Failed(_)) => ProfileWrite::Failed,
        };
        self.metrics.profile_written(result);
        let Some(pending) = self.workloads.get_mut(&key) else {
            return;
        };
        pending.written = Some(Instant::now());
        pending.due = None;
        let Err(WriteError::Failed(error)) = written else {
            pending.failures = 0;
            pending.unreported = false;
            pending.learner.written();
            // What was seen meanwhile.
            return pending.wait();
        };
        pending.failures += 1;
        let dropped = pending.failures > MAX_FAILURES;
        tracing::warn!(
            event = "profile-write",
            namespace = key.namespace,
            profile = key.name,
            dropped,
            error,
            "cannot write the profile"
        );
        match dropped {
            true => {
                self.workloads.remove(&key);
                self.metrics.unlearned();
            }
            false => pending.wait(),
        }
    }

    async fn write(
        &self,
        key: &ProfileKey,
        delta: Option<Delta>,
        thresholds: Thresholds,
    ) -> Result<ProfileWrite, WriteError> {
        let requests = Request::new(InteractionProfile::url_path(&(), Some(&key.namespace)));
        let built = |error: kube::core::request::Error| WriteError::Failed(error.to_string());
        let failed = |error: kube::Error| WriteError::Failed(error_chain::short(&error));
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        for _ in 0..ATTEMPTS {
            let get = requests
                .get(&key.name, &GetParams::default())
                .map_err(built)?;
            let text = match api::call(self.client.request_text(get)).await {
                Ok(text) => text,
                Err(error) if error_chain::code(&error) == Some(404) => {
                    if !delta.as_ref().is_some_and(Delta::has_samples) {
                        return Err(WriteError::NoProfile);
                    }
                    let new = json!({
                        "apiVersion": InteractionProfile::api_version(&()),
                        "kind": InteractionProfile::kind(&()),
                        "metadata": {"name": key.name, "namespace": key.namespace},
                        "spec": {},
                    });
                    let create = requests
                        .create(&params, new.to_string().into_bytes())
                        .map_err(built)?;
                    match api::call(self.client.request_text(create)).await {
                        Ok(text) => text,
                        // Another replica was first.
                        Err(error) if error_chain::code(&error) == Some(409) => continue,
                        Err(error) => return Err(failed(error)),
                    }
                }
                Err(error) => return Err(failed(error)),
            };
            let delta = delta.clone();
            let updated = spawn_blocking(move || {
                update(&text, delta.as_ref(), &thresholds, whole(Timestamp::now()))
            });
            let body = match updated.await {
                Ok(Ok(Update::Replace(body))) => body,
                Ok(Ok(Update::None)) => return Ok(ProfileWrite::Unchanged),
                Ok(Err(error)) => {
                    return Err(WriteError::Failed(format!("it cannot be read: {error}")));
                }
                Err(error) => return Err(WriteError::Failed(error.to_string())),
            };
            let put = requests
                .replace_subresource("status", &key.name, &params, body)
                .map_err(built)?;
            match api::call(self.client.request_text(put)).await {
                Ok(_) => return Ok(ProfileWrite::Written),
                // Changed or deleted since it was read.
                Err(error) if matches!(error_chain::code(&error), Some(404 | 409)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(WriteError::Failed("it changed too often".to_owned()))
    }
}

impl Pending {
    /// Sets when it is written, if there is something to write.
    fn wait(&mut self) {
        if self.due.is_some() || !self.unreported && !self.learner.has_news() {
            return;
        }
        let gathered = Instant::now() + GATHER;
        let due = self
            .written
            .map_or(gathered, |at| gathered.max(at + INTERVAL));
        self.due = Some(due + SPREAD.mul_f64(fraction()));
    }

    fn is_idle(&self) -> bool {
        self.due.is_none() && self.written.is_none_or(|at| at.elapsed() > INTERVAL)
    }
}

/// A part of one, by chance.
fn fraction() -> f64 {
    f64::from(Timestamp::now().subsec_nanosecond() % 1000) / 1000.0
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or_default()
}
