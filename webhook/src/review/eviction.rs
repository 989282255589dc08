//! Reading the AdmissionReviews of evictions.

use curfew_core::{Overrides, text::cut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Review, Unfit, Unreadable, identify, of_pods, part, value};

/// No UID of a pod and no name of a node is longer. What was cut equals none.
const MAX_ID: usize = 253;

/// Somebody wants to evict a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The pod's namespace, as the request says.
    pub namespace: String,
    /// The pod's name, as the request says.
    pub name: String,
    /// The nodes that the caller's token is bound to, as the API server has it from the token: one,
    /// when it is the token of a pod. Each of bounded length.
    pub nodes: Vec<String>,
    /// The UID that the pod must have, if the request says it; of bounded length.
    pub uid: Option<String>,
    /// What the caller knows of people's overrides for the pod, if the request says it.
    pub seen: Option<Overrides>,
}

#[derive(Default, Deserialize)]
struct Extra {
    #[serde(rename = "authentication.kubernetes.io/node-name", default)]
    nodes: Option<Vec<String>>,
}

/// What a `policy/v1` Eviction says of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    delete_options: Option<DeleteOptions>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "curfew.dev/seen-wishes", default)]
    seen: Option<String>,
}

#[derive(Deserialize)]
struct DeleteOptions {
    #[serde(default)]
    preconditions: Option<Preconditions>,
}

#[derive(Deserialize)]
struct Preconditions {
    #[serde(default)]
    uid: Option<String>,
}

/// Reads a review of an eviction.
///
/// # Errors
/// When it cannot even be answered with a review.
pub fn read(body: &[u8]) -> Result<Review<Eviction>, Unreadable> {
    let (uid, raw) = identify(body)?;
    Ok(Review {
        uid,
        request: eviction(raw),
    })
}

fn eviction(raw: &RawValue) -> Result<Eviction, Unfit> {
    let fields: Fields<'_> = part("request", raw)?;
    of_pods(&fields.resource)?;
    if fields.sub_resource != "eviction" {
        let expected = "it must be eviction";
        return Err(value("request.subResource", &fields.sub_resource, expected));
    }
    if fields.operation != "CREATE" {
        let expected = "it must be CREATE";
        return Err(value("request.operation", &fields.operation, expected));
    }
    let extra = match fields.user_info.extra {
        Some(extra) => part("request.userInfo.extra", extra)?,
        None => Extra::default(),
    };
    let object = fields.object.ok_or(Unfit::Missing("request.object"))?;
    let object: Object = part("request.object", object)?;
    let seen = object.metadata.annotations;
    // One that cannot be read says nothing.
    let seen = seen.and_then(|annotations| serde_json::from_str(&annotations.seen?).ok());
    let uid = object
        .delete_options
        .and_then(|options| options.preconditions?.uid)
        // To the API server, the empty one is none.
        .filter(|uid| !uid.is_empty());
    let bounded = |text: String| cut(&text, MAX_ID).into_owned();
    Ok(Eviction {
        // The API server sees to it that the object names the same pod.
        namespace: fields.namespace,
        name: fields.name,
        nodes: extra
            .nodes
            .unwrap_or_default()
            .into_iter()
            .map(bounded)
            .collect(),
        uid: uid.map(bounded),
        seen,
    })
}
