//! What a pod belongs to, by what its own metadata say of its controller.
//!
//! Whoever may edit a pod may change this, as its labels.

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

#[cfg(test)]
mod tests {
    use super::*;

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
