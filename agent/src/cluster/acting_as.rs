//! Whether the API server lets the agent act as the node that it runs on (constrained impersonation, KEP-5284). If
//! it does, the node authorizer and NodeRestriction restrict the agent to the pods of that node, as they restrict
//! the kubelet.
//!
//! Owns the user that the agent sends evictions as. The agent sends a request as the node to find out whether this
//! works: API servers before 1.36 do not support it, and an administrator can turn it off in later ones.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use curfew_runtime::{api, error_chain};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Error, Resource,
    api::GetParams,
    core::{PartialObjectMeta, Request, request},
};
use prometheus::IntGauge;
use tokio::time::sleep;

/// The header that says as whom a request is meant.
pub(crate) const AS_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// How long to wait before the next try if the API server did not answer.
const RETRY: Duration = Duration::from_secs(5);

/// How long to wait before the next try if the API server refused. It may be upgraded, or may not have read its
/// roles yet.
const RETRY_REFUSED: Duration = Duration::from_secs(600);

/// The user that the agent acts as where the API server lets it. Cloning is cheap; all clones learn of it together.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeUser(Arc<OnceLock<HeaderValue>>);

impl NodeUser {
    /// The value of [`AS_USER`]; none where the agent acts as its own account.
    pub(crate) fn get(&self) -> Option<&HeaderValue> {
        self.0.get()
    }

    /// That of this node, which the API server is known to allow.
    #[cfg(test)]
    pub(crate) fn known(node: &str) -> Self {
        Self(Arc::new(user_of(node).unwrap().into()))
    }

    /// Asks for the agent's own pod as the node until the API server shows it.
    ///
    /// # Errors
    /// When such a request cannot be made for a pod or node of this name.
    pub(crate) async fn find_out(
        self,
        client: Client,
        node: String,
        (namespace, pod): (String, String),
        works: IntGauge,
    ) -> anyhow::Result<Infallible> {
        let user = user_of(&node)?;
        loop {
            let request = read_pod(&user, &namespace, &pod)
                .with_context(|| format!("--pod-name: {pod:?} is not the name of a pod"))?;
            let found = client.request::<PartialObjectMeta<Pod>>(request);
            let again = match api::call(found).await {
                Ok(_) => break,
                Err(Error::Api(status)) if status.code == 403 || status.code == 404 => {
                    tracing::info!(
                        node,
                        answer = status.message,
                        "the API server does not let the agent act as its node; the agent evicts as its own account, \
                         which requires the webhook"
                    );
                    RETRY_REFUSED
                }
                Err(error) => {
                    tracing::debug!(
                        node,
                        error = error_chain::short(&error),
                        "cannot find out yet whether the API server lets the agent act as its node; retrying"
                    );
                    RETRY
                }
            };
            sleep(again).await;
        }
        tracing::info!(node, "the agent evicts as its node");
        works.set(1);
        // Nobody else sets it.
        let _ = self.0.set(user);
        pending().await
    }
}

/// The request for the metadata of a pod, made as this user.
pub(super) fn read_pod(
    user: &HeaderValue,
    namespace: &str,
    name: &str,
) -> Result<http::Request<Vec<u8>>, request::Error> {
    let mut request = Request::new(Pod::url_path(&(), Some(namespace)))
        .get_metadata(name, &GetParams::default())?;
    request.headers_mut().insert(AS_USER, user.clone());
    Ok(request)
}

/// The user that a node is.
fn user_of(node: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::try_from(format!("system:node:{node}"))
        .with_context(|| format!("--node-name: {node:?} is not the name of a node"))
}

#[cfg(test)]
mod tests {
    use curfew_runtime::reach::Reachability;

    use super::*;
    use crate::testing::{
        api::{Answer, client},
        stage::{NODE, Stage},
    };

    fn find_out(stage: &Stage, works: &IntGauge) -> NodeUser {
        let user = NodeUser::default();
        let own = ("curfew".to_owned(), "curfew-agent-x".to_owned());
        let client = client(&stage.api, &Reachability::default());
        let found = user
            .clone()
            .find_out(client, NODE.to_owned(), own, works.clone());
        tokio::spawn(found);
        user
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_until_the_server_can_do_it() {
        let stage = Stage::set(1);
        stage.api.script(|_| Answer::broken());
        let works = IntGauge::new("works", "for the test").unwrap();
        let user = find_out(&stage, &works);
        sleep(RETRY).await;
        assert_eq!(user.get(), None);

        stage
            .api
            .script(|_| Answer::status(403, "cannot impersonate"));
        sleep(RETRY * 2).await;
        assert_eq!((user.get(), works.get()), (None, 0));
        let asked = stage.api.asked().len();

        stage
            .api
            .script(|_| Answer::raw(200, r#"{"metadata": {"name": "curfew-agent-x"}}"#));
        sleep(RETRY_REFUSED / 2).await;
        assert_eq!(
            stage.api.asked().len(),
            asked,
            "it is not asked again and again"
        );
        sleep(RETRY_REFUSED).await;
        assert_eq!(user.get().unwrap(), "system:node:node-1");
        assert_eq!(works.get(), 1);
    }
}
