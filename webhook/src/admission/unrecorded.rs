//! Decides whether to admit an interaction that could not be recorded anywhere, or that arrives before the policies
//! are known. `--unrecorded` sets this, unless Curfew is being removed.

use curfew_core::{Command, Kind, RecordedInteraction};

use super::{Admission, answer};
use crate::{args::Unrecorded, metrics::Outcome, review::answer::Answer};

impl Admission {
    /// What becomes of an interaction while the policies were never read: it is denied, or nothing is returned
    /// and the flags hold.
    pub(super) fn undecided(
        &self,
        id: &str,
        pod: &str,
        kind: Kind,
        user: &str,
    ) -> Option<(Outcome, Answer)> {
        let denied = match self.unrecorded {
            Unrecorded::Admit => None,
            Unrecorded::Deny => Some((Outcome::Denied, answer::undecided(pod, id))),
        };
        tracing::error!(
            event = "policies-unknown",
            id,
            pod,
            user,
            kind = kind.as_str(),
            denied = denied.is_some(),
            "this replica has not been able to read the policies yet",
        );
        denied
    }

    /// What becomes of an interaction that could be recorded nowhere. `removed` says whether Curfew is being
    /// removed, which must stop nobody.
    pub(super) fn unrecorded(
        &self,
        subject: &UnrecordedInteraction<'_>,
        removed: bool,
        why: &str,
    ) -> (Outcome, Answer) {
        let (outcome, answer) = match (removed, self.unrecorded) {
            (true, _) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it may no longer read pods"),
            ),
            (false, Unrecorded::Admit) => (
                Outcome::Unrecorded,
                answer::unrecorded(subject.pod, "it could reach neither the agent nor the pod"),
            ),
            (false, Unrecorded::Deny) => (
                Outcome::Denied,
                answer::denied(subject.pod, subject.node, subject.id),
            ),
        };
        tracing::error!(
            event = "unrecorded",
            id = subject.id,
            pod = subject.pod,
            node = subject.node,
            user = subject.user,
            kind = subject.kind.as_str(),
            command = subject.commands(),
            outcome = outcome.as_ref(),
            error = why,
        );
        (outcome, answer)
    }
}

/// What is said of an interaction that was not recorded.
pub(super) struct UnrecordedInteraction<'a> {
    pub(super) id: &'a str,
    pub(super) kind: Kind,
    pub(super) user: &'a str,
    pub(super) pod: &'a str,
    pub(super) node: Option<&'a str>,
    /// As it was to be recorded; nothing when the pod could not be read.
    pub(super) known: &'a [RecordedInteraction],
}

impl UnrecordedInteraction<'_> {
    /// The commands, as far as they may be told.
    fn commands(&self) -> Option<String> {
        let commands = self.known.iter().map(|known| &known.interaction.command);
        let told: Vec<_> = commands.filter_map(told).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// A command, where there is one.
pub(super) fn told(command: &Command) -> Option<&str> {
    (!command.is_empty()).then(|| command.as_str())
}
