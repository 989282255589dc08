//! What kind of actor a user name stands for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of an actor, as the form of the user name tells it.
///
/// Source: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/> (ServiceAccounts) and
/// <https://kubernetes.io/docs/reference/access-authn-authz/node/> (nodes).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ActorKind {
    /// A person, or a program that uses the credentials of one.
    User,
    /// A ServiceAccount: `system:serviceaccount:NAMESPACE:NAME`.
    ServiceAccount,
    /// A kubelet: `system:node:NAME`.
    Node,
}

impl ActorKind {
    /// The kind of the actor with this user name.
    pub fn of(user: &str) -> Self {
        let is_account = |rest: &str| {
            rest.split_once(':').is_some_and(|(namespace, name)| {
                !namespace.is_empty() && !name.is_empty() && !name.contains(':')
            })
        };
        let rest = |prefix| user.strip_prefix(prefix);
        if rest("system:serviceaccount:").is_some_and(is_account) {
            ActorKind::ServiceAccount
        } else if rest("system:node:").is_some_and(|name| !name.is_empty()) {
            ActorKind::Node
        } else {
            ActorKind::User
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_name_tells_the_kind() {
        for (user, kind) in [
            ("alice", ActorKind::User),
            ("oidc:alice@example.com", ActorKind::User),
            ("system:admin", ActorKind::User),
            ("system:serviceaccount:ci:runner", ActorKind::ServiceAccount),
            ("system:serviceaccount:ci", ActorKind::User),
            ("system:serviceaccount::runner", ActorKind::User),
            ("system:serviceaccount:ci:", ActorKind::User),
            ("system:serviceaccount:ci:a:b", ActorKind::User),
            ("system:node:node-1", ActorKind::Node),
            ("system:node:", ActorKind::User),
            ("", ActorKind::User),
        ] {
            assert_eq!(ActorKind::of(user), kind, "{user}");
        }
    }
}
