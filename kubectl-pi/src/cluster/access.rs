//! Whether the user has a right, before anything is asked for.
//!
//! The API server decides in any case; it is only that its answers come late, or speak of what the
//! user did not ask for. `kubectl auth can-i` knows no verbs of resources that cannot be read, so that
//! nothing else tells of them.

use anyhow::bail;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use crate::cluster::connection::Connection;

/// What people may be allowed to do about pods that somebody interacted with: verbs of
/// `interactions.curfew.dev`, for which the admission policies ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Extend,
    Hold,
    Evict,
}

/// Whether the user has the right; none where that cannot be told.
pub(crate) async fn allowed(client: &Client, wanted: ResourceAttributes) -> Option<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(wanted),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await;
    let status = answer.ok()?.status?;
    // Who did not allow it may just not have been able to find out.
    let sure = status.allowed || status.denied == Some(true) || status.evaluation_error.is_none();
    sure.then_some(status.allowed)
}

/// Checks that the user has the verb in the namespace, and returns the user's name.
///
/// # Errors
/// Says who lacks which right, and who grants it.
pub(crate) async fn check(connection: &Connection, right: Right) -> anyhow::Result<String> {
    let Connection { client, namespace } = connection;
    let wanted = ResourceAttributes {
        group: Some("curfew.dev".to_owned()),
        resource: Some("interactions".to_owned()),
        namespace: Some(namespace.clone()),
        verb: Some(right.as_str().to_owned()),
        ..ResourceAttributes::default()
    };
    let (user, allowed) = futures::join!(connection.user(), allowed(client, wanted));
    let user = user?.name;
    match allowed {
        Some(false) => bail!(right.lacked_by(&user, namespace)),
        // Where it cannot be told, the API server will.
        Some(true) | None => Ok(user),
    }
}

impl Right {
    fn as_str(self) -> &'static str {
        match self {
            Right::Extend => "extend",
            Right::Hold => "hold",
            Right::Evict => "evict",
        }
    }

    /// The same sentence as the admission policy's.
    fn lacked_by(self, user: &str, namespace: &str) -> String {
        let (what, granted) = match self {
            Right::Extend => ("extend the time of", "ClusterRoles edit and admin grant"),
            Right::Hold => ("hold", "ClusterRole admin grants"),
            Right::Evict => ("evict", "ClusterRole admin grants"),
        };
        format!(
            "{user} may not {what} pods in the namespace {namespace}: this requires the verb {} on \
             interactions.curfew.dev there, which the {granted}",
            self.as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use curfew_api_server::{Answer, ApiServer};
    use serde_json::{Value, json};

    use super::*;

    /// Whether the right is there by this answer of the API server.
    async fn by(code: u16, answer: Value) -> Option<bool> {
        let server = ApiServer::new();
        server.script(move |_| Answer::json(code, &answer));
        allowed(&server.client(), ResourceAttributes::default()).await
    }

    #[tokio::test]
    async fn only_what_is_certain_is_a_refusal() {
        let review = |status: Value| json!({"spec": {}, "status": status});
        for (status, expected) in [
            (json!({"allowed": true}), Some(true)),
            (json!({"allowed": false}), Some(false)),
            (
                json!({"allowed": false, "denied": true, "evaluationError": "?"}),
                Some(false),
            ),
            (json!({"allowed": true, "evaluationError": "?"}), Some(true)),
            (json!({"allowed": false, "evaluationError": "?"}), None),
            (Value::Null, None),
        ] {
            assert_eq!(by(201, review(status.clone())).await, expected, "{status}");
        }
        let forbidden = json!({"kind": "Status", "status": "Failure", "code": 403});
        assert_eq!(by(403, forbidden).await, None);
        assert_eq!(by(500, Value::Null).await, None);
    }

    #[test]
    fn who_lacks_a_right_is_told_as_by_the_admission_policy() {
        let policy = include_str!("../../../manifests/base/admission-marks.yaml");
        for (right, sentence) in [
            (
                Right::Extend,
                "bob may not extend the time of pods in the namespace shop: this requires the verb extend on \
                 interactions.curfew.dev there, which the ClusterRoles edit and admin grant",
            ),
            (
                Right::Hold,
                "bob may not hold pods in the namespace shop: this requires the verb hold on \
                 interactions.curfew.dev there, which the ClusterRole admin grants",
            ),
            (
                Right::Evict,
                "bob may not evict pods in the namespace shop: this requires the verb evict on \
                 interactions.curfew.dev there, which the ClusterRole admin grants",
            ),
        ] {
            assert_eq!(right.lacked_by("bob", "shop"), sentence);
            let (start, end) = sentence.split_once("shop").unwrap();
            for part in [start.strip_prefix("bob").unwrap(), end] {
                assert!(policy.contains(&format!("'{part}")), "{part:?}");
            }
        }
    }
}
