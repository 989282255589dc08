//! What `kubectl pi` can do, one file for each verb.
//!
//! It owns the steps of each verb. Asking the cluster is left to [`crate::cluster`], and how it looks to [`crate::print`].
//! Beside them is what several share: [`change`] of a pod's metadata, [`confirm`] before something is replaced, and
//! [`watch`], which goes on with a list. [`complete`] is asked by the user's shell.

pub(crate) mod change;
pub(crate) mod complete;
pub(crate) mod confirm;
pub(crate) mod describe;
pub(crate) mod explain;
pub(crate) mod extend;
pub(crate) mod get;
pub(crate) mod hold;
pub(crate) mod node;
pub(crate) mod version;
pub(crate) mod watch;
