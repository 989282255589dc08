//! The port that API servers call.
//!
//! Owns which clients may send requests, the limits of these requests, and which path leads to which room. The rooms
//! answer the requests.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    response::Response,
    routing::{MethodRouter, post},
};
use curfew_runtime::{
    connection_limit::{Bounds, ConnectionInfo},
    http::Gate,
};
use tokio::time::Instant;

use crate::{
    admission::{self, Admission},
    eviction_guard::{self, EvictionGuard},
    identity::Identities,
    metrics::Metrics,
    names::{EVICTION_PATH, INTERACTION_PATH, PROBE_PATH, WEBHOOKS},
    review::{self, answer},
};

/// The largest object that an API server lets into its store, and so into a review, by default.
const MAX_OBJECT: usize = 3 * 1024 * 1024 / 2;
/// The most bytes that one byte of an object becomes in JSON: `<` is written as `\u003c`.
const ESCAPED: usize = 6;
/// The largest review that is read. That of an update of a pod holds the pod twice, as it is and as it is to
/// be; who asks and what else there is has room in the rest.
pub(crate) const MAX_BODY: usize = 2 * MAX_OBJECT * ESCAPED + 1024 * 1024;
/// Who may ask, and how much at a time: of the largest reviews one from each API server.
pub(crate) const CLIENTS: Bounds = Bounds {
    bodies: 8 * MAX_BODY,
    ..Bounds::MANY
};
/// How often it is logged that somebody asks under a path that no API server was told.
const TELL_OF_STRANGERS: Duration = Duration::from_secs(10);

/// Lets in requests under the paths that API servers were told, or will be, and nobody else's.
pub(crate) fn gate(identities: Identities, metrics: Metrics) -> Gate {
    let told = Mutex::new(None::<Instant>);
    Arc::new(move |request| {
        let path = request.uri().path();
        let known = identities.borrow().as_ref().is_some_and(|identity| {
            let paths = &identity.authorities.paths;
            WEBHOOKS
                .iter()
                .fold(false, |known, (_, base)| known | paths.accept(base, path))
        });
        if !known {
            metrics.strange();
            let client = request.extensions().get().map(ConnectionInfo::address);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever tries many would else fill the log.
            if told.is_none_or(|told| told.elapsed() >= TELL_OF_STRANGERS) {
                *told = Some(Instant::now());
                tracing::warn!(
                    event = "unknown-path",
                    client = client.map(|client| client.to_string()),
                    "a request used a path that no API server was given"
                );
            }
        }
        known
    })
}

/// The routes, each for the path itself and with the token behind it. Which of them are let in is for the [`gate`],
/// and the bound on bodies for the server, see [`MAX_BODY`].
pub(crate) fn router(admission: Arc<Admission>, guard: Arc<EvictionGuard>) -> Router {
    let routes: [(&str, MethodRouter); 3] = [
        (PROBE_PATH, post(probe)),
        (
            INTERACTION_PATH,
            post(admission::interaction).with_state(admission),
        ),
        (
            EVICTION_PATH,
            post(eviction_guard::eviction).with_state(guard),
        ),
    ];
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, route)| {
            router
                .route(path, route.clone())
                .route(&format!("{path}/{{token}}"), route)
        })
        // Axum's own limit is below ours.
        .layer(DefaultBodyLimit::disable())
}

async fn probe(body: Bytes) -> Response {
    match review::read_probe(&body) {
        Ok((uid, nonce)) => answer::probe(&nonce).to(uid),
        Err(error) => answer::unreadable(&error),
    }
}
