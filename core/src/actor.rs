//! Which kind of actor a user name stands for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray, VariantNames};

use crate::names::{is_label, is_subdomain};

/// The beginning of the user name of every ServiceAccount; behind it stand its namespace and its name, with a colon
/// between them. <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens>
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The beginning of the user name of every kubelet; behind it stands the name of its node.
/// <https://kubernetes.io/docs/reference/access-authn-authz/node/>
const NODE: &str = "system:node:";

// It is not stored anywhere: the user name is, and tells it.
/// What the name of a user stands for.
#[derive(Display, IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "PascalCase")]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Actor {
    /// Any other name: people, and programs with certificates or tokens of an identity provider.
    User,
    /// A ServiceAccount, `system:serviceaccount:NAMESPACE:NAME`.
    ServiceAccount,
    /// The kubelet of a node, `system:node:NAME`.
    Node,
}

impl Actor {
    /// All of them.
    pub const ALL: &[Actor] = <Self as VariantArray>::VARIANTS;

    /// The name of each, as [`Actor::as_str`] gives it.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// The actor behind this user name. A name that only begins like another kind's is that of a user.
    pub fn of(user: &str) -> Self {
        let account = user
            .strip_prefix(SERVICE_ACCOUNT)
            .and_then(|rest| rest.split_once(':'));
        if account.is_some_and(|(namespace, name)| is_label(namespace) && is_subdomain(name)) {
            Actor::ServiceAccount
        } else if user.strip_prefix(NODE).is_some_and(is_subdomain) {
            Actor::Node
        } else {
            Actor::User
        }
    }

    /// Its name in policies and in labels of metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_known_by_the_form_of_its_name() {
        for (user, actor) in [
            ("alice", Actor::User),
            ("alice@example.org", Actor::User),
            ("system:admin", Actor::User),
            ("system:serviceaccount:ci:runner", Actor::ServiceAccount),
            ("system:serviceaccount:ci:runner.v1", Actor::ServiceAccount),
            ("system:serviceaccount:ci", Actor::User),
            ("system:serviceaccount:ci:", Actor::User),
            ("system:serviceaccount:ci:a:b", Actor::User),
            ("system:serviceaccount::runner", Actor::User),
            ("system:serviceaccounts:ci", Actor::User),
            ("oidc:system:serviceaccount:ci:runner", Actor::User),
            ("system:node:node-1", Actor::Node),
            ("system:node:node-1.example.org", Actor::Node),
            ("system:node:", Actor::User),
            ("system:nodes", Actor::User),
            ("", Actor::User),
        ] {
            assert_eq!(Actor::of(user), actor, "{user}");
        }
        for actor in Actor::ALL {
            assert_eq!(serde_json::to_value(actor).unwrap(), actor.as_str());
        }
    }
}
