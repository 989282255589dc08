//! The client of the API server.

use std::time::Duration;

use anyhow::Context;
use kube::{Client, Config, client::ClientBuilder};
use tower::timeout::TimeoutLayer;

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may take until it begins to answer, whatever it is asked: longer than an
/// eviction may take, which is the slowest. The calls have their own limits; this one is for watches, which
/// have none for their beginning and would hang for as long as the connection does.
const PATIENCE: Duration = Duration::from_secs(40);

/// The limit of all requests' beginning, as a layer of the client.
pub fn patience() -> TimeoutLayer {
    TimeoutLayer::new(PATIENCE)
}

/// A client with the configuration of the process (its ServiceAccount in a cluster, a kubeconfig
/// elsewhere).
///
/// The client's own retry is off: it would hide for minutes that an eviction is refused or that
/// the API server throttles. Whoever calls decides, and gives each call its own time limit.
///
/// # Errors
/// When there is neither a ServiceAccount nor a kubeconfig that can be read.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("found no way to reach the API server")?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let builder =
        ClientBuilder::try_from(config).context("cannot build a client of the API server")?;
    Ok(builder.with_layer(&patience()).build())
}
