//! Speaks to the webhook's port directly, as anybody on the cluster's network could.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::{Request, header::CONTENT_TYPE};
use kube::{Client, Config, client::Body};
use tokio::time::timeout;

use crate::TestCluster;

const ADMISSION_PORT: u16 = 8443;
/// The API server waits this long.
const LIMIT: Duration = Duration::from_secs(5);

/// One replica of the webhook.
#[derive(Clone)]
pub struct Replica {
    client: Client,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

impl Replica {
    /// Any of those that run.
    pub async fn any(cluster: &TestCluster) -> Result<Self> {
        let pods = cluster.pods_of("webhook").await?;
        let ip = pods
            .iter()
            .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .context("no replica of the webhook runs")?;
        let mut config = Config::new(format!("https://{ip}:{ADMISSION_PORT}").parse()?);
        // Whom the certificate names is for the API server to check; here it is about what is served.
        config.accept_invalid_certs = true;
        config.default_retry = false;
        config.connect_timeout = Some(LIMIT);
        Ok(Self {
            client: Client::try_from(config)?,
        })
    }

    /// Posts a body to the endpoint for interactions.
    pub async fn post(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
        let began = Instant::now();
        let request = Request::post("/admit/interaction")
            .header(CONTENT_TYPE, content_type)
            .body(Body::from(body.into()))?;
        let answered = async {
            let answer = self.client.send(request).await?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8(body.to_vec())?))
        };
        let (status, body) = timeout(LIMIT, answered)
            .await
            .context("the webhook does not answer")??;
        Ok(Answer {
            status,
            body,
            took: began.elapsed(),
        })
    }
}
