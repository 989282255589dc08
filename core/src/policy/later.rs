//! What follows from an interaction that was let through, by what became known of it since: what its session left behind.
//!
//! Less is known of the interaction than when it was let through: neither the groups of the user nor, in all cases, the
//! whole command. Which policy applied then tells some of it. What it does not tell is not guessed: nothing follows then.

use super::{
    BehaviourCondition,
    evaluate::{Admitted, Policies, Policy, Subject, admit},
    spec::Spec,
};
use crate::terms::DefaultTerms;

/// What is still known of how the interaction was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past<'a> {
    /// The policy that applied; none where the webhook's flags did.
    pub policy: Option<&'a str>,
    /// Whether each word of the command is known.
    pub whole_command: bool,
}

/// What follows later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later<'a> {
    /// The policy that applies now, and what follows by it. It is too late to deny the interaction.
    pub admitted: Admitted<'a>,
    /// Whether that policy applies because the interaction is irregular.
    pub because_irregular: bool,
}

impl Policies {
    /// What follows now from an interaction that was let through. None where that depends on what is not known any more.
    /// The subject has no groups.
    pub fn decide_later(
        &self,
        subject: &Subject<'_>,
        past: Past<'_>,
        defaults: DefaultTerms,
    ) -> Option<Later<'_>> {
        for policy in self.iter() {
            let applied = past.policy == Some(policy.name.as_str());
            match policy.spec.may_apply_later(subject, past.whole_command) {
                Some(false) => {}
                Some(true) => return Some(policy.later(subject, defaults)),
                // It applied then, so its conditions on users and commands hold.
                None if applied => return Some(policy.later(subject, defaults)),
                None if policy.spec.behaviour.is_some() => return None,
                // It would have applied then.
                None => {}
            }
        }
        Some(Later {
            admitted: admit(None, subject, defaults),
            because_irregular: false,
        })
    }
}

impl Policy {
    fn later(&self, subject: &Subject<'_>, defaults: DefaultTerms) -> Later<'_> {
        Later {
            admitted: admit(Some(self), subject, defaults),
            because_irregular: self.spec.behaviour == Some(BehaviourCondition::Irregular),
        }
    }
}

impl Spec {
    /// Whether the policy applies; none where that depends on the groups of the user, or on words of the command that
    /// are not known.
    fn may_apply_later(&self, subject: &Subject<'_>, whole_command: bool) -> Option<bool> {
        let any_groups = Self {
            groups: Vec::new(),
            ..self.clone()
        };
        // A user who is listed needs no group.
        let by_groups = !self.groups.is_empty()
            && (self.users.is_empty() || any_groups.mismatch(subject).is_some());
        let by_command = !self.commands.is_empty() && !whole_command;
        if !by_groups && !by_command {
            return Some(self.mismatch(subject).is_none());
        }
        let rest = Self {
            users: if by_groups {
                Vec::new()
            } else {
                self.users.clone()
            },
            commands: if by_command {
                Vec::new()
            } else {
                self.commands.clone()
            },
            ..any_groups
        };
        rest.mismatch(subject).is_some().then_some(false)
    }
}
