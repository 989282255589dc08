//! The way to the API server, as kubectl finds it.

mod credential;
mod kubeconfig;
mod proxy;
mod requests;
mod socks;

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams, client::ClientBuilder, config::AuthInfo};

pub(crate) use self::kubeconfig::read as read_kubeconfig;
use self::{credential::Credential, requests::Requests};
use crate::cluster::target::Target;

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
    pub(crate) fn open(target: &Target) -> anyhow::Result<Self> {
        let asked_for = target.request_timeout;
        let limit = asked_for.filter(|limit| !limit.is_zero());
        Self::with(
            target,
            limit,
            limit.or(asked_for.is_none().then_some(READ_TIMEOUT)),
        )
    }

    /// One on which the API server may be silent for as long as nothing happens.
    pub(crate) fn open_to_watch(target: &Target) -> anyhow::Result<Self> {
        let limit = target.request_timeout.filter(|limit| !limit.is_zero());
        Self::with(target, limit, None)
    }

    /// `limit` is how long the API server may take to begin its answer, `silence` how long nothing may come.
    fn with(
        target: &Target,
        limit: Option<Duration>,
        silence: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let mut config = kubeconfig::configuration(target)?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = silence;
        impersonate(target, &mut config.auth_info);
        let credential = Credential::of(&mut config.auth_info)?;
        let namespace = target
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let requests = Requests::new(credential, limit, target.verbosity, &config.cluster_url);
        let proxy = config.proxy_url.as_ref().map(proxy::socks_user);
        let client = match proxy.transpose()?.flatten() {
            Some((proxy, user)) => socks::client(config, proxy, user, &requests)?,
            None => ClientBuilder::try_from(config)?
                .with_layer(&requests)
                .build(),
        };
        Ok(Self { client, namespace })
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

/// Whoever is named by flags replaces the one of the kubeconfig.
fn impersonate(target: &Target, auth: &mut AuthInfo) {
    if target.impersonate.is_none() {
        return;
    }
    let mut extra = HashMap::<_, Vec<_>>::new();
    for (key, value) in &target.extra {
        extra.entry(key.clone()).or_default().push(value.clone());
    }
    auth.impersonate.clone_from(&target.impersonate);
    auth.impersonate_uid.clone_from(&target.impersonate_uid);
    auth.impersonate_groups = Some(target.groups.clone()).filter(|groups| !groups.is_empty());
    auth.impersonate_user_extra = Some(extra).filter(|extra| !extra.is_empty());
}
