//! What follows from an interaction, by the policies and namespaces of the cluster.
//!
//! Owns the watches of InteractionPolicies and of the labels of namespaces, and answers the admissions from them.
//! One task writes what is known; all others only read it. [`curfew_core::policy`] decides which policy applies and
//! what follows.
//!
//! A `kube::runtime::reflector` keeps objects as they are now. Of a policy the last version that could be followed is
//! needed, too, and of a namespace only its labels, so each watch fills a memory of its own.
//!
//! An admission waits for the policies no longer than for the pod. Policies that are known stay in force: if the
//! watches fail, the webhook continues with what it saw last. But an admission during that time first makes the
//! watches list again immediately, and waits a moment for the result.

mod cache;
mod namespaces;
mod status;

use std::{sync::Arc, time::Duration};

use curfew_core::{
    Terms,
    behaviour::{Assessment, Thresholds},
    policy::{Past, PolicyDecision, RecordCommand, Subject},
    terms::DefaultTerms,
};
use curfew_crd::{Attempt, Stored};
use futures::{Stream, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, api::ListParams, runtime::watcher};
use tokio::{sync::watch, time::timeout};

use curfew_runtime::{
    error_chain,
    watch::{Watch, Watches},
};

use cache::PolicyCache;
pub use cache::PolicySet;
pub use namespaces::{Labels, Namespaces};

use crate::placement::Pod;

/// How long an admission waits for the API server to list policies and namespaces, when their watches do not
/// live.
const ANEW: Duration = Duration::from_millis(200);

/// What admissions ask.
#[derive(Debug, Clone)]
pub struct Rules {
    defaults: DefaultTerms,
    policies: watch::Receiver<Option<Arc<PolicySet>>>,
    namespaces: watch::Receiver<Option<Namespaces>>,
    watches: [Watch; 2],
}

/// Who keeps [`Rules`] up to date.
#[derive(Debug)]
pub struct RulesUpdater {
    policies: watch::Sender<Option<Arc<PolicySet>>>,
    namespaces: watch::Sender<Option<Namespaces>>,
    watches: [Watch; 2],
}

/// Whether policies and the labels of namespaces are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// They are, as the API server has them.
    Current,
    /// They were read once; the API server did not show just now what they are.
    Former,
    /// They were never read.
    None,
}

/// What follows from an interaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionDecision {
    /// It is let through.
    Admit {
        /// The policy that applies; none where the flags hold.
        policy: Option<String>,
        /// What follows, and when.
        terms: Terms,
        /// How much of the command is kept.
        record_command: RecordCommand,
        /// Whether it is learned, unless it is irregular.
        learn: bool,
        /// What is enough to tell usual from irregular; none where the policy looks at neither.
        behaviour: Option<Thresholds>,
    },
    /// It is refused.
    Deny {
        /// The policy that says so.
        policy: String,
        /// How much of the command may be told.
        record_command: RecordCommand,
        /// What is enough to tell usual from irregular; none where the policy looks at neither.
        behaviour: Option<Thresholds>,
    },
}

/// What follows from an interaction by what became known after it was let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterDecision {
    /// The policy that applies; none where the flags hold.
    pub policy: Option<String>,
    /// What follows by it.
    pub terms: Terms,
    /// Whether it applies because the interaction is irregular.
    pub because_irregular: bool,
    /// Whether it has learned what is not irregular.
    pub learn: bool,
    /// What is enough to tell usual from irregular; none where the policy looks at neither.
    pub behaviour: Option<Thresholds>,
}

/// Rules that know nothing yet, and who is to keep them.
pub fn rules(defaults: DefaultTerms, watches: &Watches) -> (Rules, RulesUpdater) {
    let watches = ["policies", "namespaces"].map(|name| watches.open(name));
    let (keeper_of_policies, policies) = watch::channel(None);
    let (keeper_of_namespaces, namespaces) = watch::channel(None);
    let rules = Rules {
        defaults,
        policies,
        namespaces,
        watches: watches.clone(),
    };
    let updater = RulesUpdater {
        policies: keeper_of_policies,
        namespaces: keeper_of_namespaces,
        watches,
    };
    (rules, updater)
}

impl Rules {
    /// The policies, if they are known.
    pub fn policies(&self) -> Option<Arc<PolicySet>> {
        self.policies.borrow().clone()
    }

    /// Whether policies and namespaces are known.
    pub fn are_known(&self) -> bool {
        self.policies.borrow().is_some() && self.namespaces.borrow().is_some()
    }

    /// Waits until they are, but no longer than this; and where their watches do not live, for a moment until
    /// they do.
    pub async fn known(&self, within: Duration) -> Knowledge {
        let (mut policies, mut namespaces) = (self.policies.clone(), self.namespaces.clone());
        // Ends early, too, when nobody will ever tell.
        let both = async {
            let _ = policies.wait_for(Option::is_some).await;
            let _ = namespaces.wait_for(Option::is_some).await;
        };
        // Whether it ended in time is known by what is known now.
        let _ = timeout(within, both).await;
        if !self.are_known() {
            return Knowledge::None;
        }
        let [policies, namespaces] = &self.watches;
        match tokio::join!(policies.revive(ANEW), namespaces.revive(ANEW)) {
            (true, true) => Knowledge::Current,
            _ => {
                tracing::warn!(
                    event = "policies-former",
                    "the API server does not list policies and namespaces at the moment; continuing with what \
                     was read before"
                );
                Knowledge::Former
            }
        }
    }

    /// Whether the namespace was seen with the label of those that Curfew leaves alone.
    pub fn is_exempt(&self, namespace: &str) -> bool {
        let labels = namespaces::labels(self.namespaces.borrow().as_ref(), namespace);
        labels
            .get(curfew_core::namespaces::LABEL)
            .map(String::as_str)
            == Some(curfew_core::namespaces::EXEMPT)
    }

    /// Whether a policy looks at behaviour, or has it learned.
    pub fn concern_behaviour(&self) -> bool {
        let known = self.policies();
        known.is_some_and(|known| known.policies.concern_behaviour())
    }

    /// What follows from this attempt on this pod, which compares so with the profile of its workload.
    pub fn decide(
        &self,
        attempt: Attempt<'_>,
        pod: &Pod,
        assessment: Option<&Assessment>,
    ) -> AdmissionDecision {
        let known = self.policies().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let namespace_labels = namespaces::labels(self.namespaces.borrow().as_ref(), namespace);
        let subject = Subject {
            behaviour: assessment,
            ..attempt.with(&pod.metadata, pod.spec.priority, &namespace_labels)
        };
        match known.policies.decide(&subject, self.defaults) {
            PolicyDecision::Admit(admitted) => AdmissionDecision::Admit {
                policy: admitted.policy.map(str::to_owned),
                terms: admitted.terms,
                record_command: admitted.record_command,
                learn: admitted.learn,
                behaviour: admitted.behaviour,
            },
            PolicyDecision::Deny {
                policy,
                record_command,
                behaviour,
            } => AdmissionDecision::Deny {
                policy: policy.to_owned(),
                record_command,
                behaviour,
            },
        }
    }
}

impl Rules {
    /// What follows from an interaction that was let through by this policy, or by the flags, as what its session left
    /// behind compares so with the profile. The attempt has no groups. None where that depends on what is not known.
    pub fn decide_later(
        &self,
        attempt: Attempt<'_>,
        pod: (&ObjectMeta, Option<i32>),
        assessment: Option<&Assessment>,
        policy: Option<&str>,
        whole_command: bool,
    ) -> Option<LaterDecision> {
        let known = self.policies().unwrap_or_default();
        let (metadata, priority) = pod;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let namespace_labels = namespaces::labels(self.namespaces.borrow().as_ref(), namespace);
        let subject = Subject {
            behaviour: assessment,
            ..attempt.with(metadata, priority, &namespace_labels)
        };
        // A policy that is not there any more may have had less of the command recorded.
        let applied = known
            .policies
            .iter()
            .find(|known| Some(known.name.as_str()) == policy);
        let is_full = match policy {
            Some(_) => {
                applied.is_some_and(|known| known.spec.record_command == RecordCommand::Full)
            }
            None => true,
        };
        let past = Past {
            policy,
            whole_command: whole_command && is_full,
        };
        let later = known.policies.decide_later(&subject, past, self.defaults)?;
        let admitted = later.admitted;
        Some(LaterDecision {
            policy: admitted.policy.map(str::to_owned),
            terms: admitted.terms,
            because_irregular: later.because_irregular,
            learn: admitted.learn,
            behaviour: admitted.behaviour,
        })
    }
}

impl RulesUpdater {
    /// Keeps the rules up to date until it is dropped, and tells in the policies' status what became of them.
    ///
    /// # Errors
    /// When a watch ends, which it does not by itself.
    pub async fn run(self, client: Client) -> anyhow::Result<()> {
        let all: Api<Stored> = Api::all(client.clone());
        let [policies, namespaces] = &self.watches;
        let policies = policies.events(all.clone(), ListParams::default());
        let reports = self.policies.subscribe();
        tokio::select! {
            () = follow(policies, &self.policies) => anyhow::bail!("the watch of policies ended"),
            () = namespaces::run(namespaces, client, &self.namespaces) => anyhow::bail!("the watch of namespaces ended"),
            () = status::report(all, reports) => anyhow::bail!("the reports on policies ended"),
        }
    }
}

async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<Stored>>>,
    policies: &watch::Sender<Option<Arc<PolicySet>>>,
) {
    let mut events = std::pin::pin!(events);
    let mut book = PolicyCache::default();
    let mut listed = Vec::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Ok(Some(watcher::Event::InitApply(policy))) => {
                listed.push(policy);
                continue;
            }
            // Only when the list is complete does it replace what was known.
            Ok(Some(watcher::Event::InitDone)) => book.replace(std::mem::take(&mut listed)),
            Ok(Some(watcher::Event::Apply(policy))) => book.learn(&policy),
            Ok(Some(watcher::Event::Delete(policy))) => book.forget(&policy),
            Ok(None) => return,
            // Where policies are not defined there are none. One that was known is not gone for that:
            // when the definition is deleted, the watch tells of each policy before.
            Err(watcher::Error::InitialListFailed(error))
                if error_chain::code(&error) == Some(404) && policies.borrow().is_none() =>
            {
                tracing::warn!(
                    event = "policies-undefined",
                    "the cluster has no InteractionPolicies; the flags apply"
                );
            }
            // The watch tries again, and logs it; what was known of them holds.
            Err(_) => continue,
        }
        policies.send_replace(Some(Arc::new(book.known())));
    }
}

#[cfg(test)]
mod tests;
