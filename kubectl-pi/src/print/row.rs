//! What the marks on one pod say, as a line of the table.

use std::time::Duration;

use curfew_core::{
    Actor, Enforcement, Exemption, PodId, Record, State,
    duration::{self, relative},
    metadata,
    record::EvictNow,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::{
    blocks::{Block, Blocks},
    detach::is_detached,
};

/// What the API server sent of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting<'a> {
    pub(crate) meta: &'a ObjectMeta,
    /// Not among the metadata.
    pub(crate) node: Option<&'a str>,
    /// Not among the metadata.
    pub(crate) phase: Option<&'a str>,
}

impl<'a> Sighting<'a> {
    /// One of which only the metadata were asked for.
    pub(crate) fn of(meta: &'a ObjectMeta) -> Self {
        Self {
            meta,
            node: None,
            phase: None,
        }
    }

    /// Whether the pod should be gone and is not on its way.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        self.unblocked_state(now) == State::Due
    }

    fn unblocked_state(&self, now: Timestamp) -> State {
        let eviction_time = eviction_time(self.meta);
        if self.meta.deletion_timestamp.is_some() {
            return State::Terminating;
        }
        if matches!(self.phase, Some("Succeeded" | "Failed")) {
            return State::Finished;
        }
        match eviction_time {
            None if exemption(self.meta) == Some(Exemption::Protected) => State::Protected,
            None if record(self.meta).is_some_and(|record| record.is_released()) => State::Released,
            None => State::Recorded,
            Some(_) if annotation(self.meta, metadata::MIRROR).is_some() => State::Protected,
            Some(at) if at <= now && would_go(self.meta) => State::WouldGo,
            Some(at) if at <= now => State::Due,
            Some(_) if annotation(self.meta, metadata::HOLD).is_some() => State::Held,
            Some(_) => State::Scheduled,
        }
    }
}

/// One pod. What it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) interactor: Option<String>,
    pub(crate) actor: Option<&'static str>,
    pub(crate) ttl: Option<String>,
    pub(crate) extension: Option<String>,
    pub(crate) extension_requester: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) interaction: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) state: State,
    /// What there is to say about the state.
    pub(crate) reason: Option<String>,
    eviction_time: Option<Timestamp>,
    /// What stands there when that is not a time.
    no_time: Option<String>,
    /// The budget that stands in the way, while one does.
    budget: Option<String>,
    /// When it was asked to end.
    terminating_since: Option<Timestamp>,
    /// It is not evicted, whatever its eviction time is.
    dry_run: bool,
    /// Its owner and Services select it no longer.
    detached: bool,
    /// Who ordered to evict it now.
    ordered_by: Option<String>,
    /// It is no more.
    gone: bool,
}

impl Row {
    /// The row of a pod at the time `now`, given what is known to block evictions.
    pub(crate) fn new(pod: Sighting<'_>, blocks: &Blocks, now: Timestamp) -> Self {
        let get = |key| annotation(pod.meta, key).map(str::to_owned);
        let eviction_time = eviction_time(pod.meta);
        let state = pod.unblocked_state(now);
        let block = match (state, eviction_time) {
            (State::Due, Some(at)) => blocks.of(pod.meta.uid.as_deref().unwrap_or_default(), at),
            _ => None,
        };
        let reason = match (&block, state) {
            (Some(block), _) => Some(block.message.clone()),
            (None, State::Held) => get(metadata::HOLD),
            (None, State::Due | State::Terminating) => {
                evict_now(pod.meta).map(|order| order.reason)
            }
            (None, State::Recorded) => {
                exemption(pod.meta).map(|exemption| exemption.as_str().to_owned())
            }
            _ => None,
        };
        Self {
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            interactor: get(metadata::INTERACTOR),
            actor: annotation(pod.meta, metadata::INTERACTOR).map(|user| Actor::of(user).as_str()),
            ttl: get(metadata::TTL),
            extension: get(metadata::EXTENSION),
            extension_requester: get(metadata::EXTENSION_REQUESTER),
            node: pod.node.map(str::to_owned),
            interaction: get(metadata::INTERACTION),
            command: get(metadata::COMMAND),
            state: block.as_ref().map_or(state, |block| block.state),
            reason,
            eviction_time,
            no_time: match eviction_time {
                Some(_) => None,
                // Whoever wrote it should see that.
                None => get(metadata::EVICTION_TIME),
            },
            budget: block.and_then(|Block { budget, .. }| budget),
            terminating_since: terminating_since(pod.meta),
            dry_run: is_dry_run(pod.meta),
            detached: is_detached(pod.meta),
            ordered_by: evict_now(pod.meta).map(|order| order.requester),
            gone: false,
        }
    }

    /// The same pod when it is no more.
    pub(crate) fn gone(self) -> Self {
        Self { gone: true, ..self }
    }

    /// When it is evicted, absolutely and relative to `now`, and what is out of the ordinary.
    pub(crate) fn eviction_time(&self, now: Timestamp) -> Option<String> {
        if self.gone {
            return Some("gone".to_owned());
        }
        let relative = self.eviction_time.map(|at| relative(at, now));
        let would_be = if self.dry_run { "would be " } else { "" };
        let state = match (self.state, &self.budget) {
            (State::WouldGo, _) => Some("would go".to_owned()),
            (State::Scheduled | State::Due, _) if self.dry_run => Some("dry run".to_owned()),
            // What the time itself says, or the absence of one.
            (State::Scheduled | State::Due | State::Recorded | State::Unseen, _) => None,
            (State::Blocked, Some(budget)) => Some(format!("{would_be}blocked by PDB {budget}")),
            (State::Stuck, Some(budget)) => {
                Some(format!("{would_be}stuck, blocked by PDB {budget}"))
            }
            (State::Blocked | State::Stuck | State::Retrying, None) if self.dry_run => {
                Some(format!("{would_be}{}", self.state))
            }
            (State::Terminating, _) => Some(self.terminating(now)),
            (other, _) => Some(other.as_str().to_owned()),
        };
        let detached = self.detached.then(|| "detached".to_owned());
        let ordered = self
            .ordered_by
            .as_ref()
            .map(|by| format!("ordered by {by}"));
        let remarks = relative.into_iter().chain(state).chain(ordered);
        let remarks: Vec<_> = remarks.chain(detached).collect();
        match self.eviction_time {
            Some(at) => Some(format!("{at} ({})", remarks.join(", "))),
            None if self.state == State::Terminating => Some(self.terminating(now)),
            None if self.state == State::Released => Some(State::Released.as_str().to_owned()),
            None => self.no_time.clone(),
        }
    }

    /// That it was asked to end, and how long ago.
    fn terminating(&self, now: Timestamp) -> String {
        let since = self.terminating_since;
        let age = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        match age {
            Some(age) => format!("terminating for {}", duration::format(age)),
            None => "terminating".to_owned(),
        }
    }

    /// Whether the eviction is less than this many seconds ahead.
    pub(crate) fn is_within(&self, seconds: i64, now: Timestamp) -> bool {
        self.eviction_time
            .is_some_and(|at| at.duration_since(now).as_secs() < seconds)
    }
}

/// The order to evict the pod now, where there is one.
pub(crate) fn evict_now(pod: &ObjectMeta) -> Option<EvictNow> {
    metadata::evict_now(pod.annotations.as_ref()?)
}

/// Sorts pods by their eviction time; those without one come last, and names decide between equals.
pub(crate) fn order(pod: &ObjectMeta) -> impl Ord + use<> {
    let time = eviction_time(pod);
    (
        time.is_none(),
        time,
        pod.namespace.clone(),
        pod.name.clone(),
    )
}

/// The value of an annotation.
pub(crate) fn annotation<'a>(pod: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    pod.annotations.as_ref()?.get(key).map(String::as_str)
}

/// When the pod's metadata say that it is evicted.
pub(crate) fn eviction_time(pod: &ObjectMeta) -> Option<Timestamp> {
    annotation(pod, metadata::EVICTION_TIME)?.parse().ok()
}

/// Whether the pod's metadata say that its eviction is a dry run.
pub(crate) fn is_dry_run(pod: &ObjectMeta) -> bool {
    let annotations = pod.annotations.as_ref();
    annotations.map(metadata::enforcement) == Some(Enforcement::DryRun)
}

/// Whether they say that the API server would have evicted it.
fn would_go(pod: &ObjectMeta) -> bool {
    is_dry_run(pod) && record(pod).is_some_and(|record| record.would_go.is_some())
}

/// When the pod was asked to end: what stands there is the end of its grace period.
fn terminating_since(pod: &ObjectMeta) -> Option<Timestamp> {
    let grace_ends = pod.deletion_timestamp.as_ref()?.0;
    let grace = pod.deletion_grace_period_seconds.unwrap_or_default();
    grace_ends
        .checked_sub(SignedDuration::from_secs(grace))
        .ok()
}

/// The record that the pod's metadata tell, where they can be read.
pub(crate) fn record(pod: &ObjectMeta) -> Option<Record> {
    let id = PodId {
        namespace: pod.namespace.clone()?,
        name: pod.name.clone()?,
        uid: pod.uid.clone()?,
    };
    let marks = metadata::read(&id, pod.annotations.as_ref()?).ok()?;
    Record::from_marks(id, marks)
}

fn exemption(pod: &ObjectMeta) -> Option<Exemption> {
    record(pod)?.exemption()
}

#[cfg(test)]
pub(crate) mod tests;
