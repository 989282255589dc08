//! The client of the API server.

use std::time::Duration;

use anyhow::Context;
use kube::{Client, Config};

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    Client::try_from(config).context("cannot build a client of the API server")
}
