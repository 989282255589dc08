//! Speaks to the webhook's port directly, as anybody on the cluster's network could.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, Client, Config, client::Body};
use tokio::time::timeout;

use crate::TestCluster;

const ADMISSION_PORT: u16 = 8443;
/// The API server waits this long.
const LIMIT: Duration = Duration::from_secs(5);

/// One replica of the webhook.
#[derive(Clone)]
pub struct Replica {
    client: Client,
    /// Where the API server asks about interactions.
    path: String,
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
        let address = Self::address(cluster).await?;
        Self::at(cluster, address).await
    }

    /// Where any of those that run is reached.
    pub async fn address(cluster: &TestCluster) -> Result<SocketAddr> {
        let pods = cluster.pods_of("webhook").await?;
        let ip = pods
            .iter()
            .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
            .context("no replica of the webhook runs")?;
        Ok(SocketAddr::new(ip.parse()?, ADMISSION_PORT))
    }

    /// One that is reached at this address, which may be that of somebody in between.
    pub async fn at(cluster: &TestCluster, address: SocketAddr) -> Result<Self> {
        let mut config = Config::new(format!("https://{address}").parse()?);
        // Whom the certificate names is for the API server to check; here it is about what is served.
        config.accept_invalid_certs = true;
        config.default_retry = false;
        config.connect_timeout = Some(LIMIT);
        Ok(Self {
            client: Client::try_from(config)?,
            path: path(cluster, "interaction").await?,
        })
    }

    /// Posts a body as the API server posts reviews of interactions.
    pub async fn post(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
        self.post_under(&self.path, content_type, body).await
    }

    /// Posts a body under this path.
    pub async fn post_under(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let began = Instant::now();
        let request = Request::post(path)
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

/// The path under which the API server asks this webhook of Curfew's: `interaction`, `eviction` or `probe`.
pub async fn path(cluster: &TestCluster, webhook: &str) -> Result<String> {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let configuration = all.get("curfew-webhook").await?;
    let name = format!("{webhook}.curfew.dev");
    let mut webhooks = configuration.webhooks.into_iter().flatten();
    let service = webhooks
        .find(|webhook| webhook.name == name)
        .and_then(|webhook| webhook.client_config.service);
    service
        .and_then(|service| service.path)
        .with_context(|| format!("{name} is registered without a path"))
}
