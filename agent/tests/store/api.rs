//! As much of an API server as it takes for an agent to have a certificate, and for pods to end: it drops
//! their records then.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use curfew_core::identity::{TRUST, TRUST_KEY};
use curfew_webhook::identity::secret::Authorities;
use futures::{StreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus},
};
use rcgen::CertificateSigningRequestParams;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime};

use crate::process::NODE;

/// No certificate ends while a test runs.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// It serves until the test process ends.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    /// Who signs for the agents, and is trusted by them.
    pub(crate) authorities: Arc<Authorities>,
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
        let authorities = Arc::new(Authorities::new(DAY).unwrap());
        let signed = Arc::new(Mutex::new(Value::Null));
        let certificates = Router::new()
            .route("/api/v1/namespaces/curfew/configmaps", get(trust))
            .route(
                "/apis/certificates.k8s.io/v1/certificatesigningrequests",
                post(sign).get(answer),
            )
            .with_state((Arc::clone(&authorities), signed));
        let routes = Router::new()
            .route("/api/v1/pods", get(list))
            .route("/api/v1/namespaces/{namespace}/pods/{name}", get(look_up))
            .with_state(Arc::clone(&pods))
            .merge(certificates)
            .fallback(async || StatusCode::SERVICE_UNAVAILABLE);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || runtime.block_on(async { axum::serve(listener, routes).await }));
        Self {
            address,
            authorities,
            pods,
        }
    }

    /// The pods of these names are gone. Agents learn it when they are given a list.
    pub(crate) fn set(&self, ended: BTreeSet<String>, listed: bool) {
        *self.pods.lock().unwrap() = Pods { ended, listed };
    }
}

type Signer = (Arc<Authorities>, Arc<Mutex<Value>>);

/// The ConfigMap that names the trusted CA, which never changes.
async fn trust(State((authorities, _)): State<Signer>) -> Response {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": TRUST, "namespace": "curfew", "resourceVersion": "1"},
        "data": {TRUST_KEY: authorities.bundle()},
    });
    watched([
        json!({"type": "ADDED", "object": map}),
        end_of_list("ConfigMap"),
    ])
}

/// Signs whatever an agent asks for.
async fn sign(
    State((authorities, signed)): State<Signer>,
    Json(mut request): Json<CertificateSigningRequest>,
) -> Response {
    let text = std::str::from_utf8(&request.spec.request.0).unwrap();
    let asked = CertificateSigningRequestParams::from_pem(text).unwrap();
    let certificate = authorities
        .current
        .sign_agent_certificate(NODE, &asked.public_key, DAY)
        .unwrap();
    request.metadata.name = Some("request".to_owned());
    request.metadata.resource_version = Some("1".to_owned());
    let answer = Json(request.clone()).into_response();
    request.status = Some(CertificateSigningRequestStatus {
        certificate: Some(ByteString(certificate.into_bytes())),
        conditions: None,
    });
    *signed.lock().unwrap() = json!(request);
    (StatusCode::CREATED, answer).into_response()
}

/// Tells of the request that was signed last.
async fn answer(State((_, signed)): State<Signer>) -> Response {
    let request = signed.lock().unwrap().clone();
    watched([json!({"type": "MODIFIED", "object": request})])
}

/// A watch in which this happens, and nothing more.
fn watched(events: impl IntoIterator<Item = Value>) -> Response {
    let lines = events
        .into_iter()
        .map(|event| Ok::<_, Infallible>(format!("{event}\n")));
    let lines: Vec<_> = lines.collect();
    let watch = Body::from_stream(stream::iter(lines).chain(stream::pending()));
    ([(header::CONTENT_TYPE, "application/json")], watch).into_response()
}

/// A list without pods, so that the agent looks up each one that it has a record of. Were they listed, it
/// would read from their metadata what its store may have lost.
async fn list(State(pods): State<Arc<Mutex<Pods>>>) -> Response {
    if !pods.lock().unwrap().listed {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    watched([end_of_list("Pod")])
}

/// What ends a list that is streamed.
fn end_of_list(kind: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {
        "apiVersion": "v1", "kind": kind, "metadata": {
            "resourceVersion": "1",
            "annotations": {"k8s.io/initial-events-end": "true"},
        },
    }})
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
