//! The domain of Curfew.
//!
//! Curfew evicts pods that people have touched. This crate owns what all parts share: what an [interaction] is, the
//! [terms] with which it is recorded and the [policy] that sets them, the [record] of a pod, which is built from
//! notices and from the pod's own [metadata], what was found in the pod ([drift]) and what sessions [left] there, the
//! deadline of the pod, and the wire format of the [notice] of an interaction. There is no I/O and no Kubernetes client here: callers that have a store, a clock or a connection
//! pass in the facts.
#![warn(missing_docs)]

pub mod actor;
pub mod behaviour;
pub mod budget;
pub mod condition;
pub mod drift;
pub mod duration;
pub mod ending;
pub mod identity;
pub mod interaction;
pub mod left;
pub mod masking;
pub mod metadata;
pub mod names;
pub mod namespaces;
pub mod notice;
pub mod overrides;
pub mod pod_id;
pub mod policy;
pub mod record;
pub mod state;
pub mod terms;
pub mod text;
pub mod workload;
pub mod wrapper;

pub use actor::Actor;
pub use drift::{Drift, Verdict};
pub use ending::Ending;
pub use interaction::{Command, Interaction, Kind};
pub use left::{LeftHow, Leftover};
pub use notice::{Notice, Receipt};
pub use overrides::Overrides;
pub use pod_id::PodId;
pub use record::{Record, RecordedInteraction};
pub use state::State;
pub use terms::{Action, Enforcement, Exemption, OnEvidence, Terms, WhenChanged, WhenUnchanged};
