//! What is usual for a workload, and how interactions compare with it.
//!
//! Owns a compact index of each InteractionProfile ([`profiles`]), how often users come ([`rates`]), and what was seen
//! and is not written yet ([`learning`]). Each has one task that writes it; admissions only read, and tell
//! [`learning`] what became of an interaction. [`curfew_core::behaviour`] decides, and [`crate::policy`] says what
//! follows.
//!
//! A profile that is missing, not read yet or unfit makes nothing irregular: nobody is stopped by accident.

mod learning;
mod left;
mod misuse;
mod profiles;
mod projection;
mod rates;
#[cfg(test)]
mod tests;
mod update;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use curfew_core::{
    behaviour::{Assessment, Decision, Features, SeenInteraction, Thresholds, assess},
    record::MAX_IRREGULAR,
    text::cut,
    workload::Workload,
};
use curfew_crd::Attempt;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use curfew_runtime::watch::Watches;

pub(crate) use self::left::PodLeftovers;
use self::{
    learning::{LearningTask, Seen},
    left::LeftWatch,
    profiles::Profiles,
    rates::Rates,
};
use crate::{
    metrics::{Metrics, ProfileCounts},
    placement::Pod,
};

/// How many messages wait for the learning task. It is told of each interaction, so that this is seconds.
const QUEUE: usize = 1024;
/// How many containers of one request are compared.
const MAX_CONTAINERS: usize = 32;

/// The profile of a workload: its namespace and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProfileKey {
    namespace: String,
    name: String,
}

/// What admissions ask. Clones are the same.
#[derive(Debug, Clone)]
pub struct Behaviour {
    profiles: Profiles,
    rates: Arc<Rates>,
    seen: mpsc::Sender<Seen>,
    metrics: Metrics,
}

/// Who keeps [`Behaviour`] up to date.
#[derive(Debug)]
pub struct BehaviourUpdater {
    profiles: Profiles,
    seen: mpsc::Sender<Seen>,
    queue: mpsc::Receiver<Seen>,
    left: LeftWatch,
    metrics: Metrics,
}

/// An interaction, compared with the profile of its workload.
#[derive(Debug)]
pub(crate) struct Compared {
    key: ProfileKey,
    features: Vec<Features>,
    assessment: Option<Assessment>,
    time: Timestamp,
}

/// A behaviour that knows nothing yet, who is to keep it, and what is found in touched pods.
pub(crate) fn behaviour(
    metrics: &Metrics,
) -> (Behaviour, BehaviourUpdater, mpsc::Receiver<PodLeftovers>) {
    let (found, leftovers) = mpsc::channel(QUEUE);
    let (seen, queue) = mpsc::channel(QUEUE);
    let profiles = Profiles::default();
    let behaviour = Behaviour {
        profiles: profiles.clone(),
        rates: Arc::default(),
        seen: seen.clone(),
        metrics: metrics.clone(),
    };
    let updater = BehaviourUpdater {
        profiles,
        seen,
        queue,
        left: LeftWatch::new(found),
        metrics: metrics.clone(),
    };
    (behaviour, updater, leftovers)
}

impl Behaviour {
    /// How an interaction compares with the profile of the pod's workload; none where the pod has none. `commands` are
    /// containers, and what is to run in them.
    pub(crate) fn compare(
        &self,
        pod: &Pod,
        attempt: Attempt<'_>,
        commands: &[(Option<String>, Vec<String>)],
        time: Timestamp,
    ) -> Option<Compared> {
        let workload = curfew_crd::workload(&pod.metadata)?;
        let key = ProfileKey {
            namespace: pod.metadata.namespace.clone()?,
            name: workload.object_name(),
        };
        let rate = self.rates.count(&key, attempt.user, time);
        let features: Vec<_> = commands
            .iter()
            .take(MAX_CONTAINERS)
            .map(|(container, argv)| {
                Features::of(&SeenInteraction {
                    user: attempt.user,
                    groups: attempt.groups,
                    kind: attempt.kind,
                    container: container.as_deref(),
                    argv,
                    tty: attempt.tty,
                    stdin: attempt.stdin,
                    time,
                    rate,
                })
            })
            .collect();
        Some(Compared {
            assessment: self.assess(&key, &workload, &features, time),
            key,
            features,
            time,
        })
    }

    fn assess(
        &self,
        key: &ProfileKey,
        workload: &Workload,
        features: &[Features],
        time: Timestamp,
    ) -> Option<Assessment> {
        let profile = self.profiles.get(key)?;
        let index = profile.index.as_ref()?;
        let workload = workload.to_string();
        let all = features
            .iter()
            .map(|features| assess(features, index, time, &workload));
        all.reduce(Assessment::worse)
    }

    /// What the interaction is, by what a policy asks of behaviour. It is counted; call it once.
    pub(crate) fn decide(
        &self,
        compared: Option<&Compared>,
        asked: Option<Thresholds>,
    ) -> Option<Decision> {
        let decision = compared?.decide(asked)?;
        self.metrics.compared(&decision);
        Some(decision)
    }

    /// Tells the profile of an interaction: one that is irregular is noted there, whether it was let through or not, and
    /// another one is learned if it was let through and `learn` says so.
    pub(crate) fn tell(
        &self,
        compared: Compared,
        decision: Option<&Decision>,
        asked: Option<Thresholds>,
        learn: bool,
        request: &str,
    ) {
        let Some(thresholds) = asked else { return };
        let Compared {
            key,
            features,
            time,
            ..
        } = compared;
        let request = request.to_owned();
        let seen = match irregular(decision) {
            Some(reason) => Seen::Irregular {
                key,
                user: features.into_iter().next().map(|one| one.user),
                reason,
                time,
                request,
                thresholds,
            },
            None if learn => Seen::Usual {
                key,
                features,
                time,
                request,
                thresholds,
            },
            None => return,
        };
        // An admission does not wait for what is learned of it.
        if self.seen.try_send(seen).is_err() {
            self.metrics.unlearned();
        }
    }

    /// Whether the profiles were read.
    pub fn is_known(&self) -> bool {
        self.profiles.are_known()
    }

    /// How many profiles there are.
    pub fn count(&self) -> ProfileCounts {
        self.profiles.count()
    }
}

impl Compared {
    /// What policies can ask.
    pub(crate) fn assessment(&self) -> Option<&Assessment> {
        self.assessment.as_ref()
    }

    /// What it is, where so much is enough.
    pub(crate) fn decide(&self, asked: Option<Thresholds>) -> Option<Decision> {
        Some(self.assessment.as_ref()?.decide(&asked?))
    }
}

/// Why it is irregular, as far as that is kept; none where it is not.
pub(crate) fn irregular(decision: Option<&Decision>) -> Option<String> {
    let Some(Decision::Irregular { reasons }) = decision else {
        return None;
    };
    let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
    Some(cut(&reasons.join("; "), MAX_IRREGULAR).into_owned())
}

impl BehaviourUpdater {
    /// These are the profiles from now on.
    #[cfg(test)]
    pub(crate) async fn set(&self, profiles: Vec<serde_json::Value>) {
        use kube::runtime::watcher::Event;
        let read = |profile| Ok(Event::InitApply(serde_json::from_value(profile).unwrap()));
        let listed = profiles.into_iter().map(read);
        let events = [Ok(Event::Init)].into_iter().chain(listed);
        let events = futures::stream::iter(events.chain([Ok(Event::InitDone)]));
        // That they are not reported is nothing to these tests.
        let (seen, _) = mpsc::channel(1);
        profiles::follow(events, &self.profiles, &seen).await;
    }

    /// The watch of touched pods shows this one, which no list had.
    #[cfg(test)]
    pub(crate) async fn touched(&mut self, pod: serde_json::Value) {
        use kube::runtime::watcher::Event;
        let pod = serde_json::from_value(pod).unwrap();
        let list = [Event::Init, Event::InitDone].into_iter();
        let list = list.filter(|_| self.left.is_first_list);
        let events: Vec<_> = list.chain([Event::Apply(pod)]).map(Ok).collect();
        let events = futures::stream::iter(events);
        misuse::follow(events, &self.profiles, &self.seen, &mut self.left).await;
    }

    /// What the learning task was told, in the words of the debugger.
    #[cfg(test)]
    pub(crate) fn told(&mut self) -> String {
        let mut told = String::new();
        while let Ok(seen) = self.queue.try_recv() {
            told += &format!("{seen:?}\n");
        }
        told
    }

    /// Keeps the profiles up to date until `stop`, and writes what was seen.
    ///
    /// # Errors
    /// When a watch ends, which it does not by itself.
    pub async fn run(
        self,
        client: Client,
        watches: Watches,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let Self {
            profiles,
            seen,
            queue,
            mut left,
            metrics,
        } = self;
        let process = RandomState::new().hash_one(Timestamp::now());
        let task = LearningTask::new(client.clone(), format!("{process:016x}"), metrics);
        let (watch, touched) = (watches.open("profiles"), watches.open("touched-pods"));
        tokio::select! {
            () = task.run(queue, stop) => Ok(()),
            () = profiles::run(watch, client.clone(), &profiles, &seen) => anyhow::bail!("the watch of profiles ended"),
            () = misuse::run(touched, client, &profiles, &seen, &mut left) => anyhow::bail!("the watch of touched pods ended"),
        }
    }
}
