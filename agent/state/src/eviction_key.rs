//! The order of evictions.

use jiff::Timestamp;

/// Where a pod stands in the order of evictions: dry runs after all evictions, lowest priority first, then the
/// earliest eviction time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionKey {
    pub(super) dry_run: bool,
    pub(super) priority: i32,
    pub(super) eviction_time: Timestamp,
    pub(super) uid: String,
}
