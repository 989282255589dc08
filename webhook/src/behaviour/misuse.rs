//! The watch of touched pods. Of those that were found misused, what was learned while they were is not trusted; what
//! sessions left behind in the others is for [`super::left`].
//!
//! Somebody asked for the eviction of the pod at once (`kubectl pi evict`), which stands on the pod. Owns the memory of
//! which pods that was seen of.

use std::collections::HashSet;

use curfew_core::{behaviour::Period, metadata};
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams, core::PartialObjectMeta, runtime::watcher};
use tokio::sync::mpsc;

use curfew_runtime::watch::Watch;

use super::{ProfileKey, learning::Seen, left::LeftWatch, profiles::Profiles};
use crate::placement::pod_id;

/// Tells of them. Ends only with the watch.
pub(super) async fn run(
    watch: Watch,
    client: Client,
    profiles: &Profiles,
    seen: &mpsc::Sender<Seen>,
    left: &mut LeftWatch,
) {
    let all: Api<PartialObjectMeta<Pod>> = Api::all(client);
    let touched =
        ListParams::default().labels(&format!("{}={}", metadata::LABEL, metadata::INTERACTED));
    follow(watch.events(all, touched), profiles, seen, left).await;
}

pub(super) async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<Pod>>>>,
    profiles: &Profiles,
    seen: &mpsc::Sender<Seen>,
    left: &mut LeftWatch,
) {
    let mut events = std::pin::pin!(events);
    let mut told: HashSet<String> = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => left.list_begins(),
            Ok(Some(watcher::Event::InitDone)) => left.list_ends(),
            Ok(Some(watcher::Event::InitApply(pod))) => {
                left.listed(&pod);
                tell(&pod, &mut told, profiles, seen);
            }
            Ok(Some(watcher::Event::Apply(pod))) => {
                left.seen(&pod);
                tell(&pod, &mut told, profiles, seen);
            }
            Ok(Some(watcher::Event::Delete(pod))) => {
                let uid = pod.uid().unwrap_or_default();
                left.gone(&uid);
                told.remove(&uid);
            }
            Ok(None) => return,
            // The watch tries again, and logs it.
            Err(_) => {}
        }
    }
}

/// Tells that the pod was found misused, if it was and that was not told.
fn tell(
    pod: &PartialObjectMeta<Pod>,
    told: &mut HashSet<String>,
    profiles: &Profiles,
    seen: &mpsc::Sender<Seen>,
) {
    let uid = pod.uid().unwrap_or_default();
    if !told.contains(&uid)
        && let Some((key, period)) = misused(pod, Timestamp::now())
    {
        // A replica that has just started finds what another has told of.
        let known = profiles.get(&key);
        let is_known = known.is_some_and(|known| {
            let mut known = known.distrusted.iter();
            known.any(|known| known.contains(period.from))
        });
        if is_known || seen.try_send(Seen::Misused { key, period }).is_ok() {
            told.insert(uid);
        }
    }
}

/// The workload of a pod that was found misused, and since when nothing is trusted that was done with it: since its
/// first interaction that is known.
fn misused(pod: &PartialObjectMeta<Pod>, now: Timestamp) -> Option<(ProfileKey, Period)> {
    let annotations = pod.annotations();
    annotations.get(metadata::EVICT_NOW)?;
    let key = ProfileKey {
        namespace: pod.namespace()?,
        name: curfew_crd::workload(&pod.metadata)?.object_name(),
    };
    let marks = metadata::read(&pod_id(&pod.metadata), annotations).unwrap_or_default();
    let times = marks.known.iter().map(|known| known.interaction.time);
    let from = times.min().unwrap_or(now);
    Some((key, Period { from, until: now }))
}
