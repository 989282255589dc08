//! What Curfew's accounts may do, by RBAC, and what they have done, by the API server's audit log.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use curfew_cluster::Minor;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use kube::{Api, ResourceExt};

use crate::{CURFEW, TestCluster, audit::Mark};

/// What the API server asks for beside what is requested, which the log does not tell.
const ASKED_FOR_BESIDE: [(&str, &str, &str); 4] = [
    (
        "validatingwebhookconfigurations",
        "create",
        "an apply that makes the object",
    ),
    (
        "nodes",
        AS_NODE,
        "a request that an account makes as its node",
    ),
    ("signers", "approve", "an approval of a request"),
    ("signers", "sign", "a signature on a request"),
];

/// What is only used where the API server does not stream lists, as 1.33 by default: a watch begins with a list
/// that is streamed, or else with this.
const WITHOUT_STREAMED_LISTS: &str = "list";

/// The verb that lets an account act as its node.
const AS_NODE: &str = "impersonate:associated-node";

/// What the verb begins with of a request that an account makes as its node.
const ON_NODE: &str = "impersonate-on:associated-node:";

/// A group, a resource of it or a part of one, and a verb.
pub type Right = (String, String, String);

/// The rights of an account.
///
/// # Errors
/// When one of its roles grants everything of a kind.
pub async fn to_account(cluster: &TestCluster, account: &str) -> Result<BTreeSet<Right>> {
    let client = || cluster.client.clone();
    let mut rules = Vec::new();
    let bindings: Api<ClusterRoleBinding> = Api::all(client());
    for binding in bindings.list(&Default::default()).await? {
        if is_of(binding.subjects.as_ref(), account) {
            rules.extend(of_role(cluster, &binding.role_ref.name).await?);
        }
    }
    let mut rights = BTreeSet::from_iter(rules);
    let bindings: Api<RoleBinding> = Api::all(client());
    for binding in bindings.list(&Default::default()).await? {
        if is_of(binding.subjects.as_ref(), account) {
            let namespace = binding
                .namespace()
                .context("a RoleBinding has a namespace")?;
            let roles: Api<Role> = Api::namespaced(client(), &namespace);
            let role = roles.get(&binding.role_ref.name).await?;
            rights.extend(rights_of(role.rules)?);
        }
    }
    Ok(rights)
}

/// The rights that a ClusterRole grants.
///
/// # Errors
/// When it grants everything of a kind.
pub async fn of_role(cluster: &TestCluster, name: &str) -> Result<BTreeSet<Right>> {
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    rights_of(roles.get(name).await?.rules)
}

/// Those that were not used since then, of those that the Kubernetes that runs has a use for.
pub fn unused(
    rights: &BTreeSet<Right>,
    since: &Mark,
    account: &str,
    kubernetes: Minor,
) -> Result<Vec<Right>> {
    let used = used(since, account)?;
    let beside = |right: &Right| {
        (right.2 == WITHOUT_STREAMED_LISTS && kubernetes.streams_lists())
            || (right.2.starts_with(ON_NODE) && !kubernetes.agents_act_as_nodes())
            || ASKED_FOR_BESIDE
                .iter()
                .any(|(resource, verb, _)| right.1 == *resource && right.2 == *verb)
    };
    let unused = rights.difference(&used).filter(|right| !beside(right));
    Ok(unused.cloned().collect())
}

fn is_of(subjects: Option<&Vec<Subject>>, account: &str) -> bool {
    subjects.into_iter().flatten().any(|subject| {
        subject.kind == "ServiceAccount"
            && subject.name == account
            && subject.namespace.as_deref() == Some(CURFEW)
    })
}

fn rights_of(rules: Option<Vec<PolicyRule>>) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for rule in rules.iter().flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    for word in [group, resource, verb] {
                        ensure!(word != "*", "too much is granted: {rule:?}");
                    }
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    Ok(rights)
}

/// What the account has done with success.
fn used(since: &Mark, account: &str) -> Result<BTreeSet<Right>> {
    let user = format!("system:serviceaccount:{CURFEW}:{account}");
    let done = since.since(&user)?.into_iter().filter_map(|request| {
        let object = request.object_ref?;
        // A watch has no status before its end, and a policy may deny what a role allows.
        let allowed = request.response_status.code != 403;
        let resource = match object.subresource.is_empty() {
            true => object.resource,
            false => format!("{}/{}", object.resource, object.subresource),
        };
        let verb = match request.impersonated_user {
            Some(_) => format!("{ON_NODE}{}", request.verb),
            None => request.verb,
        };
        allowed.then_some((object.api_group, resource, verb))
    });
    Ok(done.collect())
}
