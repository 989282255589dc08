//! As whom the agent reads and evicts the pods of its node.
//!
//! If the API server allows it (constrained impersonation, KEP-5284), the agent does this as the node that it runs
//! on. The node authorizer and NodeRestriction then restrict the agent to the pods of that node, as they restrict the
//! kubelet. API servers before 1.36 do not support this, and an administrator can turn it off in later ones. The
//! agent then uses its own account, which needs the rights of a second ClusterRole.
//!
//! Owns this decision. [`NodeUser::decide`] makes it by sending the same request as the node and as the agent's own
//! account. It makes the decision again when the API server refuses a request. Requests that are sent by
//! [`NodeUser::client`] wait for the first decision.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context;
use curfew_runtime::{api, error_chain};
use http::{HeaderName, HeaderValue, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Error, Resource,
    api::ListParams,
    client::Body,
    core::{ObjectList, PartialObjectMeta, Request, request},
};
use prometheus::IntGauge;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};
use tower::BoxError;

/// The header that says as whom a request is meant.
pub(crate) const AS_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// The ClusterRole with which the agent acts as its node.
const ROLE: &str = "curfew-agent";

/// The ClusterRole with which the agent's own account reads and evicts pods.
const LEGACY_ROLE: &str = "curfew-agent-legacy";

/// The first pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause while neither way works. An API server that has just started refuses everything until it has
/// read its roles.
const REFUSED: Duration = Duration::from_secs(5);

/// The longest pause while the agent uses its own account. The API server may be upgraded.
const OWN_ACCOUNT: Duration = Duration::from_secs(600);

/// The shortest pause between two tries that refused requests cause.
const DOUBT: Duration = Duration::from_secs(5);

/// How often the log says that neither way works.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Neither the node nor the agent's own account may read the pods.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the API server refuses to show the pods of this node; check the ClusterRole {ROLE}, before Kubernetes 1.36 also \
     {LEGACY_ROLE}, and their bindings: {0}"
)]
pub(crate) struct PodsForbidden(Arc<str>);

/// What is known so far.
#[derive(Debug, Clone)]
enum Decision {
    Pending,
    AsNode(HeaderValue),
    AsItself,
    Neither(PodsForbidden),
}

#[derive(Debug)]
struct SharedDecision {
    decision: watch::Sender<Decision>,
    doubts: Notify,
}

/// The user that the agent acts as. Clones share the decision.
#[derive(Debug, Clone)]
pub(crate) struct NodeUser(Arc<SharedDecision>);

impl NodeUser {
    /// The user before it is decided.
    pub(crate) fn pending() -> Self {
        Self::new(Decision::Pending)
    }

    fn new(decision: Decision) -> Self {
        Self(Arc::new(SharedDecision {
            decision: watch::Sender::new(decision),
            doubts: Notify::new(),
        }))
    }

    /// The value of [`AS_USER`], or none if the agent uses its own account. Waits for the first decision.
    ///
    /// # Errors
    /// When the API server refuses both.
    pub(crate) async fn get(&self) -> Result<Option<HeaderValue>, PodsForbidden> {
        let mut decisions = self.0.decision.subscribe();
        loop {
            match &*decisions.borrow_and_update() {
                Decision::Pending => {}
                Decision::AsNode(user) => return Ok(Some(user.clone())),
                Decision::AsItself => return Ok(None),
                Decision::Neither(refused) => return Err(refused.clone()),
            }
            // The sender lives as long as this.
            let _ = decisions.changed().await;
        }
    }

    /// A client whose requests are sent as the decided user.
    pub(crate) fn client(&self, client: Client) -> Client {
        let (this, namespace) = (self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            let (this, client) = (this.clone(), client.clone());
            async move {
                if let Some(user) = this.get().await? {
                    request.headers_mut().insert(AS_USER, user);
                }
                let response = client.send(request).await?;
                if response.status() == StatusCode::FORBIDDEN {
                    this.0.doubts.notify_one();
                }
                Ok::<_, BoxError>(response)
            }
        });
        Client::new(service, namespace)
    }

    /// Decides, and decides again when the API server refuses a request. Lists the agent's own pod for this: a list
    /// is allowed whether or not the node authorizer knows the pod already.
    ///
    /// # Errors
    /// When such a request cannot be made for a pod or node of this name.
    pub(crate) async fn decide(
        self,
        client: Client,
        node: String,
        (namespace, pod): (String, String),
        acts_as_node: IntGauge,
    ) -> anyhow::Result<Infallible> {
        let user = user_of(&node)?;
        let trial = Trial {
            client,
            node,
            namespace,
            pod,
        };
        let mut told = None;
        let mut pauses = 0_u32;
        loop {
            let mut longest = Some(REFUSED);
            match trial.run(&user).await? {
                Allowed::AsNode => {
                    acts_as_node.set(1);
                    if self.change(Decision::AsNode(user.clone())) {
                        tracing::info!(
                            node = trial.node,
                            "the agent reads and evicts pods as its node"
                        );
                    }
                    (told, pauses, longest) = (None, 0, None);
                }
                Allowed::AsItself { refusal } => {
                    acts_as_node.set(0);
                    if self.change(Decision::AsItself) {
                        tracing::info!(
                            node = trial.node,
                            answer = refusal,
                            "the API server does not let the agent act as its node; the agent reads and evicts pods \
                             as its own account, which requires the webhook with --eviction-guard"
                        );
                        pauses = 0;
                    }
                    (told, longest) = (None, Some(OWN_ACCOUNT));
                }
                Allowed::Neither { refusal, own } => {
                    let now = Instant::now();
                    if told.is_none_or(|told: Instant| now >= told + TELL_AGAIN) {
                        tracing::warn!(
                            node = trial.node,
                            as_node = refusal,
                            as_own_account = own,
                            "the API server refuses to show the pods of this node, both to the node and to the \
                             agent's own account; check the ClusterRole {ROLE}, before Kubernetes 1.36 also \
                             {LEGACY_ROLE}, and their bindings; retrying"
                        );
                        told = Some(now);
                    }
                    self.forbidden(&refusal);
                }
                Allowed::Unanswered(error) => tracing::debug!(
                    node = trial.node,
                    error,
                    "cannot find out yet as whom the agent may read pods; retrying"
                ),
            }
            let pause =
                longest.map(|longest| PAUSE.saturating_mul(1 << pauses.min(16)).min(longest));
            pauses += 1;
            self.pause(pause).await;
        }
    }

    /// Returns whether the decision is another one than before.
    fn change(&self, decision: Decision) -> bool {
        self.0.decision.send_if_modified(|before| {
            let same = matches!(
                (&*before, &decision),
                (Decision::AsNode(_), Decision::AsNode(_))
                    | (Decision::AsItself, Decision::AsItself)
            );
            *before = decision;
            !same
        })
    }

    /// Neither works. A decision that was made before stands: requests are refused, and work again when the API
    /// server has its roles.
    fn forbidden(&self, why: &str) {
        self.0.decision.send_if_modified(|before| {
            let undecided = matches!(before, Decision::Pending | Decision::Neither(_));
            if undecided {
                *before = Decision::Neither(PodsForbidden(why.into()));
            }
            undecided
        });
    }

    /// Waits until the next try: for this time, or until a request is refused.
    async fn pause(&self, pause: Option<Duration>) {
        let begun = Instant::now();
        let doubts = async {
            self.0.doubts.notified().await;
            sleep_until(begun + DOUBT).await;
        };
        tokio::select! {
            () = sleep(pause.unwrap_or(Duration::MAX)) => {}
            () = doubts => {}
        }
    }
}

/// What the API server allows.
enum Allowed {
    AsNode,
    /// The agent's own account, and not the node.
    AsItself {
        refusal: String,
    },
    /// Neither the node nor the agent's own account.
    Neither {
        refusal: String,
        own: String,
    },
    /// It did not answer, or said something else.
    Unanswered(String),
}

/// A request that shows what the API server allows.
struct Trial {
    client: Client,
    node: String,
    namespace: String,
    pod: String,
}

impl Trial {
    async fn run(&self, user: &HeaderValue) -> anyhow::Result<Allowed> {
        let refusal = match self.ask(Some(user)).await? {
            Ok(()) => return Ok(Allowed::AsNode),
            Err(Error::Api(status)) if status.code == 403 => status.message.clone(),
            Err(error) => return Ok(Allowed::Unanswered(error_chain::short(&error))),
        };
        Ok(match self.ask(None).await? {
            Ok(()) => Allowed::AsItself { refusal },
            Err(Error::Api(status)) if status.code == 403 => Allowed::Neither {
                refusal,
                own: status.message.clone(),
            },
            Err(error) => Allowed::Unanswered(error_chain::short(&error)),
        })
    }

    async fn ask(&self, user: Option<&HeaderValue>) -> anyhow::Result<kube::Result<()>> {
        let mut request = list_metadata(&self.namespace, &one_of(&self.node, &self.pod))
            .with_context(|| format!("--pod-name: {:?} is not the name of a pod", self.pod))?;
        if let Some(user) = user {
            request.headers_mut().insert(AS_USER, user.clone());
        }
        let listed = self
            .client
            .request::<ObjectList<PartialObjectMeta<Pod>>>(request);
        Ok(api::call(listed).await.map(drop))
    }
}

fn list_metadata(
    namespace: &str,
    which: &ListParams,
) -> Result<http::Request<Vec<u8>>, request::Error> {
    Request::new(Pod::url_path(&(), Some(namespace))).list_metadata(which)
}

/// Selects one pod of the node by its name. A node may list only what it selects by its own name.
pub(super) fn one_of(node: &str, pod: &str) -> ListParams {
    ListParams::default().fields(&format!("metadata.name={pod},spec.nodeName={node}"))
}

/// The user that a node is.
fn user_of(node: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::try_from(format!("system:node:{node}"))
        .with_context(|| format!("--node-name: {node:?} is not the name of a node"))
}

#[cfg(test)]
mod tests;
