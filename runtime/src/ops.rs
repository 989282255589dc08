//! The plain port for those who look after the process: `/metrics`, `/healthz` and `/readyz`.
//!
//! Owns the routes and their limits. Each part says by [`Ops`] when it is healthy and ready.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, IntCounter, TextEncoder, proto::MetricFamily};
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::{
    connection_limit::Bounds,
    http::{Limits, serve},
};

/// What the port tells. It is asked anew at each request, so that nothing told can be stale.
pub trait Ops: Send + Sync + 'static {
    /// Why the process cannot do its work any more, if so: it is started anew then.
    fn healthy(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Why the process is not ready for requests, if so.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// The metrics, with gauges read from the state.
    fn metrics(&self) -> impl Future<Output = Vec<MetricFamily>> + Send;
}

const LIMITS: Limits = Limits {
    body: 0,
    request: Duration::from_secs(5),
    concurrent: Bounds::FEW.connections,
    connection_limit: Bounds::FEW,
    drain: Duration::from_millis(500),
};

/// How many scrapes are worked on at once. They cost far more than probes, which do not wait for them.
const SCRAPES: usize = 2;

/// The port's routes.
pub fn router<O: Ops>(ops: Arc<O>) -> Router {
    let scrapes = GlobalConcurrencyLimitLayer::new(SCRAPES);
    Router::new()
        .route("/metrics", get(metrics::<O>).layer(scrapes))
        .route("/healthz", get(healthz::<O>))
        .route("/readyz", get(readyz::<O>))
        .with_state(ops)
}

/// Serves the port until `stop`. Connections that are closed to make room for others are counted.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(
    address: SocketAddr,
    ops: Arc<impl Ops>,
    closed: IntCounter,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    serve(address, None, (router(ops), None), LIMITS, closed, stop).await
}

async fn metrics<O: Ops>(State(ops): State<Arc<O>>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&ops.metrics().await, &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz<O: Ops>(State(ops): State<Arc<O>>) -> Response {
    state(ops.healthy().await)
}

async fn readyz<O: Ops>(State(ops): State<Arc<O>>) -> Response {
    state(ops.ready().await)
}

fn state(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_keeps_a_connection_from_one_probe_to_the_next() {
        // How often the kubelet probes by default.
        const PERIOD: Duration = Duration::from_secs(10);
        let Bounds { greeting, idle, .. } = LIMITS.connection_limit;
        assert!(greeting < PERIOD && idle < PERIOD, "{greeting:?} {idle:?}");
    }
}
