//! Which pod.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    names::{is_label, is_subdomain},
    text::cut,
};

/// A pod, and no other that ever had its name. What is read from a notice or from the store
/// has names that the API server accepts, because they become parts of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedPodId")]
pub struct PodId {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID that the API server gave it.
    pub uid: String,
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a [`PodId`] is read from.
#[derive(Deserialize)]
struct UncheckedPodId {
    namespace: String,
    name: String,
    uid: String,
}

/// No pod can have this namespace or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not a name that the API server accepts")]
pub struct UnfitName {
    field: &'static str,
    value: String,
}

impl TryFrom<UncheckedPodId> for PodId {
    type Error = UnfitName;

    fn try_from(pod: UncheckedPodId) -> Result<Self, UnfitName> {
        let UncheckedPodId {
            namespace,
            name,
            uid,
        } = pod;
        for (field, value, fits) in [
            ("pod.namespace", &namespace, is_label(&namespace)),
            ("pod.name", &name, is_subdomain(&name)),
        ] {
            if !fits {
                return Err(UnfitName {
                    field,
                    value: cut(value, 80).into_owned(),
                });
            }
        }
        Ok(Self {
            namespace,
            name,
            uid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_whose_name_is_a_path_is_not_read() {
        let read = |namespace: &str, name: &str| {
            let pod = serde_json::json!({"namespace": namespace, "name": name, "uid": "u-1"});
            serde_json::from_value::<PodId>(pod)
        };
        assert_eq!(read("shop", "cart.v1").unwrap().to_string(), "shop/cart.v1");
        for (namespace, name, field) in [
            ("shop", "cart/status", "pod.name"),
            ("shop", "../..", "pod.name"),
            ("shop/pods/x", "cart", "pod.namespace"),
            ("..", "cart", "pod.namespace"),
            ("", "cart", "pod.namespace"),
        ] {
            let error = read(namespace, name).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(
            read("shop", &"/".repeat(10_000))
                .unwrap_err()
                .to_string()
                .len()
                < 400
        );
    }
}
