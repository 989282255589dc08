//! Reads one pod of the node as it is now.

use std::time::SystemTime;

use curfew_core::PodId;
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Error, Resource,
    api::GetParams,
    client::Body,
    core::{ObjectList, PartialObjectMeta, Request, request},
};
use serde::de::DeserializeOwned;

use super::{
    acting_as::one_of,
    evict::answer::{self, Answer},
    pod_watch::WatchedPod,
};

/// The most bytes of an answer that are read. A pod has up to 1.5 MiB, and JSON may escape each byte with six.
const MAX_ANSWER: usize = 10 * 1024 * 1024;

/// What the API server has under the name of a pod.
#[derive(Debug)]
pub(crate) enum PodRead<K> {
    /// A pod, of this UID or another.
    Found(K),
    /// None on this node.
    Nothing,
    /// The API server does not say.
    Refused(Answer),
}

/// Reads a pod of this node.
///
/// # Errors
/// When the API server does not answer, or its answer cannot be read.
pub(crate) async fn pod(
    client: &Client,
    node: &str,
    pod: &PodId,
) -> kube::Result<PodRead<WatchedPod>> {
    let pods = pods(pod);
    let get = pods.get(&pod.name, &GetParams::default());
    let read = read(client, get, pods.list(&one_of(node, &pod.name))).await?;
    Ok(match read {
        // A pod never changes its node.
        PodRead::Found(found) if !WatchedPod::is_on(&found, node) => PodRead::Nothing,
        read => read,
    })
}

/// Reads the metadata of a pod. If the client does not act as the node, it may be a pod of another one, under another UID.
///
/// # Errors
/// When the API server does not answer, or its answer cannot be read.
pub(super) async fn metadata(
    client: &Client,
    node: &str,
    pod: &PodId,
) -> kube::Result<PodRead<PartialObjectMeta<Pod>>> {
    let pods = pods(pod);
    let get = pods.get_metadata(&pod.name, &GetParams::default());
    read(client, get, pods.list_metadata(&one_of(node, &pod.name))).await
}

fn pods(pod: &PodId) -> Request {
    Request::new(Pod::url_path(&(), Some(&pod.namespace)))
}

/// Sends the first request, and the second if the first is forbidden. A node may `get` only pods that the node
/// authorizer knows. The authorizer learns of a new pod a moment after the API server has it, and forgets pods that
/// are gone. A list that selects the node shows both cases as they are.
async fn read<K: Clone + DeserializeOwned>(
    client: &Client,
    get: Result<http::Request<Vec<u8>>, request::Error>,
    list: Result<http::Request<Vec<u8>>, request::Error>,
) -> kube::Result<PodRead<K>> {
    let found = ask(client, get.map_err(Error::BuildRequest)?).await?;
    match found.code {
        200 => {
            let found = serde_json::from_slice(&found.body).map_err(Error::SerdeError)?;
            Ok(PodRead::Found(found))
        }
        404 => Ok(PodRead::Nothing),
        403 => {
            let listed = ask(client, list.map_err(Error::BuildRequest)?).await?;
            if listed.code != 200 {
                return Ok(PodRead::Refused(listed));
            }
            let listed: ObjectList<K> =
                serde_json::from_slice(&listed.body).map_err(Error::SerdeError)?;
            let first = listed.items.into_iter().next();
            Ok(first.map_or(PodRead::Nothing, PodRead::Found))
        }
        _ => Ok(PodRead::Refused(found)),
    }
}

/// The answer as it came: the client's own reading of it would lose the headers.
pub(super) async fn ask(client: &Client, request: http::Request<Vec<u8>>) -> kube::Result<Answer> {
    let response = client.send(request.map(Body::from)).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(Answer {
        code: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .and_then(|value| answer::retry_after(value.to_str().ok()?, SystemTime::now())),
        body: body.map_err(Error::Service)?.to_bytes(),
    })
}
