//! Sees when pods go: every change of a namespace's pods with the time at which it was received.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// As long as the API server grants; no test takes that long.
const SECONDS: u32 = 290;

/// When a pod was first seen to be shut down, and when it was gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct End {
    /// Its deletion was accepted.
    pub going: Option<Timestamp>,
    /// It is no more.
    pub gone: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Seen {
    ends: Mutex<Vec<(String, End)>>,
    failed: Mutex<Option<String>>,
    changed: Notify,
}

/// A watch of the pods of a namespace, from its start to its drop.
#[derive(Debug)]
pub struct PodWatch {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PodWatch {
    /// Starts to watch.
    pub async fn start(pods: Api<Pod>) -> Result<Self> {
        let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().timeout(SECONDS);
        let changes = pods.watch(&params, &version).await?.boxed();
        let seen = Arc::new(Seen::default());
        let writer = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut changes = changes;
            let why = loop {
                match changes.try_next().await {
                    Ok(Some(WatchEvent::Error(status))) => break status.to_string(),
                    Ok(Some(change)) => writer.note(change),
                    Ok(None) => break "the API server ended it".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            *writer.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            writer.changed.notify_waiters();
        });
        Ok(Self { seen, task })
    }

    /// What was seen so far of the end of the pod with this UID.
    pub fn end(&self, uid: &str) -> End {
        let ends = self
            .seen
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let end = ends.iter().find(|(known, _)| known == uid);
        end.map(|(_, end)| *end).unwrap_or_default()
    }

    /// Waits until the deletion of the pod was accepted, and returns when that was.
    ///
    /// # Errors
    /// When it is not so at `by`.
    pub async fn going(&self, uid: &str, by: Timestamp) -> Result<Timestamp> {
        self.wait(by, || self.end(uid).going)
            .await
            .with_context(|| format!("pod {uid} is not being shut down"))
    }

    /// Waits until the pod is gone, and returns when that was.
    ///
    /// # Errors
    /// When it is not so at `by`.
    pub async fn gone(&self, uid: &str, by: Timestamp) -> Result<Timestamp> {
        self.wait(by, || self.end(uid).gone)
            .await
            .with_context(|| format!("pod {uid} is not gone"))
    }

    /// Waits for the eviction that is due at `deadline`, and returns how late it was.
    ///
    /// # Errors
    /// When it was early, or later than `tolerance`.
    pub async fn evicted(
        &self,
        uid: &str,
        deadline: Timestamp,
        tolerance: SignedDuration,
    ) -> Result<SignedDuration> {
        // Longer than is tolerated, to tell how late it was.
        let patience = deadline.checked_add(tolerance + SignedDuration::from_secs(10))?;
        let going = self.going(uid, patience).await?;
        let late = going.duration_since(deadline);
        ensure!(
            !late.is_negative(),
            "pod {uid} went {} before its deadline",
            -late
        );
        ensure!(
            late <= tolerance,
            "pod {uid} went {late} after its deadline"
        );
        Ok(late)
    }

    async fn wait<T>(&self, by: Timestamp, check: impl Fn() -> Option<T>) -> Result<T> {
        let left = by.duration_since(Timestamp::now()).unsigned_abs();
        ensure!(by > Timestamp::now(), "{by} has passed");
        let end = Instant::now() + left;
        loop {
            let changed = self.seen.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = check() {
                return Ok(value);
            }
            if let Some(why) = &*self
                .seen
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
            {
                bail!("the watch ended: {why}");
            }
            if timeout_at(end, changed).await.is_err() {
                bail!("not so at {by}");
            }
        }
    }
}

impl Seen {
    fn note(&self, change: WatchEvent<Pod>) {
        let now = Timestamp::now();
        let (pod, gone) = match change {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => return,
        };
        if !gone && pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let uid = pod.uid().unwrap_or_default();
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ends
            .iter()
            .position(|(known, _)| *known == uid)
            .unwrap_or_else(|| {
                ends.push((uid, End::default()));
                ends.len() - 1
            });
        let end = &mut ends[at].1;
        end.going.get_or_insert(now);
        if gone {
            end.gone.get_or_insert(now);
        }
        drop(ends);
        self.changed.notify_waiters();
    }
}
