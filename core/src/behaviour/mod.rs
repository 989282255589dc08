//! Behaviour: what is usual for a workload, and whether an interaction is.
//!
//! This module owns the [features](Features) that are taken from an interaction, the content of a profile
//! ([`ProfileSpec`], [`ProfileStatus`]), how a profile [learns](Learner), and the [decision](decide) with its
//! [reasons](Reason). It leaves to others what follows from a decision, which workload a pod belongs to, how often an
//! interaction comes, which interactions may be learned, and the profile as an object of Kubernetes.
//!
//! An interaction has *facets*: who it was, in which container, which program ran, with an argument of which class,
//! and so on. Each facet is learned and asked on its own. A facet that is neither learned nor allowed by a person is a
//! reason, weak or strong. What its session left behind has facets, too, which are asked when that is known. This is a
//! comparison with what was seen before, and not a judgement of what is hostile.

mod actor_count;
mod adoption;
mod command;
mod criterion;
mod decision;
mod facet;
mod features;
mod hours;
mod index;
mod learning;
mod profile;
mod reason;

pub use actor_count::{ActorCount, MAX_COUNTED};
pub use adoption::adopted;
pub use command::{
    ArgumentClass, ArgumentSet, CommandReading, Link, MAX_PROGRAM, MAX_STEPS, ProgramClass, Step,
    UNREADABLE, program_of_file, program_of_process,
};
pub use criterion::{Criterion, InvalidCriterion};
pub use decision::{Assessment, Decision, MAX_REASONS, Thresholds, assess, assess_left, decide};
pub use features::{Features, MAX_GROUPS, RATE_WINDOW, SeenInteraction};
pub use hours::{HourOfWeek, Hours, UnknownHours};
pub use index::{IndexBuilder, ProfileIndex};
pub use learning::{Delta, Gathered, Learner, MAX_WRITERS, Merged, Retention};
pub use profile::{
    InvalidProfile, LastIrregular, Learned, MAX_ALLOWED, MAX_LEARNED, MAX_LEARNED_BYTES,
    MAX_VALUES, MISUSED, Period, ProfileSpec, ProfileStatus, Sighting, Stage, Writer,
};
pub use reason::{Novelty, Reason, Weight};

#[cfg(test)]
mod tests;
