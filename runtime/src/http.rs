//! Servers whose every request has a bound and a time limit.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::tls::{Acceptor, Refusals};

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body in bytes; a larger one is answered with 413.
    pub body: usize,
    /// The longest that a request may take from its head to its answer; then it is answered with 408.
    pub request: Duration,
    /// How many requests are worked on at once; others wait.
    pub concurrent: usize,
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

/// How long a client may take to send the head of a request, and to idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

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
///
/// A body that is too large is read on for a while and thrown away: a client that is still sending when
/// the connection closes would see that it broke, and not the answer.
async fn read_body(State(limit): State<usize>, request: Request, next: Next) -> Response {
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
                let why = format!("the body broke off: {error}\n");
                return (StatusCode::BAD_REQUEST, why).into_response();
            }
        }
    }
    if length > limit {
        let why = format!("the body is larger than {limit} bytes\n");
        return (StatusCode::PAYLOAD_TOO_LARGE, why).into_response();
    }
    next.run(Request::from_parts(head, read.freeze().into()))
        .await
}

/// Serves the router until `stop`, then finishes the requests in hand.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let handle = Handle::new();
    let drain = {
        let handle = handle.clone();
        async move {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(limits.drain));
            std::future::pending::<std::io::Result<()>>().await
        }
    };
    let service = bounded(router, limits).into_make_service();
    let cannot = || format!("cannot serve on {address}");
    let serving = async {
        match tls {
            Some(tls) => {
                let mut server = axum_server::bind_rustls(address, tls.config)
                    .map(|inner| Acceptor::new(inner, tls.refusals))
                    .handle(handle);
                bound_head(server.http_builder());
                server.serve(service).await
            }
            None => {
                let mut server = axum_server::bind(address).handle(handle);
                bound_head(server.http_builder());
                server.serve(service).await
            }
        }
    };
    tokio::select! {
        served = serving => served.with_context(cannot),
        never = drain => never.with_context(cannot),
    }
}

fn bound_head(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(256);
}
