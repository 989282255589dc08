//! Servers whose every request has a bound and a time limit.
//!
//! Owns the limits of a request: its head, its body, its time, and how many are worked on at once. Who may be connected is
//! in [`crate::connection_limit`], and whose certificate is good in [`crate::tls`]. The parts own their routes.

mod listen;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_LENGTH},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper_util::rt::TokioTimer;
use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::{
    connection_limit::{Bounds, ConnectionInfo, ConnectionLimit},
    tls::{Acceptor, Refusals},
};

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body in bytes; a larger one is answered with 413.
    pub body: usize,
    /// The longest that a request may take from its head to its answer; then it is answered with 408.
    pub request: Duration,
    /// How many requests are worked on at once; others wait.
    pub concurrent: usize,
    /// How many may be connected, and how much they may send.
    pub connection_limit: Bounds,
    /// How long requests in hand may go on when the process stops.
    pub drain: Duration,
}

/// How a server speaks TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Its certificate, and whom it lets in. Both may change while it serves.
    pub config: RustlsConfig,
    /// To count whom it does not let in.
    pub refusals: Refusals,
}

/// The largest head of a request in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How much of a body that is too large is read and thrown away.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// How much of what a client of HTTP/2 sends is buffered before anybody reads it. The protocol lets no
/// server promise less for a whole connection.
const WINDOW: u32 = 64 * 1024 - 1;

/// Says whether a request is let in, by its head.
pub type Gate = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// The router behind a gate. Nothing of a request that is not let in is read but its head: it takes none of
/// the room that others need.
pub fn gated(router: Router, gate: Gate) -> Router {
    router.layer(middleware::from_fn_with_state(gate, pass))
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate(&request) {
        true => next.run(request).await,
        false => (StatusCode::NOT_FOUND, "there is nothing at this path\n").into_response(),
    }
}

/// The router within these bounds.
pub fn bounded(router: Router, limits: Limits) -> Router {
    router
        .layer(GlobalConcurrencyLimitLayer::new(limits.concurrent))
        .layer(middleware::from_fn_with_state(limits.body, read_body))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            limits.request,
        ))
}

/// Reads the body before others are asked, so that a client that sends slowly holds up nobody.
async fn read_body(State(limit): State<usize>, request: Request, next: Next) -> Response {
    // Nobody is connected where a router is asked without a server.
    let visit = request.extensions().get::<ConnectionInfo>().cloned();
    let Some(visit) = &visit else {
        return match collect(limit, request).await {
            Ok(request) => next.run(request).await,
            Err(refusal) => refusal,
        };
    };
    let Some(in_hand) = visit.begin() else {
        let why = "too many requests\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    // Until the answer: what is parsed from a body holds no less memory.
    let mut room = in_hand.room(length.unwrap_or(limit).min(limit)).await;
    match collect(limit, request).await {
        Ok(request) => {
            room.read();
            next.run(request).await
        }
        Err(refusal) => refusal,
    }
}

/// The request with its whole body, or what is answered to one that has none that can be taken.
///
/// A body that is too large is read on for a while and thrown away: a client that is still sending when
/// the connection closes would see that it broke, and not the answer.
async fn collect(limit: usize, request: Request) -> Result<Request, Response> {
    let (head, mut body) = request.into_parts();
    let mut read = BytesMut::new();
    let mut length = 0;
    while length <= limit.saturating_add(MAX_DISCARDED) {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                length += data.len();
                if length <= limit {
                    read.extend_from_slice(&data);
                } else {
                    read = BytesMut::new();
                }
            }
            Some(Err(error)) => {
                let why = format!("the request body is incomplete: {error}\n");
                return Err((StatusCode::BAD_REQUEST, why).into_response());
            }
        }
    }
    if length > limit {
        let why = format!("the request body is larger than the limit of {limit} bytes\n");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, why).into_response());
    }
    Ok(Request::from_parts(head, read.freeze().into()))
}

/// Serves the router until `stop`, then finishes the requests in hand. Where there is a gate, only requests that it lets
/// in reach the router. Connections that are closed to make room for others are counted.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    tls: Option<Tls>,
    served: (Router, Option<Gate>),
    limits: Limits,
    closed: IntCounter,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    serve_with(Handle::new(), address, tls, served, limits, closed, stop).await
}

async fn serve_with(
    handle: Handle<SocketAddr>,
    address: SocketAddr,
    tls: Option<Tls>,
    (router, gate): (Router, Option<Gate>),
    limits: Limits,
    closed: IntCounter,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let drain = {
        let handle = handle.clone();
        async move {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(limits.drain));
            std::future::pending::<std::io::Result<()>>().await
        }
    };
    let Bounds { greeting, idle, .. } = limits.connection_limit;
    let connection_limit = ConnectionLimit::new(limits.connection_limit, closed);
    let turns = connection_limit.clone();
    let router = bounded(router, limits);
    let router = match gate {
        Some(gate) => gated(router, gate),
        None => router,
    };
    let service = router.into_make_service();
    let cannot = || format!("cannot serve on {address}");
    let listener = listen::listen(address).with_context(cannot)?;
    let serving = async {
        match tls {
            Some(tls) => {
                let mut server = axum_server::from_tcp_rustls(listener, tls.config)?
                    .map(|inner| {
                        let inner = inner.handshake_timeout(greeting).acceptor(connection_limit);
                        Acceptor::new(inner, tls.refusals)
                    })
                    // A client that connects for a request may send it on a connection that becomes free first. It
                    // keeps the new one for later, and Go does not repeat a request that such a connection loses.
                    .first_request_timeout(idle)
                    .handle(handle);
                bound(server.http_builder(), idle);
                server.serve(service).await
            }
            None => {
                // One request at a time: a client that does not read answers holds up few of them.
                let mut server = axum_server::from_tcp(listener)?
                    .acceptor(connection_limit)
                    .first_request_timeout(greeting)
                    .http1_only()
                    .handle(handle);
                bound(server.http_builder(), idle);
                server.serve(service).await
            }
        }
    };
    tokio::select! {
        served = serving => served.with_context(cannot),
        never = turns.give_turns() => match never {},
        never = drain => never.with_context(cannot),
    }
}

fn bound(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
    idle: Duration,
) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(idle)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .max_concurrent_streams(256);
}

#[cfg(test)]
mod tests;
