//! The way to the API server, as kubectl finds it.

use std::time::Duration;

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::cli::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer; a page of pods takes far less.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A client, and the namespace that the user means.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let mut config = configuration(target).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        let namespace = target
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            namespace,
        })
    }
}

async fn configuration(target: &Target) -> anyhow::Result<Config> {
    if target.kubeconfig.is_none() && target.context.is_none() {
        // This one falls back to the ServiceAccount of the pod that it runs in.
        return Config::infer().await.context("no cluster is configured");
    }
    let file = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }?;
    let options = KubeConfigOptions {
        context: target.context.clone(),
        ..KubeConfigOptions::default()
    };
    Ok(Config::from_custom_kubeconfig(file, &options).await?)
}
