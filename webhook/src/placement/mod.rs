//! Where a pod is and what it consists of.
//!
//! Owns the one read of the pod that an admission needs, the little of a pod that is kept of it, and
//! the rules by which a container is found. Which agent is on a node is for [`crate::placement::agents`].

pub mod agents;

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{Ending, PodId, names};
use k8s_openapi::{api::core::v1::Pod as FullPod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, Resource};
use serde::{Deserialize, Serialize};

use curfew_runtime::{api, error_chain};

/// As much of a pod as matters here.
#[derive(Debug, Clone, Default, Resource, Serialize, Deserialize)]
#[resource(inherit = "FullPod")]
pub struct Pod {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its specification.
    #[serde(default)]
    pub spec: Spec,
    /// Its status.
    #[serde(default)]
    pub status: Status,
}

/// As much of a pod's status as matters here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    phase: Option<String>,
}

/// As much of a pod's specification as matters here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The node; none before the pod is scheduled.
    pub node_name: Option<String>,
    /// Its priority; none before admission plugins have set it.
    pub priority: Option<i32>,
    containers: Vec<Named>,
    init_containers: Vec<Named>,
    ephemeral_containers: Vec<Named>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    name: String,
}

/// What tells the pod with this metadata apart from all other pods.
pub(crate) fn pod_id(metadata: &ObjectMeta) -> PodId {
    PodId {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// Why a pod could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PodReadError {
    /// The API server does not let this webhook read pods any more, which means that Curfew is being
    /// removed.
    #[error("{0}")]
    Unauthorised(String),
    /// Any other reason.
    #[error("{0}")]
    Failed(String),
}

impl Pod {
    /// What tells it apart from all other pods.
    pub fn id(&self) -> PodId {
        pod_id(&self.metadata)
    }

    /// Its annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.metadata.annotations.clone().unwrap_or_default()
    }

    /// The node that it is on, if it is on one.
    pub fn node(&self) -> Option<&str> {
        self.spec
            .node_name
            .as_deref()
            .filter(|node| !node.is_empty())
    }

    /// How it ends, or has ended, without being evicted.
    pub fn ending(&self) -> Option<Ending> {
        let terminating = self.metadata.deletion_timestamp.is_some();
        Ending::of(terminating, self.status.phase.as_deref())
    }

    /// Whether it has a container of this name, of whichever sort.
    pub fn has_container(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    fn named(&self, name: &str) -> Option<&str> {
        let Spec {
            containers,
            init_containers,
            ephemeral_containers,
            ..
        } = &self.spec;
        [containers, init_containers, ephemeral_containers]
            .into_iter()
            .flatten()
            .map(|container| container.name.as_str())
            .find(|known| *known == name)
    }

    /// The container that the API server will take for a request that asks for this one, or for none.
    /// None means that it will refuse: there is no such container, or it would have to be named.
    pub fn container(&self, asked: Option<&str>) -> Option<&str> {
        match (asked, self.spec.containers.as_slice()) {
            (Some(asked), _) => self.named(asked),
            // The annotation that names a default container is for kubectl alone.
            (None, [only]) => Some(&only.name),
            (None, _) => None,
        }
    }
}

/// The name of a pod that there can be. It is the only way to read one: a name that is none might make
/// another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodName<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl<'a> PodName<'a> {
    /// This pod of this namespace, if there can be one.
    pub fn new(namespace: &'a str, name: &'a str) -> Option<Self> {
        let can_exist = names::is_label(namespace) && names::is_subdomain(name);
        can_exist.then_some(Self { namespace, name })
    }
}

/// Reads a pod as it is now; none when there is none. No resource version is given, so the answer is
/// not from a cache that may not know the pod yet.
///
/// # Errors
/// When the API server does not answer, or not with that pod.
pub async fn find(
    client: &Client,
    pod: PodName<'_>,
    within: Duration,
) -> Result<Option<Pod>, PodReadError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.namespace);
    match api::within(within, pods.get(pod.name)).await {
        Ok(found) => {
            let id = found.id();
            // Its names become paths, too.
            match id.namespace == pod.namespace && id.name == pod.name && !id.uid.is_empty() {
                true => Ok(Some(found)),
                false => Err(PodReadError::Failed(
                    "the API server answered with another object".to_owned(),
                )),
            }
        }
        Err(error) if error_chain::code(&error) == Some(404) => Ok(None),
        Err(error) if error_chain::unauthorised(&error) => {
            Err(PodReadError::Unauthorised(error_chain::short(&error)))
        }
        Err(error) => Err(PodReadError::Failed(error_chain::short(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str]) -> Pod {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|name| Named {
                    name: (*name).to_owned(),
                })
                .collect()
        };
        Pod {
            spec: Spec {
                node_name: None,
                priority: None,
                containers: named(containers),
                init_containers: named(&["init"]),
                ephemeral_containers: named(&["debugger-1"]),
            },
            ..Pod::default()
        }
    }

    #[test]
    fn containers_are_found_as_the_api_server_finds_them() {
        let one = pod(&["app"]);
        assert_eq!(one.container(None), Some("app"));
        assert_eq!(one.container(Some("app")), Some("app"));
        assert_eq!(one.container(Some("init")), Some("init"));
        assert_eq!(one.container(Some("debugger-1")), Some("debugger-1"));
        assert_eq!(one.container(Some("else")), None);
        let two = pod(&["app", "sidecar"]);
        assert_eq!(two.container(None), None);
        assert_eq!(two.container(Some("sidecar")), Some("sidecar"));
    }

    #[test]
    fn names_that_no_pod_can_have_are_known() {
        assert!(PodName::new("shop", "cart-1").is_some());
        assert!(PodName::new("shop", "cart.v1").is_some());
        for (namespace, name) in [
            ("", "cart"),
            ("shop", ""),
            ("shop", "cart/exec"),
            ("shop", "../nodes"),
            ("sh.op", "cart"),
            ("..", "cart"),
        ] {
            assert!(
                PodName::new(namespace, name).is_none(),
                "{namespace}/{name}"
            );
        }
    }
}
