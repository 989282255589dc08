//! Curfew's admission webhook.
//!
//! The API server calls it before anyone execs into a pod, attaches to it, forwards a port or adds a debug
//! container. The webhook admits the interaction only after it is recorded: in the store of the agent of the pod's
//! node, or else in the pod's own metadata. With `--eviction-guard`, the API server also calls it before an agent
//! evicts a pod as its own account. The webhook then checks that the pod is the one that the agent expects, and that
//! it runs on the agent's node. The webhook
//! keeps no state; any replica can answer any request. The agent is responsible for deadlines, evictions and Events.
//!
//! This module owns only the wiring: which tasks exist, and in which order they stop.
#![warn(missing_docs)]

pub mod admission;
pub mod args;
pub mod behaviour;
pub mod eviction_guard;
mod health;
pub mod identity;
mod leftovers;
pub mod metrics;
pub mod names;
pub mod placement;
pub mod policy;
pub mod recording;
pub mod registration;
pub mod review;
mod server;
#[cfg(test)]
mod tests;
mod watching;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use curfew_runtime::{
    client,
    http::{self, Limits, Tls},
    ops,
    tasks::Tasks,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Removal},
    args::Args,
    eviction_guard::EvictionGuard,
    health::Health,
    identity::{Identities, Identity},
    leftovers::Leftovers,
    metrics::Metrics,
    names::TIMEOUT,
    placement::agents::{self, Agents},
    recording::{Recorder, forward::Forwarder},
    registration::Registration,
};

/// How long requests in hand may go on once no new ones are taken.
const FINISH: Duration = TIMEOUT;
/// How long a replica that has just started is not ready because it does not know the policies. After that it
/// serves, and `--unrecorded` decides: no answer at all would refuse everything, and could not say why.
const POLICIES: Duration = Duration::from_secs(10);

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// When it cannot start, or a part of it fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let budgets = args.budgets()?;
    let lifetimes = args.lifetimes()?;
    // The client of the API server takes the process's provider; there must be exactly one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = Metrics::new().context("cannot create the metrics")?;
    let client = client::connect(metrics.watches.reach()).await?;
    let (known_agents, agents) = watch::channel(Agents::default());
    let (new_identities, identities) = watch::channel(None);
    let (rules, updater) = policy::rules(args.defaults.terms(), &metrics.watches);
    let (behaviour, behaviour_updater, found) = behaviour::behaviour(&metrics);
    let forwarder = Forwarder::new(
        agents.clone(),
        identities.clone(),
        budgets.agent,
        metrics.refusals.clone(),
    );
    let guard = Arc::new(EvictionGuard {
        client: client.clone(),
        pod_timeout: budgets.pod,
        metrics: metrics.clone(),
    });
    let recorder = Recorder::new(client.clone(), forwarder.clone(), budgets, metrics.clone());
    let leftovers = Leftovers {
        client: client.clone(),
        recorder: recorder.clone(),
        rules: rules.clone(),
        behaviour: behaviour.clone(),
        pod_timeout: budgets.pod,
    };
    let admission = Arc::new(Admission {
        recorder,
        client: client.clone(),
        namespace: args.namespace.clone(),
        rules: rules.clone(),
        behaviour: behaviour.clone(),
        unrecorded: args.unrecorded,
        removal: Removal::default(),
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
                forwarder,
                identities: identities.clone(),
                rules,
                behaviour,
                without_policies: Instant::now() + POLICIES,
                stop: stop.clone(),
            }),
            metrics.refused("metrics"),
            drained.clone(),
        ),
    );
    let (watch, namespace) = (metrics.watches.open("agents"), args.namespace.clone());
    let followed = agents::run(watch, client.clone(), namespace, known_agents);
    tasks.spawn_until(&drained, "agents", followed);
    tasks.spawn_until(&drained, "policies", updater.run(client.clone()));
    // Not ended from outside: it writes what it has learned when the others end.
    tasks.spawn(
        "behaviour",
        behaviour_updater.run(client.clone(), metrics.watches.clone(), drained.clone()),
    );
    tasks.spawn_until(&drained, "leftovers", leftovers.run(found));
    let controller = identity::controller::IdentityController {
        client: client.clone(),
        namespace: args.namespace.clone(),
        lifetimes,
        client_ca: args.client_ca,
        metrics: metrics.clone(),
    };
    tasks.spawn_until(&drained, "identity", controller.run(new_identities));
    let (watch, namespace) = (metrics.watches.open("trust"), args.namespace.clone());
    let published =
        identity::publication::run(watch, client.clone(), namespace, identities.clone());
    tasks.spawn_until(&drained, "trust", published);
    let signer = identity::signer::Signer {
        client: client.clone(),
        namespace: args.namespace.clone(),
        identities: identities.clone(),
        life: lifetimes.certificate,
        metrics: metrics.clone(),
    };
    tasks.spawn_until(&drained, "signer", signer.run());
    tasks.spawn("admission", {
        let (identities, drained, listen) = (identities.clone(), drained.clone(), args.listen);
        let (refusals, refused) = (metrics.refusals.clone(), metrics.refused("admission"));
        let (gate, metrics_of_gate) = (identities.clone(), metrics.clone());
        async move {
            let Some(identity) = first(identities, &drained).await else {
                return Ok(());
            };
            let limits = Limits {
                body: server::MAX_BODY,
                request: TIMEOUT,
                concurrent: 256,
                connection_limit: server::CLIENTS,
                drain: FINISH,
            };
            let gate = server::gate(gate, metrics_of_gate);
            let served = (server::router(admission, guard), Some(gate));
            let tls = Tls {
                config: identity.serving,
                refusals,
            };
            http::serve(listen, Some(tls), served, limits, refused, drained).await
        }
    });
    let checks = registration::self_check::run(args.namespace.clone(), metrics.clone());
    tasks.spawn_until(&stop, "self-check", async move {
        checks.await;
        Ok(())
    });
    tasks.spawn("registration", {
        let (namespace, stop) = (args.namespace.clone(), stop.clone());
        async move {
            if first(identities.clone(), &stop).await.is_none() {
                return Ok(());
            }
            let registration = Registration {
                client,
                namespace,
                identities,
                eviction_guard: args.eviction_guard,
                connect_by_get: args.connect_by_get,
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

/// The identity, once there is one; none when the process stops first.
async fn first(mut identities: Identities, stop: &CancellationToken) -> Option<Identity> {
    tokio::select! {
        () = stop.cancelled() => None,
        found = identities.wait_for(Option::is_some) => found.ok()?.clone(),
    }
}
