//! The way to the API server, as kubectl finds it.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::PostParams,
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

/// Somebody, as the API server authenticates them.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        Self::with(target, Some(READ_TIMEOUT)).await
    }

    /// One on which the API server may be silent for as long as nothing happens.
    pub(crate) async fn open_to_watch(target: &Target) -> anyhow::Result<Self> {
        Self::with(target, None).await
    }

    async fn with(target: &Target, read_timeout: Option<Duration>) -> anyhow::Result<Self> {
        let mut config = configuration(target).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = read_timeout;
        if target.impersonate.is_some() {
            config.auth_info.impersonate = target.impersonate.clone();
            config.auth_info.impersonate_groups =
                Some(target.groups.clone()).filter(|groups| !groups.is_empty());
        }
        let namespace = target
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            namespace,
        })
    }

    /// As whom the API server knows the user, or the one who is impersonated.
    pub(crate) async fn user(&self) -> anyhow::Result<User> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .context("the API server does not say who you are")?;
        let user = review.status.and_then(|status| status.user_info);
        let name = user.as_ref().and_then(|user| user.username.clone());
        Ok(User {
            name: name.context("the API server does not say who you are")?,
            groups: user.and_then(|user| user.groups).unwrap_or_default(),
        })
    }
}

async fn configuration(target: &Target) -> anyhow::Result<Config> {
    let options = KubeConfigOptions {
        context: target.context.clone(),
        cluster: target.cluster.clone(),
        user: target.user.clone(),
    };
    let named = [&options.context, &options.cluster, &options.user];
    if target.kubeconfig.is_none() && named.iter().all(|name| name.is_none()) {
        // This one falls back to the ServiceAccount of the pod that it runs in.
        return Config::infer().await.context("no cluster is configured");
    }
    let file = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }?;
    Ok(Config::from_custom_kubeconfig(file, &options).await?)
}
