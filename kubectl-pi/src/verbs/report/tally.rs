//! Counts interactions and pods by what they have in common. No I/O.

use std::collections::BTreeMap;

use curfew_core::{Enforcement, Record, RecordedInteraction, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::By;

/// What stands where several may be meant and nothing says which.
const UNKNOWN: &str = "<unknown>";

/// What stands where no policy applied.
const NO_POLICY: &str = "<none>";

/// A pod that somebody interacted with.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    pub(super) namespace: String,
    /// What would replace it.
    pub(super) workload: String,
    pub(super) record: Record,
    /// Where it stands, where its agent said so.
    pub(super) state: Option<State>,
}

/// A pod that is gone, as its agent remembers it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Evicted {
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) user: String,
    pub(super) result: String,
    pub(super) time: Timestamp,
}

/// What is reported of interactions that have something in common. A pod that several of them touched is counted in
/// each group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    /// What they have in common.
    pub(super) key: String,
    pub(super) interactions: u64,
    /// The pods, those included that are gone.
    pub(super) pods: u64,
    /// Evicted.
    pub(super) evicted: u64,
    /// To be evicted, or still to be asked about.
    pub(super) waiting: u64,
    /// A budget does not allow the eviction.
    pub(super) blocked: u64,
    /// A dry run that would have evicted them.
    pub(super) would_go: u64,
    /// A dry run that a budget would have blocked.
    pub(super) would_be_blocked: u64,
    /// No timer runs.
    pub(super) recorded: u64,
    /// The last interaction, or eviction.
    pub(super) last: Timestamp,
}

/// What comes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting,
    Blocked,
    WouldGo,
    WouldBeBlocked,
    Recorded,
}

impl Touched {
    pub(super) fn standing(&self) -> Standing {
        let blocked = matches!(self.state, Some(State::Blocked | State::Stuck));
        match self.record.enforcement() {
            None => Standing::Recorded,
            Some(Enforcement::DryRun) if self.record.would_go.is_some() => Standing::WouldGo,
            Some(Enforcement::DryRun) if blocked => Standing::WouldBeBlocked,
            Some(Enforcement::Enforce) if blocked => Standing::Blocked,
            Some(_) => Standing::Waiting,
        }
    }

    /// How many interactions there were since then, by key, and the last of each. Those that nobody kept are added to
    /// the others if these have only one key.
    pub(super) fn counts(
        &self,
        since: Timestamp,
        key: impl Fn(&RecordedInteraction) -> String,
    ) -> BTreeMap<String, (u64, Timestamp)> {
        let mut counts = BTreeMap::new();
        let (mut kept, mut before) = (0, false);
        for known in self.record.distinct() {
            kept += 1;
            let time = known.interaction.time;
            if time < since {
                before = true;
                continue;
            }
            let (count, last) = counts.entry(key(known)).or_insert((0, time));
            *count += 1;
            *last = time.max(*last);
        }
        let lost = u64::from(self.record.interactions()).saturating_sub(kept);
        // The latest are kept: those that are not were before them, and so maybe before that time.
        if lost > 0
            && !before
            && let Some(last) = self.record.last()
        {
            let last = last.interaction.time;
            let only = match counts.len() {
                1 => counts.values_mut().next(),
                0 => None,
                _ => Some(counts.entry(UNKNOWN.to_owned()).or_insert((0, last))),
            };
            if let Some((count, _)) = only {
                *count += lost;
            }
        }
        counts
    }
}

/// The groups, those with most interactions first.
pub(super) fn groups<'a>(
    by: By,
    pods: impl Iterator<Item = &'a Touched>,
    gone: &[Evicted],
    since: Timestamp,
) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for pod in pods {
        let standing = pod.standing();
        let key = |known: &RecordedInteraction| key(by, pod, known);
        for (key, (interactions, last)) in pod.counts(since, key) {
            let group = group(&mut groups, &key, last);
            group.interactions += interactions;
            group.pods += 1;
            *match standing {
                Standing::Waiting => &mut group.waiting,
                Standing::Blocked => &mut group.blocked,
                Standing::WouldGo => &mut group.would_go,
                Standing::WouldBeBlocked => &mut group.would_be_blocked,
                Standing::Recorded => &mut group.recorded,
            } += 1;
        }
    }
    for gone in gone {
        // Of the rest their agent remembers nothing.
        let key = match by {
            By::User => gone.user.as_str(),
            By::Workload | By::Command | By::Policy => UNKNOWN,
        };
        let group = group(&mut groups, key, gone.time);
        group.interactions += 1;
        group.pods += 1;
        group.evicted += 1;
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    // Those of the same number stay in the order of their keys.
    groups.sort_by_key(|group| std::cmp::Reverse(group.interactions));
    groups
}

fn group<'a>(groups: &'a mut BTreeMap<String, Group>, key: &str, last: Timestamp) -> &'a mut Group {
    let group = groups.entry(key.to_owned()).or_insert_with(|| Group {
        key: key.to_owned(),
        last,
        ..Group::default()
    });
    group.last = group.last.max(last);
    group
}

fn key(by: By, pod: &Touched, known: &RecordedInteraction) -> String {
    let did = &known.interaction;
    match by {
        By::User => did.user.clone(),
        By::Workload => pod.workload.clone(),
        By::Command if did.command.is_empty() => format!("<{}>", did.kind),
        By::Command => did.command.to_string(),
        By::Policy => known.policy.as_deref().unwrap_or(NO_POLICY).to_owned(),
    }
}
