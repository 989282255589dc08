//! The agent of one node.
//!
//! It keeps the eviction schedule of its node's pods and carries it out. Its rooms, each a module that says what
//! it owns:
//!
//! - [`curfew_agent_state`]: what is known about the node's pods and what must be done, without I/O;
//! - [`controller`]: the one task that owns that state;
//! - [`store`]: the records on disk;
//! - [`cluster`]: what talks to the API server about pods;
//! - `evidence`: what the node shows of its containers, where that is asked for;
//! - `bypass`: sessions that nobody admitted become interactions;
//! - `events`: log lines and Events that report what happened;
//! - [`metrics`]: the metrics;
//! - [`identity`]: the agent's certificate;
//! - [`server`]: the ports on which the agent listens;
//! - `self_test`: whether the agent works on this machine.
//!
//! This module owns only the wiring: which tasks exist, and what they are started with.
#![warn(missing_docs)]

mod args;
mod bypass;
pub mod cluster;
pub mod controller;
mod events;
mod evidence;
pub mod identity;
pub mod metrics;
mod self_test;
pub mod server;
pub mod store;
#[cfg(test)]
mod testing;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use curfew_agent_state::{Evidence, NodeSettings, NodeState};
use curfew_runtime::{client, connection_limit::Bounds, http, ops as ops_port, tasks::Tasks, tls};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Observation, acting_as::NodeUser, executor::Executor, pod_watch},
    controller::run::{Clock, Controller, Parts},
    events::EventRecorder,
    evidence::PodsOnNode,
    identity::Identities,
    metrics::Metrics,
    server::{debug, notices, probes},
    store::{
        inspect,
        writer::{OnDisk, StoreWriter},
    },
};

pub use args::{Args, Command, StoreCommand};

/// How long the tasks may take to end: the kubelet is patient for longer.
const GRACE: Duration = Duration::from_secs(5);

const NOTICE_LIMITS: http::Limits = http::Limits {
    body: curfew_core::notice::MAX_BYTES,
    // The webhook has given up long before.
    request: Duration::from_secs(5),
    concurrent: 256,
    // What a handshake takes of the memory, an agent has less of than a webhook.
    connection_limit: Bounds {
        connections: 512,
        requests: 512,
        bodies: 8 * 1024 * 1024,
        ..Bounds::MANY
    },
    drain: Duration::from_secs(1),
};

const DEBUG_LIMITS: http::Limits = http::Limits {
    body: 0,
    request: Duration::from_secs(5),
    concurrent: 4,
    // It is reached through tunnels only, and who looks at the page or the schedule again and again keeps
    // a connection.
    connection_limit: Bounds {
        idle: Bounds::MANY.idle,
        ..Bounds::FEW
    },
    drain: Duration::from_millis(500),
};

/// Runs the agent until it is told to stop, looks into its store, or tests this machine.
///
/// # Errors
/// When it cannot start, or a part of it failed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.command {
        Some(Command::Store { command }) => return inspect::run(command, &args, &mut out).await,
        Some(Command::SelfTest) => return self_test::run(&args.store, &mut out),
        None => drop(out),
    }
    args.log.start()?;
    let node = args
        .node_name
        .context("--node-name is missing: the name of the node that this agent runs on")?;
    let metrics = metrics::Metrics::new()?;
    let client = client::connect(metrics.watches.reach()).await?;
    tracing::info!(node, version = env!("CARGO_PKG_VERSION"), "starting");

    let (controller, inbox) = controller::handle();
    let (new_identities, identities) = watch::channel(None);
    let (observed, observations) = cluster::observations();
    let node_user = NodeUser::pending();
    let (recorder, events) = EventRecorder::new(&node, metrics.clone());
    let (evidence, looking) = evidence::prepare(args.evidence, &node, &metrics);
    let clock: Clock = Arc::new(Timestamp::now);
    let task = Controller::new(Parts {
        node: node.clone(),
        clock: clock.clone(),
        state: NodeState::new(NodeSettings {
            max_evictions: args.max_concurrent_evictions.into(),
            blocked_after: args.blocked_after,
            evidence: match evidence.is_on() {
                true => Evidence::On,
                false => Evidence::Off,
            },
        }),
        writer: StoreWriter::new(OnDisk::new(&args.store), metrics.sync.clone()),
        executor: Executor::new(
            client.clone(),
            node_user.clone(),
            &node,
            metrics.clone(),
            observed.clone(),
            evidence.clone(),
        ),
        recorder,
        evidence: evidence.clone(),
        inbox,
        observations,
    });

    let mut tasks = Tasks::new();
    let stop = tasks.stop();
    let ops = probes::Agent {
        controller: controller.clone(),
        metrics: metrics.clone(),
        identities: identities.clone(),
        stop: stop.clone(),
    };
    tasks.spawn("controller", task.run(stop.clone()));
    let own = (args.namespace.clone(), args.pod_name.clone());
    let works = metrics.acts_as_node.clone();
    let user = node_user.clone();
    let decided = user.decide(client.clone(), node.clone(), own, works);
    tasks.spawn_until(&stop, "node user", async { match decided.await? {} });
    let pods = node_user.client(client.clone());
    tasks.spawn(
        "events",
        events::post_all(client.clone(), args.pod_name, metrics.clone(), events),
    );
    tasks.spawn(
        "ops",
        ops_port::run(
            args.metrics_listen,
            Arc::new(ops),
            metrics.refused("metrics"),
            stop.clone(),
        ),
    );
    tasks.spawn("debug", {
        let served = (debug::router(controller.clone(), identities.clone()), None);
        let (listen, refused) = (args.debug_listen, metrics.refused("debug"));
        http::serve(listen, None, served, DEBUG_LIMITS, refused, stop.clone())
    });
    let keeper = identity::Keeper {
        client: client.clone(),
        namespace: args.namespace,
        node: node.clone(),
        metrics: metrics.clone(),
    };
    tasks.spawn_until(&stop, "identity", keeper.run(new_identities));
    if let Some(looking) = looking {
        let observed = observed.clone();
        // The agent ends where nobody takes it.
        let looked =
            move |uid, drift| drop(observed.blocking_send(Observation::Looked(uid, drift)));
        let started = looking.start(looked, metrics.clone());
        let bypasses = started.context("cannot start a thread")?;
        let recorder = bypass::Recorder {
            client: client.clone(),
            pods: pods.clone(),
            node: node.clone(),
            controller: controller.clone(),
            defaults: args.defaults.terms(),
        };
        tasks.spawn_until(&stop, "evidence", recorder.run(bypasses));
    }
    let watch = metrics.watches.open("pods");
    tasks.spawn("notices", {
        let router = notices::router(node.clone(), clock, controller.clone(), metrics.clone());
        serve_notices(router, identities, metrics, args.listen, stop.clone())
    });
    tasks.spawn_until(&stop, "pods", async move {
        pod_watch::watch(watch, pods, &node, observed, PodsOnNode::new(evidence)).await
    });
    tasks.run(GRACE).await
}

/// Serves the webhook, once there is a certificate to show it.
async fn serve_notices(
    router: Router,
    mut identities: Identities,
    metrics: Metrics,
    listen: SocketAddr,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let first = tokio::select! {
        first = identities.wait_for(Option::is_some) => first.ok().and_then(|first| first.clone()),
        () = stop.cancelled() => None,
    };
    let Some(first) = first else { return Ok(()) };
    let tls = http::Tls {
        config: first.serving,
        refusals: metrics.refusals.clone(),
    };
    let clients = move || {
        identities
            .borrow()
            .as_ref()
            .map(|identity| identity.clients.clone())
    };
    let refused = metrics.refused("notices");
    let served = (tls::only(router, clients, metrics.refusals), None);
    http::serve(listen, Some(tls), served, NOTICE_LIMITS, refused, stop).await
}
