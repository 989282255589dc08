//! Who may exempt a namespace.

use anyhow::Result;
use curfew_e2e::{Kubectl, Namespace, eventually, kubectl::Said, within_namespace};
use serde_json::json;

use super::{SOON, kubectl_of, passed, refused, user};

const POLICY: &str = "curfew-exemptions";
const EXEMPT: &str = "curfew.dev/exempt=true";

/// Binds somebody to a role that allows this in the namespace.
async fn allow(
    namespace: &Namespace,
    who: &str,
    role: &str,
    group: &str,
    rule: (&[&str], &[&str]),
) -> Result<()> {
    let (resources, verbs) = rule;
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": role},
        "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs}],
    });
    let said = namespace
        .kubectl
        .feed(&["apply", "-f", "-"], &object.to_string())
        .await?;
    said.success()?;
    let (role, user) = (
        format!("--role={role}"),
        format!("--user={}", user(namespace, who)),
    );
    let args = ["create", "rolebinding", &role[7..], &role, &user];
    namespace.kubectl.ok(&args).await.map(drop)
}

async fn label(kubectl: &Kubectl, namespace: &Namespace, label: &str) -> Result<Said> {
    kubectl
        .run(&["label", "namespace", &namespace.name, "--overwrite", label])
        .await
}

#[tokio::test]
async fn only_the_verb_exempt_exempts_a_namespace() {
    within_namespace("exempt", async |namespace| {
        let resources = ["namespaces", "namespaces/status", "namespaces/finalize"];
        let verbs = ["get", "update", "patch"];
        allow(namespace, "owner", "owner", "", (&resources, &verbs)).await?;
        let owner = kubectl_of(namespace, "owner");
        eventually(SOON, "the role is in force", async || {
            passed(&label(&owner, namespace, "example.com/mine=1").await?).map(Some)
        })
        .await?;

        let words = format!(
            "{} may not exempt the namespace {} from Curfew",
            user(namespace, "owner"),
            namespace.name
        );
        refused(&label(&owner, namespace, EXEMPT).await?, POLICY, &words)?;
        let patch = json!({"metadata": {"labels": {"curfew.dev/exempt": "true"}}}).to_string();
        let patch = format!("--patch={patch}");
        let status = [
            "patch",
            "namespace",
            &namespace.name,
            "--subresource=status",
            "--type=merge",
            &patch,
        ];
        refused(&owner.run(&status).await?, POLICY, &words)?;
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace.name, "labels": {"curfew.dev/exempt": "true"}},
            "spec": {"finalizers": ["kubernetes"]},
        });
        let path = format!("/api/v1/namespaces/{}/finalize", namespace.name);
        let args = ["replace", "--raw", &path, "-f", "-"];
        refused(
            &owner.feed(&args, &object.to_string()).await?,
            POLICY,
            &words,
        )?;
        born_exempt(namespace).await?;

        // Who has the verb may, and so may the administrator; to take it back is free.
        let administrator = namespace.cluster.kubectl();
        passed(&label(&administrator, namespace, EXEMPT).await?)?;
        passed(&label(&owner, namespace, "example.com/mine=2").await?)?;
        passed(&label(&owner, namespace, "curfew.dev/exempt-").await?)?;
        refused(&label(&owner, namespace, EXEMPT).await?, POLICY, &words)?;
        allow(
            namespace,
            "owner",
            "exempt",
            "curfew.dev",
            (&["interactions"], &["exempt"]),
        )
        .await?;
        eventually(SOON, "the verb is in force", async || {
            passed(&label(&owner, namespace, EXEMPT).await?).map(Some)
        })
        .await
    })
    .await;
}

/// Who may make namespaces makes none that is exempt.
async fn born_exempt(namespace: &Namespace) -> Result<()> {
    let cluster = namespace.cluster.kubectl();
    let name = format!("{}-maker", namespace.name);
    let user = format!("--user={}", user(namespace, "maker"));
    let role = format!("--clusterrole={name}");
    cluster
        .ok(&[
            "create",
            "clusterrole",
            &name,
            "--verb=create",
            "--resource=namespaces",
        ])
        .await?;
    let bound = cluster
        .ok(&["create", "clusterrolebinding", &name, &role, &user])
        .await;
    let maker = cluster.impersonating(&user[7..], &[]);
    let outcome = async {
        bound?;
        let object = |exempt: bool| {
            let labels = if exempt {
                json!({"curfew.dev/exempt": "true"})
            } else {
                json!({})
            };
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": format!("{}-born", namespace.name), "labels": labels},
            })
            .to_string()
        };
        let args = ["create", "-f", "-", "--dry-run=server"];
        eventually(SOON, "the role is in force", async || {
            passed(&maker.feed(&args, &object(false)).await?).map(Some)
        })
        .await?;
        refused(
            &maker.feed(&args, &object(true)).await?,
            POLICY,
            "may not exempt the namespace",
        )
    }
    .await;
    let removed = cluster
        .ok(&["delete", "clusterrole,clusterrolebinding", &name])
        .await;
    outcome.and(removed.map(drop))
}
