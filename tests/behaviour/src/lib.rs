//! A labelled set of interactions, and how often what [`curfew_core::behaviour`] says of them is wrong.
//!
//! A file in `set` describes one workload: its users, its habits, and interactions with a label. From the habits six
//! weeks of interactions are [made](history), and learned as the webhook would learn them. Then each labelled
//! interaction of the seventh week is decided. An ordinary one that is irregular is a false alarm, a hostile one that
//! is not is a miss.
//!
//! Half of the cases, chosen by a hash of their names, are for [tuning](Part::Tuning): weights and thresholds were
//! chosen while looking at these alone. What is published comes from the [other half](Part::Reported).
//!
//! `set/README.md` says where the cases come from.

mod full;
mod history;
mod measure;
mod set;

pub use full::{at, features, full_profile};
pub use history::{history, learn};
pub use measure::{Figures, Outcome, judge, section, table};
pub use set::{Case, Habit, Label, Part, Workload, read, workloads};
