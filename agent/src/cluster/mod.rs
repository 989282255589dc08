//! What talks to the API server about the pods of this node.
//!
//! It owns the open requests and watches: the watch of the pods ([`pod_watch`]), of the disruption budgets in
//! their way ([`budget_watch`]), the patch of a pod's metadata ([`patch`]) and the request to evict it
//! ([`evict`], with the reading of its answers, and [`acting_as`], with as whom it is asked for). The executor starts them. What is to be asked, and when, is
//! decided elsewhere.

pub(crate) mod acting_as;
pub mod budget_watch;
pub mod evict;
pub(crate) mod executor;
pub mod patch;
pub mod pod_watch;
