//! What sessions left behind in touched pods, as agents write it on them.
//!
//! Owns the memory of what was seen of which pod. [`crate::leftovers`] decides what follows.

use std::collections::{BTreeSet, HashMap, HashSet};

use curfew_core::{
    Leftover,
    behaviour::{Assessment, Decision, Features, Thresholds, assess_left},
    left, metadata,
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, core::PartialObjectMeta};
use tokio::sync::mpsc;

use super::{Behaviour, Compared, ProfileKey, irregular, learning::Seen};

/// The most pods of which it is remembered what was left there. What is left in others is not looked at.
const MAX_PODS: usize = 16_384;

/// A touched pod that shows what it did not show before.
#[derive(Debug, Clone)]
pub(crate) struct PodLeftovers {
    /// The pod.
    pub(crate) metadata: ObjectMeta,
    /// What is new.
    pub(crate) left: Vec<Leftover>,
    /// Whether it stood there when this replica started, so that another one has learned it if it was to be learned.
    pub(crate) is_old: bool,
}

/// Looks for them among the touched pods.
#[derive(Debug)]
pub(super) struct LeftWatch {
    /// What was told of each, by UID.
    told: HashMap<String, BTreeSet<Leftover>>,
    /// Those of the list that is being read.
    listed: HashSet<String>,
    /// Whether the first list was not read yet.
    pub(super) is_first_list: bool,
    found: mpsc::Sender<PodLeftovers>,
}

impl LeftWatch {
    pub(super) fn new(found: mpsc::Sender<PodLeftovers>) -> Self {
        Self {
            told: HashMap::new(),
            listed: HashSet::new(),
            is_first_list: true,
            found,
        }
    }

    /// The pods are listed from now on.
    pub(super) fn list_begins(&mut self) {
        self.listed.clear();
    }

    /// These were all.
    pub(super) fn list_ends(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        self.told.retain(|uid, _| listed.contains(uid));
        self.is_first_list = false;
    }

    /// The list has this pod.
    pub(super) fn listed(&mut self, pod: &PartialObjectMeta<Pod>) {
        self.seen(pod);
        let uid = pod.uid().unwrap_or_default();
        if self.told.contains_key(&uid) {
            self.listed.insert(uid);
        }
    }

    /// The pod is as this says.
    pub(super) fn seen(&mut self, pod: &PartialObjectMeta<Pod>) {
        let Some(text) = pod.annotations().get(metadata::LEFT) else {
            return;
        };
        let uid = pod.uid().unwrap_or_default();
        let told = self.told.get(&uid);
        let is_new = |left: &Leftover| told.is_none_or(|told| !told.contains(left));
        let left: Vec<_> = left::parse(text).into_iter().filter(is_new).collect();
        let has_room = told.is_some() || self.told.len() < MAX_PODS;
        if left.is_empty() || !has_room {
            return;
        }
        let found = PodLeftovers {
            metadata: ObjectMeta {
                managed_fields: None,
                ..pod.metadata.clone()
            },
            left: left.clone(),
            is_old: self.is_first_list,
        };
        // When the queue is full, the next change of the pod tells again.
        if self.found.try_send(found).is_ok() {
            self.told.entry(uid).or_default().extend(left);
        }
    }

    /// The pod is gone.
    pub(super) fn gone(&mut self, uid: &str) {
        self.told.remove(uid);
    }
}

impl Behaviour {
    /// How what was left in a pod compares with the profile of its workload; none where the pod has none. Of which of
    /// these interactions it is, nobody knows: it is irregular only if it is so for each. The first is the latest.
    pub(crate) fn compare_left(
        &self,
        pod: &ObjectMeta,
        features: Vec<Features>,
        time: Timestamp,
    ) -> Option<Compared> {
        let workload = curfew_crd::workload(pod)?;
        let key = ProfileKey {
            namespace: pod.namespace.clone()?,
            name: workload.object_name(),
        };
        let profile = self.profiles.get(&key);
        let index = profile.as_ref().and_then(|profile| profile.index.as_ref());
        let assessment = index.and_then(|index| {
            let (now, workload) = (Timestamp::now(), workload.to_string());
            let all = features.iter();
            let all = all.map(|features| assess_left(features, index, now, &workload));
            all.reduce(Assessment::better)
        });
        Some(Compared {
            key,
            features,
            assessment,
            time,
        })
    }

    /// Counts what it is, and tells the profile: what is irregular is noted there, and what is not is learned if `learn`
    /// says so. Another replica does the same, which makes no difference to what is usual.
    pub(crate) fn tell_left(
        &self,
        compared: &Compared,
        decision: Option<&Decision>,
        asked: Option<Thresholds>,
        learn: bool,
        request: &str,
    ) {
        let Some(thresholds) = asked else { return };
        if let Some(decision) = decision {
            self.metrics.left_compared(decision);
        }
        let Some(features) = compared.features.first().cloned() else {
            return;
        };
        let (key, time) = (compared.key.clone(), compared.time);
        // One interaction can leave several things, one after the other.
        let request = format!("{request} {}", left::text(&features.left));
        let seen = match irregular(decision) {
            Some(reason) => Seen::Irregular {
                key,
                user: Some(features.user),
                reason,
                time,
                request,
                thresholds,
            },
            None if learn => Seen::Left {
                key,
                features,
                time,
                request,
                thresholds,
            },
            None => return,
        };
        if self.seen.try_send(seen).is_err() {
            self.metrics.unlearned();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, left: &str) -> PartialObjectMeta<Pod> {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": uid,
                "annotations": {metadata::LEFT: left}},
        }))
        .unwrap()
    }

    /// What was told: the pod, what it shows, and whether that is old.
    fn told(found: &mut mpsc::Receiver<PodLeftovers>) -> Vec<(String, String, bool)> {
        let mut all = Vec::new();
        while let Ok(found) = found.try_recv() {
            let uid = found.metadata.uid.unwrap();
            all.push((uid, left::text(&found.left), found.is_old));
        }
        all
    }

    fn one(uid: &str, left: &str, is_old: bool) -> Vec<(String, String, bool)> {
        vec![(uid.to_owned(), left.to_owned(), is_old)]
    }

    #[test]
    fn each_is_told_once_while_the_pod_lives() {
        let (send, mut found) = mpsc::channel(8);
        let mut watch = LeftWatch::new(send);
        watch.list_begins();
        watch.listed(&pod("a", "running nc"));
        watch.list_ends();
        assert_eq!(told(&mut found), one("a", "running nc", true));
        watch.seen(&pod("a", "running nc"));
        watch.seen(&pod("a", "running nc, dropped x"));
        assert_eq!(told(&mut found), one("a", "dropped x", false));
        // The process has ended, and runs again.
        watch.seen(&pod("a", "dropped x"));
        watch.seen(&pod("a", "running nc, dropped x"));
        watch.seen(&pod("a", "garbage"));
        assert_eq!(told(&mut found), []);
        // The watch lists again: what it told before is no news, and a pod that is gone is forgotten.
        watch.list_begins();
        watch.listed(&pod("a", "running nc"));
        watch.listed(&pod("b", "running nc"));
        watch.list_ends();
        assert_eq!(told(&mut found), one("b", "running nc", false));
        watch.list_begins();
        watch.listed(&pod("b", "running nc"));
        watch.list_ends();
        watch.gone("b");
        assert!(watch.told.is_empty());
    }

    #[test]
    fn what_there_is_no_room_for_is_told_with_the_next_change() {
        let (send, mut found) = mpsc::channel(1);
        let mut watch = LeftWatch::new(send);
        watch.seen(&pod("a", "running nc"));
        watch.seen(&pod("b", "running nc"));
        assert_eq!(told(&mut found), one("a", "running nc", true));
        watch.seen(&pod("b", "running nc"));
        assert_eq!(told(&mut found), one("b", "running nc", true));
    }
}
