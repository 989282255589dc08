//! Pods, read with no more of their spec and status than is shown.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource,
    api::ApiResource,
    core::{DynamicResourceScope, Object},
};
use serde::{Deserialize, Serialize};

/// Of a pod's spec what is shown.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Placement {
    #[serde(default)]
    pub(crate) node_name: Option<String>,
}

/// Of a pod's status what is shown.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Progress {
    #[serde(default)]
    pub(crate) phase: Option<String>,
}

pub(crate) type PlacedPod = Object<Placement, Progress>;

/// The pods of a namespace, or of all.
pub(crate) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
    let pods = ApiResource::erase::<Pod>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &pods),
        None => Api::all_with(client.clone(), &pods),
    }
}
