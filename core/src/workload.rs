//! What a pod belongs to, by what its own metadata say of its controller.
//!
//! Whoever may edit a pod may change this, as its labels.

use std::fmt;

use crate::names::is_subdomain;

/// The kind of a pod that no controller owns.
pub const BARE: &str = "Pod";
/// The label that a Deployment gives the pods of its ReplicaSets.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label>
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// An owner reference whose `controller` is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its `apiVersion`.
    pub api_version: &'a str,
    /// Its `kind`.
    pub kind: &'a str,
}

impl Owner<'_> {
    /// Whether it is a Job of Kubernetes, whose pods end by themselves.
    pub fn is_job(self) -> bool {
        self.kind == "Job" && self.api_version.starts_with("batch/")
    }
}

/// The kind of the workload that a pod with this controller belongs to. A ReplicaSet whose pods have the label
/// [`TEMPLATE_HASH`] stands for its Deployment; [`BARE`] stands for none.
pub fn kind(owner: Option<Owner<'_>>, has_template_hash: bool) -> &str {
    match owner {
        None => BARE,
        Some(owner) if owner.kind == "ReplicaSet" && has_template_hash => "Deployment",
        Some(owner) => owner.kind,
    }
}

/// A workload: all pods that the same controller makes, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its kind, in lower case.
    kind: String,
    /// Its name.
    name: String,
}

impl Workload {
    /// The workload of a pod with a controller of this name. `template_hash` is the value of the label
    /// [`TEMPLATE_HASH`]. A Job whose name ends in the time of a CronJob stands for the CronJob's other Jobs, too:
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#job-name>. None if no object can have the
    /// name.
    pub fn of(owner: Owner<'_>, name: &str, template_hash: Option<&str>) -> Option<Self> {
        let without = |suffix: &str| name.strip_suffix(suffix)?.strip_suffix('-');
        let name = match template_hash {
            Some(hash) if owner.kind == "ReplicaSet" => without(hash).unwrap_or(name),
            _ if owner.is_job() => match name.rsplit_once('-') {
                Some((name, time)) if is_time(time) => name,
                _ => name,
            },
            _ => name,
        };
        let workload = Self {
            kind: kind(Some(owner), template_hash.is_some()).to_ascii_lowercase(),
            name: name.to_owned(),
        };
        is_subdomain(&workload.object_name()).then_some(workload)
    }

    /// The name of its InteractionProfile: `deployment.web`. No kind contains a dot.
    pub fn object_name(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }
}

/// As people call it: `deployment web`.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Whether this is what a CronJob puts behind its name: minutes since 1970.
fn is_time(text: &str) -> bool {
    (8..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_replace_each_other_are_of_one_workload() {
        let owner = |api_version, kind| Owner { api_version, kind };
        let apps = |kind| owner("apps/v1", kind);
        for (owner, name, hash, expected) in [
            (
                apps("ReplicaSet"),
                "web-7d9f",
                Some("7d9f"),
                Some("deployment.web"),
            ),
            (
                apps("ReplicaSet"),
                "web",
                Some("7d9f"),
                Some("deployment.web"),
            ),
            (
                apps("ReplicaSet"),
                "web-7d9f",
                None,
                Some("replicaset.web-7d9f"),
            ),
            (apps("StatefulSet"), "db", None, Some("statefulset.db")),
            (
                owner("batch/v1", "Job"),
                "backup-29401920",
                None,
                Some("job.backup"),
            ),
            (
                owner("batch/v1", "Job"),
                "import-2026",
                None,
                Some("job.import-2026"),
            ),
            (
                owner("x/v1", "Job"),
                "a-29401920",
                None,
                Some("job.a-29401920"),
            ),
            (apps("ReplicaSet"), "Web_1", None, None),
            (apps("StatefulSet"), &"a".repeat(253), None, None),
        ] {
            let found = Workload::of(owner, name, hash);
            let found = found.map(|workload| workload.object_name());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        let web = Workload::of(apps("ReplicaSet"), "web-1", Some("1")).unwrap();
        assert_eq!(web.to_string(), "deployment web");
    }

    #[test]
    fn a_workload_has_the_kind_of_its_controller() {
        let owner = |api_version, kind| Some(Owner { api_version, kind });
        for (owner, hash, expected) in [
            (None, true, "Pod"),
            (owner("apps/v1", "ReplicaSet"), true, "Deployment"),
            (owner("apps/v1", "ReplicaSet"), false, "ReplicaSet"),
            (owner("apps/v1", "StatefulSet"), true, "StatefulSet"),
            (owner("batch/v1", "Job"), false, "Job"),
            (
                owner("core.strimzi.io/v1", "StrimziPodSet"),
                false,
                "StrimziPodSet",
            ),
        ] {
            assert_eq!(kind(owner, hash), expected, "{owner:?}");
        }
    }

    #[test]
    fn only_a_job_of_kubernetes_is_one() {
        for (api_version, kind, expected) in [
            ("batch/v1", "Job", true),
            ("batch/v1", "CronJob", false),
            ("batch.volcano.sh/v1alpha1", "Job", false),
            ("apps/v1", "ReplicaSet", false),
        ] {
            assert_eq!(
                Owner { api_version, kind }.is_job(),
                expected,
                "{api_version} {kind}"
            );
        }
    }
}
