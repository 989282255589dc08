//! Curfew's admission webhook.
//!
//! It is asked by the API server before anybody execs into a pod, attaches to it, forwards a port or
//! adds a debug container, and lets that happen only once it is recorded: in the store of the agent
//! of the pod's node, or else in the pod's own metadata. It is asked, too, before an agent evicts, and
//! lets it evict only the pod that it means, on its own node. It keeps no state of its own; any replica
//! can answer any request. Deadlines, evictions and Events are the agent's.
//!
//! This module owns the wiring alone: which tasks there are and in which order they stop.
#![warn(missing_docs)]

pub mod admission;
pub mod agents;
pub mod answer;
pub mod args;
pub mod certificate;
pub mod configuration;
pub mod fallback;
pub mod forward;
pub mod guard;
mod health;
pub mod metrics;
pub mod placement;
pub mod policies;
pub mod recording;
pub mod registration;
pub mod review;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use curfew_runtime::{
    client,
    http::{self, Limits},
    ops,
    tasks::Tasks,
};
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    agents::Agents,
    args::Args,
    certificate::{Authority, Failure, Identity},
    health::Health,
    metrics::Metrics,
    recording::Recorder,
    registration::Registration,
};

/// How long requests in hand may go on once no new ones are taken.
const FINISH: Duration = configuration::TIMEOUT;
/// How long a replica that has just started waits for the policies before it serves without them.
const POLICIES: Duration = Duration::from_secs(10);
/// Between two attempts to get a certificate.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part of it fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let budgets = args.budgets()?;
    // The client of the API server takes the process's provider; there must be exactly one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = client::connect().await?;
    let metrics = Metrics::new().context("cannot make metrics")?;
    let (known_agents, agents) = watch::channel(Agents::default());
    let (certified, identity) = watch::channel(None);
    let (rules, keeper) = policies::rules(args.terms());
    let admission = Arc::new(Admission {
        recorder: Recorder::new(client.clone(), agents.clone(), budgets, metrics.clone()),
        client: client.clone(),
        rules: rules.clone(),
        unrecorded: args.unrecorded,
        pod_timeout: budgets.pod,
        metrics: metrics.clone(),
    });

    let mut tasks = Tasks::new();
    let stop = tasks.stop();
    // Unready at once, but still serving: it takes a while until no API server sends here any more.
    let drained = CancellationToken::new();
    tasks.spawn("drain", drain(args.drain, stop.clone(), drained.clone()));
    tasks.spawn(
        "ops",
        ops::run(
            args.metrics_listen,
            Arc::new(Health {
                metrics: metrics.clone(),
                agents,
                identity: identity.clone(),
                rules,
                without_policies: Instant::now() + POLICIES,
                stop: stop.clone(),
            }),
            drained.clone(),
        ),
    );
    tasks.spawn(
        "agents",
        agents::run(
            client.clone(),
            args.namespace.clone(),
            known_agents,
            drained.clone(),
        ),
    );
    tasks.spawn("policies", keeper.run(client.clone(), drained.clone()));
    tasks.spawn(
        "certificate",
        certify(
            client.clone(),
            args.namespace.clone(),
            metrics.clone(),
            certified,
            drained.clone(),
        ),
    );
    tasks.spawn("admission", {
        let (identity, drained, listen) = (identity.clone(), drained.clone(), args.listen);
        async move {
            let Some(identity) = first(identity, &drained).await else {
                return Ok(());
            };
            let limits = Limits {
                body: admission::MAX_BODY,
                request: configuration::TIMEOUT,
                concurrent: 256,
                drain: FINISH,
            };
            let router = admission::router(admission);
            http::serve(listen, Some(identity.tls), router, limits, drained).await
        }
    });
    tasks.spawn("registration", {
        let (namespace, stop) = (args.namespace.clone(), stop.clone());
        async move {
            let Some(identity) = first(identity, &stop).await else {
                return Ok(());
            };
            let registration = Registration {
                client,
                namespace,
                authority: identity.authority,
                metrics,
            };
            registration.run(stop).await
        }
    });
    tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"), listen = %args.listen);
    tasks
        .run(args.drain + FINISH + Duration::from_secs(1))
        .await
}

async fn drain(
    while_served: Duration,
    stop: CancellationToken,
    drained: CancellationToken,
) -> anyhow::Result<()> {
    stop.cancelled().await;
    sleep(while_served).await;
    drained.cancel();
    Ok(())
}

/// The certificate, once there is one; none when the process stops first.
async fn first(
    mut identity: watch::Receiver<Option<Identity>>,
    stop: &CancellationToken,
) -> Option<Identity> {
    tokio::select! {
        () = stop.cancelled() => None,
        found = identity.wait_for(Option::is_some) => found.ok()?.clone(),
    }
}

/// Gets a certificate and renews it until `stop`.
async fn certify(
    client: Client,
    namespace: String,
    metrics: Metrics,
    certified: watch::Sender<Option<Identity>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let authority = loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            agreed = Authority::agreed(&client, &namespace) => match agreed {
                Ok(authority) => break Arc::new(authority),
                Err(error @ Failure::Api(..)) => {
                    tracing::warn!(event = "no-certificate", %error, "trying again");
                }
                Err(error) => return Err(error.into()),
            },
        }
        // Also woken by the end of the process.
        let _ = timeout(RETRY, stop.cancelled()).await;
    };
    let (config, expiry) = authority.issue(&namespace)?;
    let tls = RustlsConfig::from_config(config);
    metrics.certificate(expiry);
    certified.send_replace(Some(Identity {
        authority: authority.clone(),
        tls: tls.clone(),
    }));
    while timeout(certificate::renewal(), stop.cancelled())
        .await
        .is_err()
    {
        let (config, expiry) = authority.issue(&namespace)?;
        tls.reload_from_config(config);
        metrics.certificate(expiry);
        tracing::info!(event = "certificate-renewed");
    }
    Ok(())
}
