//! The profiles of the cluster, in memory.
//!
//! Owns the map of them. The task of [`run`] writes it; admissions read it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, TryStreamExt};
use kube::{Api, Client, Resource, api::ListParams, runtime::watcher};
use tokio::sync::mpsc;

use curfew_runtime::{error_chain, watch::Watch};

use super::{
    ProfileKey,
    learning::Seen,
    projection::{KnownProfile, WatchedProfile},
};
use crate::metrics::ProfileCounts;

/// The most profiles that are kept; each takes up to 20 KiB, and what people allowed. Others make nothing irregular.
const MAX_PROFILES: usize = 2_000;
/// How many are listed by one call, where the API server does not stream lists: each may have more than a megabyte.
const PAGE: u32 = 4;

/// What is known of the profiles. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Profiles(Arc<ProfileMap>);

#[derive(Debug, Default)]
struct ProfileMap {
    known: RwLock<HashMap<ProfileKey, Arc<KnownProfile>>>,
    complete: AtomicBool,
}

impl Profiles {
    pub(super) fn get(&self, key: &ProfileKey) -> Option<Arc<KnownProfile>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }

    pub(super) fn are_known(&self) -> bool {
        self.0.complete.load(Ordering::Acquire)
    }

    pub(super) fn count(&self) -> ProfileCounts {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = ProfileCounts::default();
        for profile in known.values() {
            match profile.index {
                Some(_) => *counts.stages.entry(profile.stage).or_default() += 1,
                None => counts.unfit += 1,
            }
        }
        counts
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<ProfileKey, Arc<KnownProfile>>) -> T,
    ) -> T {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known)
    }

    fn listed(&self) {
        self.0.complete.store(true, Ordering::Release);
    }
}

/// Keeps them up to date. Ends only with the watch.
pub(super) async fn run(
    watch: Watch,
    client: Client,
    profiles: &Profiles,
    seen: &mpsc::Sender<Seen>,
) {
    let all: Api<WatchedProfile> = Api::all(client);
    let events = watch.events(all, ListParams::default().limit(PAGE));
    follow(events, profiles, seen).await;
}

pub(super) async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<WatchedProfile>>>,
    profiles: &Profiles,
    seen: &mpsc::Sender<Seen>,
) {
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(profile))) => {
                listed.extend(key(&profile));
                learn(profile, profiles, seen);
            }
            // Only when the list is complete is it known which are gone.
            Ok(Some(watcher::Event::InitDone)) => {
                profiles.change(|known| known.retain(|key, _| listed.contains(key)));
                listed.clear();
                profiles.listed();
            }
            Ok(Some(watcher::Event::Apply(profile))) => learn(profile, profiles, seen),
            Ok(Some(watcher::Event::Delete(profile))) => {
                profiles.change(|known| key(&profile).and_then(|key| known.remove(&key)));
            }
            Ok(None) => return,
            // Where profiles are not defined there are none.
            Err(watcher::Error::InitialListFailed(error))
                if error_chain::code(&error) == Some(404) =>
            {
                profiles.listed();
            }
            // The watch tries again, and logs it; what was known of them holds.
            Err(_) => {}
        }
    }
}

fn key(profile: &WatchedProfile) -> Option<ProfileKey> {
    let meta = profile.meta();
    Some(ProfileKey {
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
    })
}

fn learn(profile: WatchedProfile, profiles: &Profiles, seen: &mpsc::Sender<Seen>) {
    let Some(key) = key(&profile) else { return };
    let profile = KnownProfile::from(profile);
    let before = profiles.get(&key);
    if let Some(problem) = &profile.problem
        && before.is_none_or(|before| before.problem.as_ref() != Some(problem))
    {
        tracing::warn!(
            event = "profile-unfit",
            namespace = key.namespace,
            profile = key.name,
            error = problem,
            "this profile cannot be used; it makes nothing irregular"
        );
    }
    if !profile.is_reported {
        // When the queue is full, the next list tells again.
        let _ = seen.try_send(Seen::Unreported { key: key.clone() });
    }
    let kept = profiles.change(|known| {
        let has_room = known.len() < MAX_PROFILES || known.contains_key(&key);
        if has_room {
            known.insert(key.clone(), Arc::new(profile));
        }
        has_room
    });
    if !kept {
        tracing::warn!(
            event = "profile-ignored",
            namespace = key.namespace,
            profile = key.name,
            most = MAX_PROFILES,
            "there are too many profiles; this one is not used"
        );
    }
}
