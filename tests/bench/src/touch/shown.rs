//! When a watch showed that a pod was marked, and when that it goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use curfew_core::metadata::{INTERACTED, LABEL};
use curfew_e2e::eventually;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
};
use tokio_util::task::AbortOnDropHandle;

/// As long as the API server grants.
const SECONDS: u32 = 290;

/// What was seen of a pod, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    pub(super) marked: Option<Timestamp>,
    pub(super) going: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Seen {
    pods: BTreeMap<String, Shown>,
    ended: Option<String>,
}

/// A watch of the metadata of a namespace's pods, until it is dropped.
#[derive(Debug)]
pub(super) struct Showing {
    seen: Arc<Mutex<Seen>>,
    _watch: AbortOnDropHandle<()>,
}

impl Showing {
    /// Starts to watch.
    pub(super) async fn start(pods: Api<Pod>) -> Result<Self> {
        let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().timeout(SECONDS);
        let mut changes = pods.watch_metadata(&params, &version).await?.boxed();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let writer = Arc::clone(&seen);
        let watch = tokio::spawn(async move {
            let why = loop {
                match changes.try_next().await {
                    Ok(Some(WatchEvent::Error(status))) => break status.to_string(),
                    Ok(Some(change)) => writer
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .note(&change),
                    Ok(None) => break "the API server ended it".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            let mut seen = writer.lock().unwrap_or_else(PoisonError::into_inner);
            seen.ended = Some(why);
        });
        Ok(Self {
            seen,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    /// Waits until so many pods go, but not beyond this time; returns what was seen of all.
    ///
    /// # Errors
    /// When the watch has ended. Pods that stay are told by whoever looks for them.
    pub(super) async fn all_gone(
        self,
        count: usize,
        by: Timestamp,
    ) -> Result<BTreeMap<String, Shown>> {
        let left = by.duration_since(Timestamp::now());
        let left: Duration = left.try_into().unwrap_or_default();
        let waited = eventually(left, "all pods go", async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let going = seen.pods.values().filter(|pod| pod.going.is_some()).count();
            Ok((seen.ended.is_some() || going >= count).then_some(()))
        });
        drop(waited.await);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = seen.ended.take() {
            bail!("the watch of the pods ended: {why}");
        }
        Ok(std::mem::take(&mut seen.pods))
    }
}

impl Seen {
    fn note(&mut self, change: &WatchEvent<PartialObjectMeta<Pod>>) {
        let now = Timestamp::now();
        let (pod, gone) = match change {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => return,
        };
        let shown = self.pods.entry(pod.name_any()).or_default();
        if pod
            .labels()
            .get(LABEL)
            .is_some_and(|value| value == INTERACTED)
        {
            shown.marked.get_or_insert(now);
        }
        if gone || pod.metadata.deletion_timestamp.is_some() {
            shown.going.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_sign_counts() {
        let pod = |more: serde_json::Value| {
            let mut metadata = json!({"name": "a", "labels": {LABEL: INTERACTED}});
            if let (Some(metadata), Some(more)) = (metadata.as_object_mut(), more.as_object()) {
                metadata.extend(more.clone());
            }
            serde_json::from_value(json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata,
            }))
            .unwrap()
        };
        let mut seen = Seen::default();
        seen.note(&WatchEvent::Added(pod(json!({"labels": {}}))));
        assert!(seen.pods["a"].marked.is_none());
        seen.note(&WatchEvent::Modified(pod(json!({}))));
        let marked = seen.pods["a"].marked;
        assert!(marked.is_some() && seen.pods["a"].going.is_none());
        seen.note(&WatchEvent::Deleted(pod(json!({}))));
        assert!(seen.pods["a"].going.is_some());
        assert_eq!(seen.pods["a"].marked, marked);
    }
}
