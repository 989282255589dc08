//! Looks into the containers of one node: which processes reached into them, whether a recorded interaction explains
//! each, what they left running, and what changed in the files.
//!
//! It is told of pods ([`PodFacts`]) and of interactions ([`Touch`]), and asks nobody but the kernel. It blocks, so it
//! has a thread of its own ([`spawn`]). Everything that it reads may be hostile: a container decides on names, commands,
//! links and mounts, and changes them while they are read. So nothing is an error, nothing is followed, all is bounded,
//! and what cannot be seen is said ([`Drift::unseen`](curfew_core::Drift::unseen)).
#![warn(missing_docs)]

mod cgroup;
mod changes;
mod containers;
mod evidence;
mod facts;
mod folder;
mod layer;
mod look;
mod mountinfo;
mod probes;
mod process;
mod programs;
mod rights;
mod runner;
mod sessions;
mod shown;
mod spans;
mod table;
#[cfg(test)]
mod testing;
mod time;
mod touches;
mod volumes;
mod walk;

pub use evidence::Evidence;
pub use facts::{Bypass, ContainerFacts, Limitation, Mode, PodFacts, Probe, Sighting, Touch};
pub use runner::{Command, Report, SCAN, spawn};
