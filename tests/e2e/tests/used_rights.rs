//! Curfew's accounts have no right that they do not use. The API server's audit log tells what they have
//! done since the cluster was made, and so this is the last of the binaries: it needs that all the others
//! have run on this cluster. Where it fails after a single run of its own, run all of them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{CURFEW, TestCluster, audit};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use kube::{Api, ResourceExt};

/// What the API server asks for beside what is requested, which the log does not tell.
const ASKED_FOR_BESIDE: [(&str, &str, &str); 4] = [
    (
        "validatingwebhookconfigurations",
        "create",
        "an apply that makes the object",
    ),
    (
        "nodes",
        "impersonate:associated-node",
        "a request that an account makes as its node",
    ),
    ("signers", "approve", "an approval of a request"),
    ("signers", "sign", "a signature on a request"),
];

/// What is only used where the API server does not stream lists, as 1.33 by default: a watch begins with a list
/// that is streamed, or else with this.
const WITHOUT_STREAMED_LISTS: &str = "list";

/// What the verb begins with of a request that an account makes as its node.
const ON_NODE: &str = "impersonate-on:associated-node:";

/// A verb on a resource, or a part of one.
type Right = (String, String, String);

fn is_of(subjects: Option<&Vec<Subject>>, account: &str) -> bool {
    subjects.into_iter().flatten().any(|subject| {
        subject.kind == "ServiceAccount"
            && subject.name == account
            && subject.namespace.as_deref() == Some(CURFEW)
    })
}

/// All rules that hold for an account.
async fn granted(cluster: &TestCluster, account: &str) -> Result<Vec<PolicyRule>> {
    let client = || cluster.client.clone();
    let mut rules = Vec::new();
    let bindings: Api<ClusterRoleBinding> = Api::all(client());
    let roles: Api<ClusterRole> = Api::all(client());
    for binding in bindings.list(&Default::default()).await? {
        if is_of(binding.subjects.as_ref(), account) {
            let role = roles.get(&binding.role_ref.name).await?;
            rules.extend(role.rules.unwrap_or_default());
        }
    }
    let bindings: Api<RoleBinding> = Api::all(client());
    for binding in bindings.list(&Default::default()).await? {
        if is_of(binding.subjects.as_ref(), account) {
            let namespace = binding
                .namespace()
                .context("a RoleBinding has a namespace")?;
            let roles: Api<Role> = Api::namespaced(client(), &namespace);
            let role = roles.get(&binding.role_ref.name).await?;
            rules.extend(role.rules.unwrap_or_default());
        }
    }
    Ok(rules)
}

fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    rights
}

/// What the account has done with success.
fn used(cluster: &TestCluster, account: &str) -> Result<BTreeSet<Right>> {
    let user = format!("system:serviceaccount:{CURFEW}:{account}");
    let requests = audit::beginning(cluster.machine.audit_log()).since(&user)?;
    let done = requests.into_iter().filter_map(|request| {
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

#[tokio::test]
async fn every_right_is_used() {
    let cluster = TestCluster::connect().await.unwrap();
    let mut unused = Vec::new();
    for account in ["curfew-agent", "curfew-webhook"] {
        let granted = rights(&granted(&cluster, account).await.unwrap());
        assert!(granted.len() > 5, "{account} has only {granted:?}");
        for (group, resource, verb) in &granted {
            for word in [group, resource, verb] {
                assert_ne!(word, "*", "{account} may do too much");
            }
        }
        let used = used(&cluster, account).unwrap();
        let beside = |right: &Right| {
            right.2 == WITHOUT_STREAMED_LISTS
                || ASKED_FOR_BESIDE
                    .iter()
                    .any(|(resource, verb, _)| right.1 == *resource && right.2 == *verb)
        };
        let of_account = granted.difference(&used).filter(|right| !beside(right));
        unused.extend(of_account.map(|right| format!("{account}: {right:?}")));
    }
    let check = || -> Result<()> {
        ensure!(
            unused.is_empty(),
            "rights that nobody has used: {unused:#?}"
        );
        Ok(())
    };
    check().unwrap();
}
