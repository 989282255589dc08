//! What `kubectl pi` can do, one file for each verb.
//!
//! It owns the steps of each verb. Asking the cluster is left to [`crate::cluster`], and how it looks to [`crate::print`].
//! Some files contain what several verbs share: [`change`] changes the metadata of a pod, [`confirm`] asks the user
//! before something is replaced, and [`watch`] keeps a list up to date. The user's shell calls [`complete`].

pub(crate) mod change;
pub(crate) mod complete;
pub(crate) mod confirm;
pub(crate) mod describe;
pub(crate) mod evict;
pub(crate) mod explain;
pub(crate) mod extend;
pub(crate) mod get;
pub(crate) mod hold;
pub(crate) mod node;
pub(crate) mod profile;
pub(crate) mod report;
pub(crate) mod version;
pub(crate) mod watch;
