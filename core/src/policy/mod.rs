//! Policies: what follows from which interaction.
//!
//! This module owns the [content](Spec) of an InteractionPolicy, the rules for a valid one, and the decision which
//! policy applies to an interaction ([`Policies::decide`]), with the reasons ([`Policies::explain`]). Other code
//! reads the policies from the API server and handles invalid ones.
//!
//! If the conditions of several policies are met, the one with the highest priority applies. If several have the
//! same priority, the one whose name comes first in the alphabet applies. Only this policy is used: fields that it
//! leaves out are taken from the webhook's flags, not from other policies.

mod conditions;
mod evaluate;
mod later;
mod length;
mod pattern;
mod pod_choice;
mod prefilter;
mod selector;
mod spec;

pub use conditions::BehaviourCondition;
pub use evaluate::{
    Admitted, Considered, Mismatch, Policies, Policy, PolicyDecision, PolicyMatch, Subject,
};
pub use later::{Later, Past};
pub use length::Length;
pub use pod_choice::PodChoice;
pub use selector::{Operator, Requirement, Selector};
pub use spec::{
    CompletingPods, Invalid, PolicyAction, Protect, RecordCommand, Spec, UnmanagedPods,
};

#[cfg(test)]
mod tests;
