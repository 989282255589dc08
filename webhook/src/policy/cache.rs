//! What is known of each policy: which version of it is in force, and what its status has to tell.
//!
//! Owns the memory of the last version that could be followed. Nothing here does any I/O.

use std::collections::BTreeMap;

use curfew_core::policy::{Policies, Policy};
use curfew_crd::{ACCEPTED, Condition, InForce, Reading, Status, Stored};
use kube::ResourceExt;

/// All policies of the cluster.
#[derive(Debug, Default)]
pub(super) struct PolicyCache(BTreeMap<String, Entry>);

/// What follows from all of them together.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// Those that are followed.
    pub policies: Policies,
    /// What is to be told of each.
    pub(super) reports: Vec<Report>,
}

/// What a policy's status has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Why it is not followed as it stands, if so.
    pub(super) rejected: Option<String>,
    /// What is followed instead.
    pub(super) in_force: Option<InForce>,
    /// What its status tells.
    pub(super) told: Status,
}

#[derive(Debug)]
struct Entry {
    in_force: Option<InForce>,
    report: Report,
}

impl PolicyCache {
    /// These are all there are.
    pub(super) fn replace(&mut self, listed: Vec<Stored>) {
        let names: Vec<_> = listed.iter().map(ResourceExt::name_any).collect();
        self.0.retain(|name, _| names.contains(name));
        for policy in &listed {
            self.learn(policy);
        }
    }

    /// This one is new, or has changed.
    pub(super) fn learn(&mut self, policy: &Stored) {
        let (name, uid) = (policy.name_any(), policy.uid().unwrap_or_default());
        let generation = policy.generation();
        let (in_force, rejected) = match policy.reading() {
            Reading::Accepted(spec) => (Some(InForce { generation, spec }), None),
            Reading::Rejected { why, in_force } => {
                // A policy that was made anew under its name has nothing to do with the former.
                let remembered = self
                    .0
                    .remove(&name)
                    .filter(|entry| entry.report.uid == uid)
                    .and_then(|entry| entry.in_force);
                let last = [remembered, in_force]
                    .into_iter()
                    .flatten()
                    .max_by_key(|version| version.generation);
                (last, Some(why))
            }
        };
        let report = Report {
            name: name.clone(),
            uid,
            generation,
            in_force: in_force.clone().filter(|_| rejected.is_some()),
            rejected,
            told: policy.status(),
        };
        self.0.insert(name, Entry { in_force, report });
    }

    /// This one was deleted.
    pub(super) fn forget(&mut self, policy: &Stored) {
        self.0.remove(&policy.name_any());
    }

    /// What follows from all of them.
    pub(super) fn known(&self) -> PolicySet {
        let followed = self.0.iter().filter_map(|(name, entry)| {
            Some(Policy {
                name: name.clone(),
                spec: entry.in_force.clone()?.spec,
            })
        });
        PolicySet {
            policies: followed.collect(),
            reports: self.0.values().map(|entry| entry.report.clone()).collect(),
        }
    }
}

impl PolicySet {
    /// How many policies are followed as they stand, and how many are not.
    pub fn count(&self) -> (usize, usize) {
        let rejected = self
            .reports
            .iter()
            .filter(|report| report.rejected.is_some())
            .count();
        (self.reports.len() - rejected, rejected)
    }
}

impl Report {
    /// What the status has to be, with `now` as the time of what has changed.
    pub(super) fn status(&self, now: jiff::Timestamp) -> Status {
        let (status, reason, message) = match (&self.rejected, &self.in_force) {
            (None, _) => (
                "True",
                "Followed",
                "this policy is in force as written".to_owned(),
            ),
            (Some(why), Some(old)) => (
                "False",
                "Unfit",
                format!(
                    "{why}; generation {} of this policy is in force instead",
                    old.generation
                ),
            ),
            (Some(why), None) => (
                "False",
                "Unfit",
                format!("{why}; no version of this policy is in force"),
            ),
        };
        let before = self.accepted().filter(|before| before.status == status);
        Status {
            conditions: vec![Condition {
                type_: ACCEPTED.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: self.generation,
                last_transition_time: before.map_or_else(
                    || now.to_string(),
                    |before| before.last_transition_time.clone(),
                ),
            }],
            in_force: self.in_force.clone(),
        }
    }

    /// Whether the status tells this already, whenever it began.
    pub(super) fn is_told(&self) -> bool {
        let wanted = self.status(jiff::Timestamp::UNIX_EPOCH);
        let timeless = |condition: &Condition| Condition {
            last_transition_time: String::new(),
            ..condition.clone()
        };
        self.told.in_force == wanted.in_force
            && self.accepted().map(timeless) == wanted.conditions.first().map(timeless)
    }

    fn accepted(&self) -> Option<&Condition> {
        let mut conditions = self.told.conditions.iter();
        conditions.find(|condition| condition.type_ == ACCEPTED)
    }
}
