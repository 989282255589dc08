//! A validating webhook that admits whatever it is asked, at once: what every webhook costs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, routing::post};
use axum_server::tls_rustls::RustlsConfig;
use curfew_e2e::TestCluster;
use curfew_runtime::{
    connection_limit::Bounds,
    http::{self, Limits},
    metrics::Catalog,
    tls::Refusals,
};
use k8s_openapi::{ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration};
use kube::{Api, api::PostParams};
use prometheus::IntCounter;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::free_port;

/// The name by which the API server measures it.
pub(crate) const NAME: &str = "instant.bench.curfew.dev";

const LIMITS: Limits = Limits {
    body: 3 * 1024 * 1024,
    request: Duration::from_secs(5),
    concurrent: 256,
    connection_limit: Bounds::MANY,
    drain: Duration::from_millis(100),
};

/// The webhook; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Instant {
    address: SocketAddr,
    certificate: String,
    answered: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Drop for Instant {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Instant {
    /// Starts it where the API server reaches it.
    pub(crate) async fn start(cluster: &TestCluster) -> Result<Self> {
        let host = cluster.machine.ip_family().host();
        let address = SocketAddr::new(host, free_port(host)?);
        let made = rcgen::generate_simple_self_signed([host.to_string()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        // Which of several providers rustls is to use has to be said once a process.
        drop(rustls::crypto::ring::default_provider().install_default());
        let tls =
            RustlsConfig::from_pem(certificate.clone().into_bytes(), key.into_bytes()).await?;
        let answered = Arc::new(AtomicU64::new(0));
        let router = Router::new()
            .route("/", post(admit))
            .with_state(Arc::clone(&answered));
        let stop = CancellationToken::new();
        let tls = http::Tls {
            config: tls,
            refusals: Refusals::new(
                &mut Catalog::default(),
                "refused_total",
                "Who was not let in",
            )?,
        };
        tokio::spawn(http::serve(
            address,
            Some(tls),
            (router, None),
            LIMITS,
            IntCounter::new("refused", "Refused connections")?,
            stop.clone(),
        ));
        Ok(Self {
            address,
            certificate,
            answered,
            stop,
        })
    }

    /// How many requests it has admitted.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets the API server ask it about interactions in this namespace and in no other.
    pub(crate) async fn register(
        &self,
        cluster: &TestCluster,
        name: &str,
        namespace: &str,
    ) -> Result<()> {
        let mut configuration: ValidatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": NAME,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 5,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CONNECT"],
                    "resources": ["pods/exec"],
                    "scope": "Namespaced",
                }],
                "clientConfig": {"url": format!("https://{}/", self.address)},
            }],
        }))?;
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let bundle = ByteString(self.certificate.clone().into_bytes());
            webhook.client_config.ca_bundle = Some(bundle);
        }
        Api::all(cluster.client.clone())
            .create(&PostParams::default(), &configuration)
            .await
            .map(drop)
            .context("cannot register the webhook that answers at once")
    }
}

async fn admit(State(answered): State<Arc<AtomicU64>>, Json(review): Json<Value>) -> Json<Value> {
    answered.fetch_add(1, Ordering::Relaxed);
    Json(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true},
    }))
}
