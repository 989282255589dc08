//! The agent's identity: a certificate for the name of its node, and the CAs that it trusts.
//!
//! It owns the key, the certificate and the trusted CAs of this process. The webhook signs the certificate, and the
//! port for notices uses all of them.
//!
//! The agent creates a key, which never leaves the process, and requests a certificate with a
//! CertificateSigningRequest. The API server adds the node that the token of this pod is bound to, and the webhook
//! signs a certificate for that node only. The ConfigMap `curfew-ca` contains the trusted CAs. The agent watches
//! both and polls nothing. It renews the certificate after two thirds of its lifetime, and when a new CA starts to
//! sign.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use curfew_core::identity::{SIGNER, TRUST, TRUST_KEY, WEBHOOK, agent};
use curfew_runtime::{
    api, error_chain,
    time::until,
    tls::{self, Leaf, Trust, Unusable},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::ConfigMap,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt,
    api::{PostParams, WatchEvent, WatchParams},
};
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::danger::ClientCertVerifier;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::metrics::Metrics;

/// How long a request may go unanswered before another one is made, in whole seconds.
const ANSWER_SECONDS: u32 = 30;
/// Over how long the agents of a cluster spread their requests at most when another CA issues.
const MAX_SPREAD: Duration = Duration::from_secs(30);
/// The first and the longest pause after a request that came to nothing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The identity in use.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds a private key")]
pub struct Identity {
    /// What the server uses; a renewal changes it in place.
    pub serving: RustlsConfig,
    /// Who may post notices.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// When the certificate ends.
    pub expiry: SystemTime,
}

/// The identity, for those who use it; none before the first.
pub type Identities = watch::Receiver<Option<Identity>>;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot {0}: {1}")]
    Api(&'static str, String),
    #[error("the request for a certificate was denied: {0}")]
    Denied(String),
    #[error("the request for a certificate was not answered within {ANSWER_SECONDS} s")]
    Unanswered,
    #[error("cannot create a key or a request: {0}")]
    Making(#[from] rcgen::Error),
    #[error("cannot use the certificate: {0}")]
    Using(#[from] Unusable),
}

/// What the keeper needs.
pub(crate) struct Keeper {
    /// To read and write.
    pub(crate) client: Client,
    /// The namespace of Curfew.
    pub(crate) namespace: String,
    /// The node.
    pub(crate) node: String,
    /// To tell when the certificate ends.
    pub(crate) metrics: Metrics,
}

impl Keeper {
    /// Keeps the identity. It never ends by itself.
    ///
    /// # Errors
    /// When the watch of the trusted CAs ends.
    pub(crate) async fn run(
        self,
        identities: watch::Sender<Option<Identity>>,
    ) -> anyhow::Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut bundles = pin!(self.metrics.watches.open("trust").object(maps, TRUST));
        let mut trust: Option<Trust> = None;
        let mut leaf: Option<Leaf> = None;
        let mut due: Option<Instant> = None;
        let mut pause = PAUSE.0;
        loop {
            tokio::select! {
                map = bundles.next() => {
                    let map = map.context("the watch of the trusted CAs ended")?;
                    let Some(found) = understand(map) else { continue };
                    let issuer_changed = trust.as_ref().is_none_or(|trust| trust.issuing() != found.issuing());
                    if trust.as_ref().is_some_and(|trust| trust.is_same(&found)) {
                        continue;
                    }
                    if issuer_changed {
                        let spread = leaf.as_ref().map_or(Duration::ZERO, jitter);
                        due = Some(Instant::now() + spread.min(MAX_SPREAD));
                    }
                    trust = Some(found);
                }
                () = until(due) => match &trust {
                    Some(trust) => match self.request(trust).await {
                        Ok(new) => {
                            tracing::info!(event = "certified", "has a certificate for its node");
                            due = Some(Instant::now() + new.renewal().saturating_sub(jitter(&new)));
                            leaf = Some(new);
                            pause = PAUSE.0;
                        }
                        Err(error) => {
                            tracing::warn!(event = "not-certified", %error, "asking again");
                            due = Some(Instant::now() + pause.mul_f64(0.5 + fastrand::f64()));
                            pause = (pause * 2).min(PAUSE.1);
                            continue;
                        }
                    },
                    None => due = None,
                },
            }
            if let (Some(leaf), Some(trust)) = (&leaf, &trust)
                && let Err(error) = self.show(&identities, leaf, trust)
            {
                tracing::error!(event = "not-certified", %error, "the certificate cannot be used");
            }
        }
    }

    /// Lets the server use this.
    fn show(
        &self,
        identities: &watch::Sender<Option<Identity>>,
        leaf: &Leaf,
        trust: &Trust,
    ) -> Result<(), Unusable> {
        let clients = trust.clients(WEBHOOK)?;
        let config = Arc::new(leaf.serve_only(clients.clone())?);
        let before = identities
            .borrow()
            .as_ref()
            .map(|before| before.serving.clone());
        let serving = tls::reload(before, config);
        self.metrics.certificate(leaf.expiry());
        identities.send_replace(Some(Identity {
            serving,
            clients,
            expiry: leaf.expiry(),
        }));
        Ok(())
    }

    /// Asks for a certificate and waits for it.
    async fn request(&self, trust: &Trust) -> Result<Leaf, Failure> {
        let name = agent(&self.node);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let text = params.serialize_request(&key)?.pem()?;
        let request = CertificateSigningRequest {
            metadata: ObjectMeta {
                generate_name: Some("curfew-agent-".to_owned()),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(text.into_bytes()),
                signer_name: SIGNER.to_owned(),
                usages: Some(vec![
                    "digital signature".to_owned(),
                    "server auth".to_owned(),
                ]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let all: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let params = PostParams::default();
        let made = api::call(all.create(&params, &request))
            .await
            .map_err(|error| Failure::Api("ask for a certificate", error_chain::short(&error)))?;
        let limit = Duration::from_secs(ANSWER_SECONDS.into());
        let certificate = timeout(limit, answer(&all, &made))
            .await
            .unwrap_or(Err(Failure::Unanswered))?;
        let leaf = Leaf::from_pem(&certificate.0, key.serialize_der())?;
        // Better known here than by every webhook that turns away.
        trust.check_server(&leaf, &name)?;
        Ok(leaf)
    }
}

/// Waits until a request is answered.
async fn answer(
    all: &Api<CertificateSigningRequest>,
    made: &CertificateSigningRequest,
) -> Result<ByteString, Failure> {
    let params = WatchParams::default()
        .fields(&format!("metadata.name={}", made.name_any()))
        .timeout(ANSWER_SECONDS);
    let unseen = |error: &kube::Error| Failure::Api("watch the request", error_chain::short(error));
    let version = made.resource_version().unwrap_or_default();
    let events = all.watch(&params, &version).await;
    let mut events = pin!(events.map_err(|error| unseen(&error))?);
    while let Some(event) = events.try_next().await.map_err(|error| unseen(&error))? {
        let request = match event {
            WatchEvent::Added(request) | WatchEvent::Modified(request) => request,
            WatchEvent::Deleted(_) => return Err(Failure::Denied("it was deleted".to_owned())),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => {
                return Err(Failure::Api("watch the request", status.message));
            }
        };
        let status = request.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        if let Some(refused) = conditions.iter().find(|one| one.type_ != "Approved") {
            return Err(Failure::Denied(refused.message.clone().unwrap_or_default()));
        }
        if let Some(certificate) = status.certificate {
            return Ok(certificate);
        }
    }
    Err(Failure::Unanswered)
}

/// The CAs of the ConfigMap. What cannot be understood is told, and what was known before holds.
fn understand(map: Result<Option<ConfigMap>, kube::runtime::watcher::Error>) -> Option<Trust> {
    // What fails is tried again, and logged by the watch.
    let mut data = map.ok()??.data.unwrap_or_default();
    let text = data.remove(TRUST_KEY).unwrap_or_default();
    Trust::from_pem(&text)
        .inspect_err(|error| {
            tracing::error!(
                event = "trust-unfit",
                %error,
                "ConfigMap {TRUST} contains no CA under {TRUST_KEY}; continuing with what was known before"
            );
        })
        .ok()
}

/// A part of what is left of a certificate's life, so that the agents of a cluster do not ask all at once.
fn jitter(leaf: &Leaf) -> Duration {
    leaf.renewal().mul_f64(0.2 * fastrand::f64())
}
