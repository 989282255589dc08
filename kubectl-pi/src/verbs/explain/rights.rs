//! The rights without which an interaction, or what would follow from it, is refused.

use anyhow::anyhow;
use curfew_core::Kind;
use k8s_openapi::api::{authorization::v1::ResourceAttributes, core::v1::Pod};
use kube::ResourceExt;

use crate::cli::Explain;

pub(super) const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

impl Explain {
    /// The right without which the API server refuses the interaction before anybody sees it; none for a bypass, which
    /// does not ask it.
    pub(super) fn asks_for(&self, pod: &Pod) -> Option<ResourceAttributes> {
        let (verb, subresource) = match self.kind {
            Kind::Exec => ("create", "exec"),
            Kind::Attach => ("create", "attach"),
            Kind::Portforward => ("create", "portforward"),
            Kind::Debug => ("patch", "ephemeralcontainers"),
            Kind::Bypass => return None,
        };
        Some(ResourceAttributes {
            verb: Some(verb.to_owned()),
            resource: Some("pods".to_owned()),
            subresource: Some(subresource.to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            ..ResourceAttributes::default()
        })
    }
}

/// Why the labels of the namespace could not be read, and which right is missing.
pub(super) fn namespace_unread(error: kube::Error, user: &str, namespace: &str) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if status.code == FORBIDDEN => anyhow!(
            "{user} may not get the namespace {namespace}, whose labels policies select: a RoleBinding to the \
             ClusterRole view there is enough"
        ),
        _ => error.into(),
    }
}

/// Why the policies could not be read, and which right is missing.
pub(super) fn policies_unread(error: kube::Error, user: &str) -> anyhow::Error {
    match &error {
        kube::Error::Api(status) if status.code == FORBIDDEN => anyhow!(
            "{user} may not list interactionpolicies.curfew.dev, which are cluster-scoped: this requires a \
             ClusterRoleBinding to the ClusterRole curfew-view, or to view, which contains it; a RoleBinding \
             is not enough. manifests/components/policy-readers allows it for all authenticated users"
        ),
        kube::Error::Api(status) if status.code == NOT_FOUND => anyhow!(
            "the cluster has no interactionpolicies.curfew.dev: Curfew is not installed there"
        ),
        _ => error.into(),
    }
}
