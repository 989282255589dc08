//! Policies: what follows from which interaction.
//!
//! This module owns what an InteractionPolicy [says](Spec), what makes one unfit to be followed, and
//! which one applies to an interaction ([`Policies::decide`]), with the reasons ([`Policies::explain`]).
//! Where policies come from, and what becomes of one that is unfit, is for those who have a
//! connection.
//!
//! Which one applies: of all policies whose conditions hold, the one with the highest priority, and
//! of several of one priority the one whose name comes first in the alphabet. That one applies alone:
//! what it leaves out is not looked for in others, but taken from the webhook's flags.

mod evaluate;
mod selector;
mod spec;

pub use evaluate::{
    Admitted, Considered, Mismatch, Policies, Policy, PolicyDecision, PolicyMatch, Subject,
};
pub use selector::{Operator, Requirement, Selector};
pub use spec::{Invalid, Length, PolicyAction, Protect, RecordCommand, Spec, UnmanagedPods};

#[cfg(test)]
mod tests;
