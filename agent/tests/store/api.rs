//! As much of an API server as it takes for pods to end: the agent drops their records then.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{net::TcpListener, runtime};

/// It serves until the test process ends.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    pods: Arc<Mutex<Pods>>,
}

#[derive(Default)]
struct Pods {
    ended: BTreeSet<String>,
    listed: bool,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let pods = Arc::new(Mutex::new(Pods::default()));
        let routes = Router::new()
            .route("/api/v1/pods", get(list))
            .route("/api/v1/namespaces/{namespace}/pods/{name}", get(look_up))
            .fallback(async || StatusCode::SERVICE_UNAVAILABLE)
            .with_state(Arc::clone(&pods));
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || runtime.block_on(async { axum::serve(listener, routes).await }));
        Self { address, pods }
    }

    /// The pods of these names are gone. Agents learn it when they are given a list.
    pub(crate) fn set(&self, ended: BTreeSet<String>, listed: bool) {
        *self.pods.lock().unwrap() = Pods { ended, listed };
    }
}

/// A list without pods, so that the agent looks up each one that it has a record of. Were they listed, it
/// would read from their metadata what its store may have lost.
async fn list(State(pods): State<Arc<Mutex<Pods>>>) -> Response {
    if !pods.lock().unwrap().listed {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let end_of_list = json!({"type": "BOOKMARK", "object": {
        "apiVersion": "v1", "kind": "Pod", "metadata": {
            "resourceVersion": "1",
            "annotations": {"k8s.io/initial-events-end": "true"},
        },
    }});
    let line = Ok::<_, std::convert::Infallible>(format!("{end_of_list}\n"));
    let watch = Body::from_stream(stream::iter([line]).chain(stream::pending()));
    ([(header::CONTENT_TYPE, "application/json")], watch).into_response()
}

/// Says of a pod that it is gone, or nothing.
async fn look_up(
    State(pods): State<Arc<Mutex<Pods>>>,
    Path((_, name)): Path<(String, String)>,
) -> Response {
    if !pods.lock().unwrap().ended.contains(&name) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": "NotFound", "message": format!("pods {name:?} not found"), "code": 404,
    });
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}
