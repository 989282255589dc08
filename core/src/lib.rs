//! The domain of Curfew.
//!
//! Curfew puts a curfew on pods that people have touched. This crate owns what the parts agree on:
//! what an [interaction] is, on which [terms] it is recorded and which [policy] says so, how the [record] of a pod grows out of
//! notices and of the pod's own [metadata], when its deadline is, and what the [notice] of an
//! interaction looks like on the wire. There is no I/O here and no Kubernetes client: whoever has a
//! store, a clock or a connection hands the facts in.
#![warn(missing_docs)]

pub mod budget;
pub mod duration;
pub mod ending;
pub mod identity;
pub mod interaction;
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
pub mod wrapper;

pub use ending::Ending;
pub use interaction::{Command, Interaction, Kind};
pub use notice::{Notice, Receipt};
pub use overrides::Overrides;
pub use pod_id::PodId;
pub use record::{Record, RecordedInteraction};
pub use state::State;
pub use terms::{Action, Exemption, Terms};
