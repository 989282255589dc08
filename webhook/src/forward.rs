//! Telling the agent of the pod's node.
//!
//! Owns the connections to the agents and the time that all of it may take. An agent's good answer
//! means that the interaction is on its disk. What to do without one is for [`crate::recording`].

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use curfew_core::{Notice, Receipt, notice, text::cut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;

use curfew_runtime::explain;

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 * 1024;

/// Connections that are not used for so long are closed: the agents idle far longer before they do.
const IDLE: Duration = Duration::from_secs(60);

/// Why an agent could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Connection(String),
    /// It answered that it did not take the notice.
    #[error("answered with status {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, cut.
        text: String,
    },
    /// It answered something that is no receipt.
    #[error("answered with no receipt: {0}")]
    Answer(serde_json::Error),
}

/// Tells agents.
#[derive(Debug, Clone)]
pub struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
    within: Duration,
}

impl Forwarder {
    /// One that gives an agent so much time, connecting included.
    pub fn new(within: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(within));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, within }
    }

    /// Tells the agent all these interactions with one pod, each with the time at which it is sent, and
    /// returns its last receipt; none when there was nothing to tell.
    ///
    /// # Errors
    /// When the agent does not say of each that it was stored. Some may have been; recording them
    /// again elsewhere does no harm.
    pub async fn tell(
        &self,
        agent: SocketAddr,
        notices: Vec<Notice>,
    ) -> Result<Option<Receipt>, Failure> {
        let telling = async {
            let mut last = None;
            for mut notice in notices {
                notice.sent = Some(Timestamp::now());
                last = Some(self.post(agent, &notice).await?);
            }
            Ok(last)
        };
        match tokio::time::timeout(self.within, telling).await {
            Ok(told) => told,
            Err(_) => Err(Failure::Late(self.within)),
        }
    }

    async fn post(&self, agent: SocketAddr, notice: &Notice) -> Result<Receipt, Failure> {
        let broken = |error: &dyn std::error::Error| Failure::Connection(explain::causes(error));
        let body = serde_json::to_vec(notice).map_err(Failure::Answer)?;
        let request = axum::http::Request::post(format!("http://{agent}{}", notice::PATH))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let response = self
            .client
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
            return Err(Failure::Refused {
                status: status.as_u16(),
                text: cut(String::from_utf8_lossy(&answer).trim(), 200).into_owned(),
            });
        }
        serde_json::from_slice(&answer).map_err(Failure::Answer)
    }
}
