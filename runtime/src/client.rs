//! The client of the API server.
//!
//! Owns how it connects and how much it buffers. How long a call may take is in [`crate::api`], and whether calls are
//! answered in [`crate::reach`].

use std::time::Duration;

use anyhow::{Context, ensure};
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
};
use tower::{
    BoxError, ServiceBuilder,
    timeout::{Timeout, TimeoutLayer},
    util::BoxCloneSyncService,
};

use crate::reach::Reachability;

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may take until it begins to answer, whatever it is asked: longer than an
/// eviction may take, which is the slowest. The calls have their own limits; this one is for watches, which
/// have none for their beginning and would hang for as long as the connection does.
const PATIENCE: Duration = Duration::from_secs(40);

/// How much is read from a connection at once, and how long the head of an answer may be. By default this grows
/// to 400 KiB twice while a whole node's pods are listed, and what it grew to stays.
const READ_BUFFER: usize = 32 * 1024;

/// The limit of all requests' beginning, as a layer of the client.
pub fn patience() -> TimeoutLayer {
    TimeoutLayer::new(PATIENCE)
}

/// A client with the configuration of the process (its ServiceAccount in a cluster, a kubeconfig
/// elsewhere).
///
/// It does not retry by itself: that would hide for minutes that an eviction is refused or that
/// the API server throttles. Whoever calls decides, and gives each call its own time limit. Whether it is
/// answered is told to `reach`.
///
/// # Errors
/// When there is neither a ServiceAccount nor a kubeconfig that can be read.
pub async fn connect(reach: &Reachability) -> anyhow::Result<Client> {
    let config = Config::infer()
        .await
        .context("found no configuration for the API server")?;
    build(config, reach).context("cannot build a client of the API server")
}

/// What kube builds by itself has no limit of its buffers.
fn build(config: Config, reach: &Reachability) -> anyhow::Result<Client> {
    ensure!(
        config.proxy_url.is_none(),
        "the API server is only reached without a proxy"
    );
    let connector = Timeout::new(config.rustls_https_connector()?, CONNECT_TIMEOUT);
    let http = legacy::Builder::new(TokioExecutor::new())
        .http1_max_buf_size(READ_BUFFER)
        .build(BoxCloneSyncService::new(connector));
    let service = ServiceBuilder::new()
        .layer(reach.layer())
        .layer(patience())
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
