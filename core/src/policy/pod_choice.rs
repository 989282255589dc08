//! Which policies users who may edit pods can choose: those that depend on the labels or the controller of the pod.

use std::time::Duration;

use super::{
    evaluate::{Policies, Policy, Subject},
    length::Length,
    spec::Spec,
};
use crate::terms::{Action, DefaultTerms, Enforcement, OnEvidence, WhenUnchanged};

/// How strict what follows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// Nobody is evicted: the interaction is only recorded, or the policy says that it is a dry run.
    Record,
    Evict(Lifetime),
    Deny,
}

/// How long a pod lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime {
    /// None where the webhook's flags set it.
    ttl: Option<Duration>,
    on_evidence: OnEvidence,
}

impl Lifetime {
    /// Whether it is, or may be, longer.
    fn may_exceed(self, other: Self) -> bool {
        let longer = match (self.ttl, other.ttl) {
            (Some(own), Some(other)) => own > other,
            (own, other) => own != other,
        };
        let releases = |of: Self| of.on_evidence.when_unchanged == WhenUnchanged::Release;
        longer
            || releases(self) && !releases(other)
            || self.on_evidence.when_changed < other.on_evidence.when_changed
    }
}

impl Strictness {
    /// Whether it is, or may be, less strict.
    fn is_laxer_than(self, other: Self) -> bool {
        match (self, other) {
            (Strictness::Evict(own), Strictness::Evict(other)) => own.may_exceed(other),
            (Strictness::Record, other) => other != Strictness::Record,
            (Strictness::Evict(_), other) => other == Strictness::Deny,
            (Strictness::Deny, _) => false,
        }
    }
}

/// What whoever may edit the pod can bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodChoice<'a> {
    /// The policy that applies whatever the labels and the controller of the pod are; none where the flags hold.
    pub fixed: Option<&'a Policy>,
    /// The policies that are, or may be, laxer than that, and would apply to a pod with other labels or another
    /// controller, or apply to this one; in the order in which they are asked.
    pub laxer: Vec<&'a Policy>,
}

impl Policies {
    /// What whoever may edit the pod can bring about for this interaction.
    pub fn pod_choice(&self, subject: &Subject<'_>) -> PodChoice<'_> {
        let mut may_apply = self
            .iter()
            .filter(|policy| policy.spec.fits_some_pod(subject));
        let mut chosen = Vec::new();
        let fixed = may_apply.find(|policy| {
            let depends = policy.spec.depends_on_the_pod();
            if depends {
                chosen.push(*policy);
            }
            !depends
        });
        let usual = fixed.map_or_else(
            || Spec::default().strictness(subject),
            |policy| policy.spec.strictness(subject),
        );
        chosen.retain(|policy| policy.spec.strictness(subject).is_laxer_than(usual));
        PodChoice {
            fixed,
            laxer: chosen,
        }
    }
}

impl Spec {
    /// Whether everyone who may edit pods decides whether it applies to them.
    pub fn depends_on_the_pod(&self) -> bool {
        self.pod_selector.is_some() || !self.workloads.is_empty() || self.behaviour.is_some()
    }

    /// Whether it would apply if the pod had the right labels and the right controller.
    fn fits_some_pod(&self, subject: &Subject<'_>) -> bool {
        let of_any_pod = Self {
            pod_selector: None,
            workloads: Vec::new(),
            // A pod of another workload has another profile, or none.
            behaviour: None,
            ..self.clone()
        };
        of_any_pod.mismatch(subject).is_none()
    }

    fn strictness(&self, subject: &Subject<'_>) -> Strictness {
        if self.denies(subject) {
            return Strictness::Deny;
        }
        // What the flags say is not known here. It does not change the action, and a dry run by the flag is one for
        // all policies.
        let terms = self.admit(None, subject, DefaultTerms::default()).terms;
        match (terms.action, terms.enforcement) {
            (Action::Record, _) | (_, Enforcement::DryRun) => Strictness::Record,
            (Action::Evict, Enforcement::Enforce) => Strictness::Evict(Lifetime {
                ttl: self.ttl.map(|Length(ttl)| ttl),
                on_evidence: terms.on_evidence,
            }),
        }
    }
}
