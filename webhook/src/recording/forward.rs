//! Sends a notice to the agent of the pod's node.
//!
//! Owns the connections to the agents and the time limit for a notice. If the agent answers with success, the
//! interaction is on its disk. [`crate::recording`] decides what to do otherwise.
//!
//! The address of an agent comes from an EndpointSlice. Anyone who can create pods with the labels of the agents can
//! get into it. So the webhook sends a notice only if the certificate at that address names the node.

mod unreachable;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use curfew_core::{Notice, Receipt, identity, notice, text::cut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::sync::{Semaphore, watch};

use curfew_runtime::{
    error_chain,
    tls::{Refusals, refusal},
};

use self::unreachable::Unreachable;
use crate::{identity::Identities, metrics::Noticed, placement::agents::Agents};

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 * 1024;

/// Connections that are idle for this long are closed. The agents keep idle connections open for much longer.
const IDLE: Duration = Duration::from_secs(60);

/// How many notices may be on their way to an agent, each on a connection of its own. Others wait, for as long as they
/// may take. An agent writes all that it has at once to the disk together, so more would be no faster, but each new
/// connection costs both sides a handshake, and the agent its memory.
const AT_ONCE: usize = 8;

/// Why an agent could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No agent is known there that takes notices.
    #[error("none is ready on {0}")]
    None(String),
    /// This replica cannot say yet who it is.
    #[error("this replica has no certificate yet")]
    NoIdentity,
    /// No certificate can name the agent.
    #[error("{0} is not a valid name for a certificate")]
    Name(String),
    /// It took too long.
    #[error("{0}: no answer within {1:?}")]
    Late(SocketAddr, Duration),
    /// The connection could not be made, or broke.
    #[error("{0}: {1}")]
    Connection(SocketAddr, String),
    /// It answered that it did not take the notice.
    #[error("{agent}: answered with status {status}: {text}")]
    Refused {
        /// Where it was asked.
        agent: SocketAddr,
        /// The HTTP status.
        status: u16,
        /// What it said, cut.
        text: String,
    },
    /// It answered something that is no receipt.
    #[error("{0}: the answer is not a receipt: {1}")]
    Answer(SocketAddr, serde_json::Error),
}

impl From<&ForwardError> for Noticed {
    fn from(failure: &ForwardError) -> Self {
        match failure {
            ForwardError::None(_) => Noticed::NoAgent,
            ForwardError::NoIdentity => Noticed::NoIdentity,
            ForwardError::Late(..) => Noticed::Late,
            ForwardError::Connection(..) => Noticed::Broken,
            ForwardError::Refused { .. } => Noticed::Refused,
            ForwardError::Name(_) | ForwardError::Answer(..) => Noticed::Other,
        }
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Tells agents.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds private keys")]
pub struct Forwarder {
    agents: watch::Receiver<Agents>,
    identities: Identities,
    refusals: Refusals,
    within: Duration,
    connections: Arc<Mutex<Connections>>,
    unreachable: Unreachable,
}

/// One client for each agent, so that connections are reused. An agent with a new address gets a new client. If the
/// certificate or the CA changes, all agents get new clients. The old clients finish their open requests.
#[derive(Default)]
struct Connections {
    config: Option<Arc<ClientConfig>>,
    clients: HashMap<String, AgentClient>,
}

#[derive(Clone)]
struct AgentClient {
    agent: SocketAddr,
    http: HttpClient,
    permits: Arc<Semaphore>,
}

impl Forwarder {
    /// One that finds the agents in this map, shows this identity, and gives an agent so much time,
    /// connecting included.
    pub fn new(
        agents: watch::Receiver<Agents>,
        identities: Identities,
        within: Duration,
        refusals: Refusals,
    ) -> Self {
        Self {
            agents,
            identities,
            refusals,
            within,
            connections: Arc::default(),
            unreachable: Unreachable::default(),
        }
    }

    /// Tells the agent of this node all these interactions with one pod, each with the time at which it is
    /// sent, and returns its last receipt; none when there was nothing to tell.
    ///
    /// # Errors
    /// When the agent does not say of each that it was stored. Some may have been; recording them
    /// again elsewhere does no harm.
    pub async fn tell(
        &self,
        node: &str,
        notices: Vec<Notice>,
    ) -> Result<Option<Receipt>, ForwardError> {
        let client = self.client(node)?;
        let agent = client.agent;
        let telling = async {
            // Nobody closes it.
            let _permit = client.permits.acquire().await;
            let mut last = None;
            for mut notice in notices {
                notice.sent = Some(Timestamp::now());
                last = Some(self.post(&client, &notice).await?);
            }
            Ok(last)
        };
        let told = match tokio::time::timeout(self.within, telling).await {
            Ok(told) => told,
            Err(_) => Err(ForwardError::Late(agent, self.within)),
        };
        match &told {
            Ok(_) => self.unreachable.told(node),
            Err(_) => self
                .unreachable
                .failed(node, agent, &self.agents.borrow().clone()),
        }
        told
    }

    /// How many of the agents that are known could not be told the last time.
    pub fn unreachable(&self) -> usize {
        self.unreachable.count(&self.agents.borrow())
    }

    /// Where the agent of this node is, and how it is called.
    fn client(&self, node: &str) -> Result<AgentClient, ForwardError> {
        let config = self
            .identities
            .borrow()
            .as_ref()
            .map(|identity| identity.calling.clone());
        let config = config.ok_or(ForwardError::NoIdentity)?;
        let agents = self.agents.borrow().clone();
        let agent = agents.get(node).copied();
        let agent = agent.ok_or_else(|| ForwardError::None(node.to_owned()))?;
        // Held by nobody that can panic; and what is in it could be thrown away at any time.
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !connections
            .config
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &config))
        {
            *connections = Connections {
                config: Some(config.clone()),
                clients: HashMap::new(),
            };
        }
        if let Some(client) = connections.clients.get(node)
            && client.agent == agent
        {
            return Ok(client.clone());
        }
        // Nodes come and go.
        connections
            .clients
            .retain(|node, _| agents.contains_key(node));
        let client = AgentClient {
            agent,
            http: self.connect(node, &config)?,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        };
        connections.clients.insert(node.to_owned(), client.clone());
        Ok(client)
    }

    fn connect(&self, node: &str, config: &Arc<ClientConfig>) -> Result<HttpClient, ForwardError> {
        let name = identity::agent(node);
        let name = ServerName::try_from(name.clone()).map_err(|_| ForwardError::Name(name))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.within));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(config))
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(name))
            .enable_http1()
            .wrap_connector(connector);
        Ok(Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector))
    }

    async fn post(&self, client: &AgentClient, notice: &Notice) -> Result<Receipt, ForwardError> {
        let agent = client.agent;
        let broken = |error: &(dyn std::error::Error + 'static)| {
            if let Some(refusal) = refusal(error) {
                self.refusals.count(refusal);
            }
            ForwardError::Connection(agent, error_chain::causes(error))
        };
        let body =
            serde_json::to_vec(notice).map_err(|error| ForwardError::Answer(agent, error))?;
        let request = axum::http::Request::post(format!("https://{agent}{}", notice::PATH))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let response = client
            .http
            .request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| broken(error.as_ref()))?
            .to_bytes();
        if !status.is_success() {
            return Err(ForwardError::Refused {
                agent,
                status: status.as_u16(),
                text: cut(String::from_utf8_lossy(&answer).trim(), 200).into_owned(),
            });
        }
        serde_json::from_slice(&answer).map_err(|error| ForwardError::Answer(agent, error))
    }
}
