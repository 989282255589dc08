//! The agent of one node, as a task: it gets its certificate as a real one does, and takes notices.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use curfew_core::{
    Notice,
    identity::{self, SIGNER, WEBHOOK},
    notice::{self, Receipt},
};
use curfew_e2e::TestCluster;
use curfew_runtime::{
    connection_limit::Bounds,
    http::{self, Limits},
    metrics::Catalog,
    tls::{self, Leaf, Refusals, Trust},
};
use futures::TryStreamExt;
use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
use kube::{
    Api, Client, ResourceExt,
    api::{PostParams, WatchEvent, WatchParams},
};
use prometheus::IntCounter;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long a certificate is waited for.
const PATIENCE: u32 = 120;

const LIMITS: Limits = Limits {
    body: notice::MAX_BYTES,
    request: Duration::from_secs(5),
    concurrent: 256,
    connection_limit: Bounds::MANY,
    drain: Duration::from_millis(100),
};

/// An agent; it ends when this is dropped.
pub(super) struct Member {
    pub(super) node: String,
    /// It reads the pods of its node by this.
    pub(super) client: Client,
    taken: Arc<AtomicU64>,
    stop: CancellationToken,
    serving: AbortOnDropHandle<Result<()>>,
}

/// How many notices all of them have taken.
pub(super) fn taken(crew: &[Member]) -> u64 {
    let taken = crew
        .iter()
        .map(|member| member.taken.load(Ordering::Relaxed));
    taken.sum()
}

impl Member {
    /// Gets a certificate and listens. Returns how long the certificate took, too.
    pub(super) async fn start(
        cluster: &TestCluster,
        prefix: &str,
        node: &str,
        address: SocketAddr,
        token: &str,
        trust: &Trust,
        acts_as_node: bool,
    ) -> Result<(Self, Duration)> {
        let own = cluster.client_of(token).await?;
        let user = format!("system:node:{node}");
        let user = acts_as_node.then_some(user.as_str());
        let client = cluster.client_as(token, user).await?;
        let began = Instant::now();
        let leaf = certificate(&own, prefix, node)
            .await
            .with_context(|| format!("no certificate for the agent of {node}"))?;
        let took = began.elapsed();
        trust.check_server(&leaf, &identity::agent(node))?;
        let config = Arc::new(leaf.serve_only(trust.clients(WEBHOOK)?)?);
        let refusals = Refusals::new(
            &mut Catalog::default(),
            "refused_total",
            "Who was not let in",
        )?;
        let tls = http::Tls {
            config: tls::reload(None, config),
            refusals,
        };
        let taken = Arc::new(AtomicU64::new(0));
        let state = Receiver {
            node: node.into(),
            taken: Arc::clone(&taken),
        };
        let router = Router::new()
            .route(notice::PATH, post(take))
            .with_state(state);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(http::serve(
            address,
            Some(tls),
            (router, None),
            LIMITS,
            IntCounter::new("refused", "Refused connections")?,
            stop.clone(),
        ));
        let member = Self {
            node: node.to_owned(),
            client,
            taken,
            stop,
            serving: AbortOnDropHandle::new(serving),
        };
        Ok((member, took))
    }

    /// Ends as an agent does whose pod is deleted, and waits until nobody listens any more.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.serving.await?
    }
}

#[derive(Clone)]
struct Receiver {
    node: Arc<str>,
    taken: Arc<AtomicU64>,
}

/// Answers as an agent does that has stored the interaction.
async fn take(State(receiver): State<Receiver>, Json(notice): Json<Notice>) -> Response {
    if let Err(refusal) = notice.check(&receiver.node) {
        return (StatusCode::BAD_REQUEST, refusal.to_string()).into_response();
    }
    receiver.taken.fetch_add(1, Ordering::Relaxed);
    let known = notice.known;
    let receipt = Receipt {
        version: notice::VERSION,
        eviction_time: known.interaction.time.checked_add(known.terms.ttl).ok(),
        dry_run: false,
        interactions: 1,
    };
    Json(receipt).into_response()
}

/// Asks for a certificate and waits for it.
async fn certificate(own: &Client, prefix: &str, node: &str) -> Result<Leaf> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![identity::agent(node)])?;
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let text = params.serialize_request(&key)?.pem()?;
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"generateName": format!("{prefix}-")},
        "spec": {
            "signerName": SIGNER,
            "request": "",
            "usages": ["digital signature", "server auth"],
        },
    }))?;
    request.spec.request = ByteString(text.into_bytes());
    let all: Api<CertificateSigningRequest> = Api::all(own.clone());
    let made = all.create(&PostParams::default(), &request).await?;
    let params = WatchParams::default()
        .fields(&format!("metadata.name={}", made.name_any()))
        .timeout(PATIENCE);
    let version = made.resource_version().unwrap_or_default();
    let mut events = pin!(all.watch(&params, &version).await?);
    while let Some(event) = events.try_next().await? {
        let status = match event {
            WatchEvent::Added(request) | WatchEvent::Modified(request) => request.status,
            WatchEvent::Error(status) => bail!("{status}"),
            WatchEvent::Deleted(_) => bail!("the request was deleted"),
            WatchEvent::Bookmark(_) => continue,
        };
        if let Some(certificate) = status.and_then(|status| status.certificate) {
            return Ok(Leaf::from_pem(&certificate.0, key.serialize_der())?);
        }
    }
    bail!("the request was not answered within {PATIENCE} s")
}
