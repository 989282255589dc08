//! An interaction with a pod, as policies see it.
//!
//! The one place where what Kubernetes says of a pod becomes what a policy can ask of it.

use std::collections::BTreeMap;

use curfew_core::{
    Kind,
    metadata::MIRROR,
    policy::Subject,
    workload::{self, Owner, TEMPLATE_HASH, Workload},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

static UNLABELLED: BTreeMap<String, String> = BTreeMap::new();

/// Who wants to do what.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// How.
    pub kind: Kind,
    /// What is to run; empty where that is not known.
    pub argv: &'a [String],
    /// Whether the user's standard input reaches it.
    pub stdin: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

impl<'a> Attempt<'a> {
    /// This attempt on a pod with these metadata and this priority, which it has none of before admission
    /// plugins have set it.
    pub fn with(
        self,
        pod: &'a ObjectMeta,
        priority: Option<i32>,
        namespace_labels: &'a BTreeMap<String, String>,
    ) -> Subject<'a> {
        let owner = controller(pod).map(|(owner, _)| owner);
        let annotations = pod.annotations.as_ref();
        let pod_labels = pod.labels.as_ref().unwrap_or(&UNLABELLED);
        Subject {
            namespace: pod.namespace.as_deref().unwrap_or_default(),
            namespace_labels,
            pod_labels,
            priority: priority.unwrap_or_default(),
            managed: owner.is_some(),
            of_job: owner.is_some_and(Owner::is_job),
            workload: workload::kind(owner, pod_labels.contains_key(TEMPLATE_HASH)),
            mirror: annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)),
            user: self.user,
            groups: self.groups,
            kind: self.kind,
            argv: self.argv,
            stdin: self.stdin,
            tty: self.tty,
            behaviour: None,
        }
    }
}

/// The workload of a pod with these metadata; none if no controller owns it.
pub fn workload(pod: &ObjectMeta) -> Option<Workload> {
    let (owner, name) = controller(pod)?;
    let labels = pod.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(TEMPLATE_HASH));
    Workload::of(owner, name, hash.map(String::as_str))
}

/// The controller of a pod with these metadata, and its name.
fn controller(pod: &ObjectMeta) -> Option<(Owner<'_>, &str)> {
    let mut owners = pod.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let kind = Owner {
        api_version: &owner.api_version,
        kind: &owner.kind,
    };
    Some((kind, &owner.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn subject(pod: Value, check: impl Fn(Subject<'_>)) {
        let pod: ObjectMeta = serde_json::from_value(pod).unwrap();
        let attempt = Attempt {
            user: "alice",
            groups: &[],
            kind: Kind::Exec,
            argv: &[],
            stdin: false,
            tty: false,
        };
        check(attempt.with(&pod, None, &BTreeMap::new()));
    }

    #[test]
    fn only_a_controller_would_replace_a_pod() {
        let owned = |controller: Value| {
            json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"},
                {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "v", "controller": controller},
            ]})
        };
        subject(json!({}), |bare| assert!(!bare.managed && !bare.mirror));
        subject(owned(json!(false)), |owned| assert!(!owned.managed));
        subject(owned(Value::Null), |owned| assert!(!owned.managed));
        subject(owned(json!(true)), |owned| assert!(owned.managed));
    }

    #[test]
    fn a_pod_is_of_the_kind_of_its_controller() {
        let owned = |api_version: &str, kind: &str, labels: Value| {
            json!({"labels": labels, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"},
                {"apiVersion": api_version, "kind": kind, "name": "x", "uid": "v", "controller": true},
            ]})
        };
        for (pod, workload, of_job) in [
            (json!({}), "Pod", false),
            (owned("batch/v1", "Job", json!({})), "Job", true),
            (
                owned("batch.volcano.sh/v1alpha1", "Job", json!({})),
                "Job",
                false,
            ),
            (
                owned("apps/v1", "ReplicaSet", json!({})),
                "ReplicaSet",
                false,
            ),
            (
                owned("apps/v1", "ReplicaSet", json!({"pod-template-hash": "a"})),
                "Deployment",
                false,
            ),
        ] {
            subject(pod, |pod| {
                assert_eq!((pod.workload, pod.of_job), (workload, of_job))
            });
        }
    }

    #[test]
    fn a_static_pod_is_known_by_its_annotation() {
        let mirror = json!({"annotations": {"kubernetes.io/config.mirror": ""}});
        subject(mirror, |pod| assert!(pod.mirror));
        let other = json!({"annotations": {"kubernetes.io/config.source": "file"}});
        subject(other, |pod| assert!(!pod.mirror));
    }

    #[test]
    fn what_the_pod_does_not_say_is_nothing() {
        subject(json!({}), |pod| {
            assert_eq!((pod.namespace, pod.priority), ("", 0));
            assert!(pod.pod_labels.is_empty());
        });
    }
}
