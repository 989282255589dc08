//! Which policy applies to an interaction, why, and what follows. Which version of a policy is in force is decided by
//! the webhook.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use super::{
    conditions::BehaviourCondition,
    length::Length,
    pattern,
    prefilter::Prefilter,
    spec::{CompletingPods, PolicyAction, Protect, RecordCommand, Spec, UnmanagedPods},
};
use crate::{
    actor::Actor,
    behaviour::{Assessment, Decision, Thresholds},
    interaction::Kind,
    terms::{Action, DefaultTerms, Exemption, Terms},
};

/// A policy that passed [`Spec::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: Spec,
}

/// All policies, in the order in which they are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    all: Vec<Policy>,
    /// One for each of them.
    prefilters: Vec<Prefilter>,
    concern_behaviour: bool,
}

/// Everything that a policy can ask of an interaction.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The name of the pod's namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// The labels of the pod.
    pub pod_labels: &'a BTreeMap<String, String>,
    /// The priority of the pod.
    pub priority: i32,
    /// Whether a controller owns the pod, and so would replace it.
    pub managed: bool,
    /// Whether that controller is a Job, whose pods end by themselves.
    pub of_job: bool,
    /// The kind of what the pod belongs to, see [`crate::workload::kind`].
    pub workload: &'a str,
    /// Whether the pod stands for a file on its node, from which its kubelet would only start it again.
    pub mirror: bool,
    /// The name of the user.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// The kind of the interaction.
    pub kind: Kind,
    /// The command; empty where there is none.
    pub argv: &'a [String],
    /// Whether the user's standard input reaches it.
    pub stdin: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// How it compares with the profile of its workload; none where there is no profile that can be used.
    pub behaviour: Option<&'a Assessment>,
}

impl Subject<'_> {
    /// Whether it was seen on the node, and not asked for.
    pub(super) fn is_bypass(&self) -> bool {
        self.kind == Kind::Bypass
    }

    /// Whether the user can type. Of a bypass that is not known: a process hides it easily.
    pub(super) fn interactive(&self) -> Option<bool> {
        (!self.is_bypass()).then_some(self.stdin || self.tty)
    }
}

/// What follows from an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyDecision<'a> {
    /// It is let through.
    Admit(Admitted<'a>),
    /// It is refused.
    Deny {
        /// The policy that says so.
        policy: &'a str,
        /// How much of the command may be told.
        record_command: RecordCommand,
        /// What the policy takes for enough to tell usual from irregular; none where it looks at neither.
        behaviour: Option<Thresholds>,
    },
}

/// On which terms an interaction is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted<'a> {
    /// The policy that applies; none where the webhook's flags hold.
    pub policy: Option<&'a str>,
    /// What follows, and when.
    pub terms: Terms,
    /// How much of the command is kept.
    pub record_command: RecordCommand,
    /// Whether it is learned, unless it is irregular.
    pub learn: bool,
    /// What the policy takes for enough to tell usual from irregular; none where it looks at neither.
    pub behaviour: Option<Thresholds>,
}

/// A policy, and what became of it when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Considered<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What became of it.
    pub matched: PolicyMatch<'a>,
}

/// Whether a policy applies, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyMatch<'a> {
    /// It applies.
    Applies,
    /// Its conditions hold, but another one has a higher priority.
    Outranked {
        /// The one that applies.
        by: &'a Policy,
    },
    /// Its conditions hold, but another one of its priority has a name that comes first.
    Tied {
        /// The one that applies.
        by: &'a Policy,
    },
    /// A condition does not hold.
    Mismatch(Mismatch),
}

/// The condition that does not hold; the first where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// `namespaceSelector`.
    Namespace,
    /// `podSelector`.
    Pod,
    /// `users` and `groups`.
    User,
    /// `actors`.
    Actor,
    /// `interactions`.
    Kind,
    /// `interactive`.
    Interactive {
        /// What it asks for.
        wanted: bool,
    },
    /// `workloads`.
    Workload,
    /// `commands`.
    Command,
    /// `behaviour`.
    Behaviour(BehaviourCondition),
}

impl fmt::Display for PolicyMatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyMatch::Applies => f.write_str("applies"),
            PolicyMatch::Outranked { by } => write!(
                f,
                "{} has the higher priority {}",
                by.name, by.spec.priority
            ),
            PolicyMatch::Tied { by } => write!(
                f,
                "{} has the same priority, and its name comes first",
                by.name
            ),
            PolicyMatch::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mismatch::Namespace => "its namespaceSelector does not select the namespace",
            Mismatch::Pod => "its podSelector does not select the pod",
            Mismatch::User => "neither its users nor its groups contain the user",
            Mismatch::Actor => "its actors do not contain this kind of actor",
            Mismatch::Kind => "its interactions do not contain this kind",
            Mismatch::Interactive { wanted: true } => {
                "it applies only with standard input or a terminal"
            }
            Mismatch::Interactive { wanted: false } => {
                "it applies only without standard input and without a terminal"
            }
            Mismatch::Workload => "its workloads do not contain the kind of the pod's controller",
            Mismatch::Command => "its commands do not match the command",
            Mismatch::Behaviour(BehaviourCondition::Irregular) => {
                "it applies only to irregular interactions"
            }
            Mismatch::Behaviour(BehaviourCondition::Usual) => {
                "it applies only to interactions that are known to be usual"
            }
        })
    }
}

impl FromIterator<Policy> for Policies {
    fn from_iter<I: IntoIterator<Item = Policy>>(policies: I) -> Self {
        let mut all: Vec<_> = policies.into_iter().collect();
        all.sort_by(|a, b| {
            let rank = |policy: &Policy| Reverse(policy.spec.priority);
            rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name))
        });
        let specs = || all.iter().map(|policy| &policy.spec);
        Self {
            prefilters: specs().map(Prefilter::of_policy).collect(),
            concern_behaviour: specs().any(|spec| spec.asked_of_behaviour().is_some()),
            all,
        }
    }
}

impl Policies {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, in the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.all.iter()
    }

    /// Whether one of them looks at behaviour, or has it learned.
    pub fn concern_behaviour(&self) -> bool {
        self.concern_behaviour
    }

    /// What follows from this interaction. Where no policy applies, or the one that does leaves
    /// something out, `defaults` hold.
    pub fn decide(&self, subject: &Subject<'_>, defaults: DefaultTerms) -> PolicyDecision<'_> {
        match self.applying(subject) {
            Some(policy) if policy.spec.denies(subject) => PolicyDecision::Deny {
                policy: &policy.name,
                record_command: policy.spec.record_command,
                behaviour: policy.spec.asked_of_behaviour(),
            },
            policy => PolicyDecision::Admit(admit(policy, subject, defaults)),
        }
    }

    /// The same of what has happened: it is too late to deny it.
    pub fn decide_past(&self, subject: &Subject<'_>, defaults: DefaultTerms) -> Admitted<'_> {
        admit(self.applying(subject), subject, defaults)
    }

    /// The policy that applies.
    fn applying(&self, subject: &Subject<'_>) -> Option<&Policy> {
        let asked = Prefilter::of_subject(subject);
        let mut may_apply = self
            .prefilters
            .iter()
            .zip(&self.all)
            .filter(|(prefilter, _)| prefilter.may_apply(&asked))
            .map(|(_, policy)| policy);
        may_apply.find(|policy| policy.spec.mismatch(subject).is_none())
    }

    /// What becomes of each policy when it is asked about this interaction, in the order in which they
    /// are asked.
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<Considered<'_>> {
        let mut winner: Option<&Policy> = None;
        let considered = self.all.iter().map(|policy| {
            let matched = match (policy.spec.mismatch(subject), winner) {
                (Some(mismatch), _) => PolicyMatch::Mismatch(mismatch),
                (None, Some(by)) if by.spec.priority == policy.spec.priority => {
                    PolicyMatch::Tied { by }
                }
                (None, Some(by)) => PolicyMatch::Outranked { by },
                (None, None) => {
                    winner = Some(policy);
                    PolicyMatch::Applies
                }
            };
            Considered { policy, matched }
        });
        considered.collect()
    }
}

/// On which terms the interaction is let through by this policy. None is the same as one that says nothing.
pub(super) fn admit<'a>(
    policy: Option<&'a Policy>,
    subject: &Subject<'_>,
    defaults: DefaultTerms,
) -> Admitted<'a> {
    match policy {
        Some(policy) => policy.spec.admit(Some(&policy.name), subject, defaults),
        None => Spec::default().admit(None, subject, defaults),
    }
}

impl Spec {
    /// The first condition that does not hold.
    pub(super) fn mismatch(&self, subject: &Subject<'_>) -> Option<Mismatch> {
        let selects = |selector: &Option<super::Selector>, labels| {
            selector
                .as_ref()
                .is_none_or(|selector| selector.matches(labels))
        };
        let anybody = self.users.is_empty() && self.groups.is_empty();
        let listed = || {
            self.users
                .iter()
                .any(|user| pattern::is_name(user, subject.user))
                || self.groups.iter().any(|listed| {
                    let mut groups = subject.groups.iter();
                    groups.any(|group| pattern::is_name(listed, group))
                })
        };
        if !selects(&self.namespace_selector, subject.namespace_labels) {
            Some(Mismatch::Namespace)
        } else if !selects(&self.pod_selector, subject.pod_labels) {
            Some(Mismatch::Pod)
        } else if !anybody && !listed() {
            Some(Mismatch::User)
        } else if !self.actors.is_empty() && !self.actors.contains(&Actor::of(subject.user)) {
            Some(Mismatch::Actor)
        } else if !self.interactions.is_empty() && !self.interactions.contains(&subject.kind) {
            Some(Mismatch::Kind)
        } else if let Some(wanted) = self.interactive
            && subject.interactive() != Some(wanted)
        {
            Some(Mismatch::Interactive { wanted })
        } else if !self.workloads.is_empty()
            && !self.workloads.iter().any(|kind| kind == subject.workload)
        {
            Some(Mismatch::Workload)
        } else if !self.commands.is_empty() && !self.runs_listed(subject) {
            Some(Mismatch::Command)
        } else if let Some(wanted) = self.behaviour
            && !wanted.holds_for(self.assessed(subject).as_ref())
        {
            Some(Mismatch::Behaviour(wanted))
        } else {
            None
        }
    }

    /// Whether an interaction to which this policy applies is refused.
    pub(super) fn denies(&self, subject: &Subject<'_>) -> bool {
        self.action == Some(PolicyAction::Deny) && !subject.is_bypass()
    }

    /// What the interaction is for the workload, where this policy decides what is enough.
    fn assessed(&self, subject: &Subject<'_>) -> Option<Decision> {
        let behaviour = subject.behaviour.filter(|_| !subject.is_bypass())?;
        Some(behaviour.decide(&self.thresholds()))
    }

    /// Whether the command is one of `commands`. Only exec has one that is known: a debug container may start whatever
    /// its image says, and there may be several.
    fn runs_listed(&self, subject: &Subject<'_>) -> bool {
        let mut listed = self.commands.iter();
        subject.kind == Kind::Exec
            && listed.any(|listed| pattern::is_open_command(listed, subject.argv))
    }

    /// The terms on which an interaction is let through, as one to which this policy applies.
    pub(super) fn admit<'a>(
        &self,
        policy: Option<&'a str>,
        subject: &Subject<'_>,
        defaults: DefaultTerms,
    ) -> Admitted<'a> {
        let usual = defaults.of(subject.kind);
        let action = match self.action {
            Some(PolicyAction::Record) => Action::Record,
            Some(PolicyAction::Evict) => Action::Evict,
            // What is denied and comes this far, it is too late to deny: a bypass, or what is irregular as it turned out.
            Some(PolicyAction::Deny) | None => usual.action,
        };
        let exemption = match action {
            Action::Evict => self.exemption(subject),
            Action::Record => None,
        };
        let length = |given: Option<Length>, usual| given.map_or(usual, |Length(given)| given);
        Admitted {
            policy,
            terms: Terms {
                action: exemption.map_or(action, |_| Action::Record),
                ttl: length(self.ttl, usual.ttl),
                max_extension: length(self.max_extension, usual.max_extension),
                max_hold: length(self.max_hold, usual.max_hold),
                exemption,
                enforcement: self.enforcement.unwrap_or(usual.enforcement),
                on_evidence: self.on_evidence(),
            },
            record_command: self.record_command,
            // Who is behind a bypass is not known, so it teaches nothing.
            learn: self.learns() && !subject.is_bypass(),
            behaviour: self.asked_of_behaviour().filter(|_| !subject.is_bypass()),
        }
    }

    /// Why an interaction that would start a timer does not. Where there are several reasons, the one
    /// that lasts comes first: a pod may get a controller later, and a command stays harmless.
    fn exemption(&self, subject: &Subject<'_>) -> Option<Exemption> {
        if subject.mirror || self.protect.covers(subject) {
            Some(Exemption::Protected)
        } else if self.is_harmless(subject) {
            Some(Exemption::Harmless)
        } else if !subject.managed && self.unmanaged_pods == UnmanagedPods::Record {
            Some(Exemption::Unmanaged)
        } else if subject.of_job
            && self.completing_pods.unwrap_or_default() == CompletingPods::Record
        {
            Some(Exemption::Completing)
        } else {
            None
        }
    }

    fn is_harmless(&self, subject: &Subject<'_>) -> bool {
        // A debug container is a change of the pod whatever runs in it, and an attached terminal
        // reaches a process that was there before.
        subject.kind == Kind::Exec
            && !subject.stdin
            && !subject.tty
            && self
                .harmless_commands
                .iter()
                .any(|harmless| pattern::is_command(harmless, subject.argv))
    }
}

impl Protect {
    fn covers(&self, subject: &Subject<'_>) -> bool {
        subject.priority >= self.priority_at_least
            && self
                .namespaces
                .iter()
                .any(|namespace| namespace == subject.namespace)
    }
}
