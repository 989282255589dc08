//! People with rights in the namespace of a test.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::{Kubectl, Namespace, eventually};

/// As long as roles take to be in force.
const SOON: Duration = Duration::from_secs(20);

/// Who has one of the usual roles in the namespace.
pub fn user(namespace: &Namespace, role: &str) -> String {
    format!("{role}@{}", namespace.name)
}

/// kubectl as them.
pub fn kubectl_of(namespace: &Namespace, role: &str) -> Kubectl {
    namespace.kubectl.impersonating(&user(namespace, role), &[])
}

/// Gives the usual roles to one user each.
pub async fn people(namespace: &Namespace) -> Result<()> {
    for role in ["view", "edit", "admin"] {
        let (cluster_role, user) = (
            format!("--clusterrole={role}"),
            format!("--user={}", user(namespace, role)),
        );
        let args = ["create", "rolebinding", role, &cluster_role, &user];
        namespace.kubectl.ok(&args).await?;
    }
    eventually(SOON, "the roles are in force", async || {
        let all = may(namespace, &user(namespace, "admin"), "hold").await?
            && may(namespace, &user(namespace, "edit"), "extend").await?;
        Ok(all.then_some(()))
    })
    .await
}

/// The user name of a ServiceAccount `runner` that may edit in the namespace, and kubectl as it.
pub async fn runner(namespace: &Namespace) -> Result<(String, Kubectl)> {
    let account = format!("system:serviceaccount:{}:runner", namespace.name);
    let kubectl = &namespace.kubectl;
    kubectl.ok(&["create", "serviceaccount", "runner"]).await?;
    let user = format!("--user={account}");
    let edits = [
        "create",
        "rolebinding",
        "runner",
        "--clusterrole=edit",
        &user,
    ];
    kubectl.ok(&edits).await?;
    let runner = kubectl.impersonating(&account, &["system:authenticated"]);
    Ok((account, runner))
}

/// Whether a user has one of the virtual verbs in the namespace.
pub async fn may(namespace: &Namespace, user: &str, verb: &str) -> Result<bool> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {
            "group": "curfew.dev", "resource": "interactions",
            "namespace": namespace.name, "verb": verb,
        }},
    });
    let args = ["create", "-f", "-", "-o", "jsonpath={.status.allowed}"];
    let said = namespace
        .cluster
        .kubectl()
        .feed(&args, &review.to_string())
        .await?;
    Ok(said.success()? == "true")
}
