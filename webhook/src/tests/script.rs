//! An agent and an API server that do as they are told, and the router between them.

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    admission::{Admission, Removal},
    args::{Budgets, Unrecorded},
    behaviour::{self, BehaviourUpdater, PodLeftovers},
    eviction_guard::EvictionGuard,
    identity::{Identity, paths::Paths, secret::Authorities},
    leftovers::Leftovers,
    metrics::Metrics,
    names::INTERACTION_PATH,
    policy::{self, RulesUpdater},
    recording::{Recorder, forward::Forwarder},
    server,
};
use axum::{
    Json, Router,
    extract::State,
    http::{Request, StatusCode},
    response::IntoResponse,
    routing::post,
};
use axum_server::tls_rustls::RustlsConfig;
use curfew_api_server::{Answer, ApiServer, Asked};
use curfew_core::{Enforcement, Notice, Receipt, Record, identity, notice, terms::DefaultTerms};
use curfew_crd::Stored;
use curfew_runtime::{
    http::{Gate, Limits, bounded, gated},
    tls::{Leaf, Trust},
};
use http_body_util::BodyExt;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::{
    net::TcpSocket,
    sync::{mpsc, watch},
};
use tower::ServiceExt;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Long for a machine that is busy: only what never answers is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// For what never answers.
const SHORT: Duration = Duration::from_millis(300);

/// What the node's agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Stores what it is told.
    Stores,
    /// Stores it after a while, and of so many notices at once and no more.
    Few(usize),
    /// There is none.
    None,
    /// Its address is known, but nobody listens there.
    Down,
    /// Never answers.
    Slow,
    /// Says that it could not store.
    Fails,
    /// Says something that is no receipt.
    Babbles,
    /// Is none: it has the certificate of an agent of another node.
    Elsewhere,
    /// Is none: the CA that vouches for it is not Curfew's.
    Foreign,
}

/// What the replica has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Policies,
    Nothing,
}

/// What the API server does.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The pod.
    pub(crate) pod: Value,
    /// The status of each read.
    pub(crate) get: u16,
    /// Whether each read takes longer than anybody waits for it.
    pub(crate) late: bool,
    /// The status of each patch.
    pub(crate) patch: u16,
    /// So many patches find that the pod has changed.
    pub(crate) conflicts: u32,
    /// The labels of every namespace, when it is read.
    pub(crate) labels: Value,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            pod: json!({
                "metadata": {
                    "name": "one", "namespace": "wh-test", "uid": "u-1", "resourceVersion": "7",
                    "annotations": {"example.org/kept": "yes"}
                },
                "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "x"}]},
                "status": {"phase": "Running"}
            }),
            get: 200,
            late: false,
            patch: 200,
            conflicts: 0,
            labels: json!({}),
        }
    }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

/// The router, with what agent and API server were told.
pub(crate) struct Script {
    admission: Arc<Admission>,
    guard: Arc<EvictionGuard>,
    pub(crate) forwarder: Forwarder,
    metrics: Metrics,
    notices: Notices,
    api: ApiServer,
    updater: RulesUpdater,
    pub(crate) behaviour: BehaviourUpdater,
    leftovers: Leftovers,
    found: mpsc::Receiver<PodLeftovers>,
    told: Paths,
    gate: Gate,
    _identities: watch::Sender<Option<Identity>>,
    _agents: watch::Sender<Arc<HashMap<String, SocketAddr>>>,
}

impl Script {
    pub(crate) async fn start(agent: Agent, api: Api) -> Self {
        Self::reading(Reads::Policies, agent, api)
    }

    /// One that could not read the policies yet.
    pub(crate) fn without_policies(agent: Agent, api: Api) -> Self {
        Self::reading(Reads::Nothing, agent, api)
    }

    fn reading(reads: Reads, agent: Agent, api: Api) -> Self {
        let notices = Notices::default();
        let late = api.late;
        let authorities = Arc::new(Authorities::new(DAY).unwrap());
        let identity = Identity::new(None, authorities.clone(), None, "curfew", DAY).unwrap();
        let told = identity.authorities.paths.clone();
        let (keep, identities) = watch::channel(Some(identity));
        let mut known = HashMap::new();
        if let Some(address) = start_agent(agent, notices.clone(), &authorities) {
            known.insert("node-1".to_owned(), address);
        }
        let (sender, agents) = watch::channel(Arc::new(known));
        let api = api_server(api);
        let client = api.client();
        let metrics = Metrics::new().unwrap();
        let budgets = Budgets {
            pod: if late { SHORT } else { PATIENCE },
            agent: if agent == Agent::Slow {
                SHORT
            } else {
                PATIENCE
            },
            fallback: if late { SHORT } else { PATIENCE },
        };
        let defaults = DefaultTerms {
            ttl: Duration::from_secs(600),
            max_extension: Duration::from_secs(3600),
            max_hold: Duration::from_secs(7200),
            enforcement: Enforcement::Enforce,
        };
        let (rules, mut updater) = policy::rules(defaults, &metrics.watches);
        match reads {
            Reads::Policies => updater.set(Vec::new(), HashMap::new()),
            // Without their updater the rules need not be waited for: they know nothing, and never will.
            Reads::Nothing => updater = policy::rules(defaults, &metrics.watches).1,
        }
        let (behaviour, behaviour_updater, found) = behaviour::behaviour(&metrics);
        let gate = server::gate(identities.clone(), metrics.clone());
        let forwarder = Forwarder::new(agents, identities, budgets.agent, metrics.refusals.clone());
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
            client,
            namespace: "curfew".to_owned(),
            rules,
            behaviour,
            unrecorded: Unrecorded::Deny,
            removal: Removal::default(),
            pod_timeout: budgets.pod,
            metrics: metrics.clone(),
        });
        Self {
            admission,
            guard,
            forwarder,
            metrics,
            notices,
            api,
            updater,
            behaviour: behaviour_updater,
            leftovers,
            found,
            told,
            gate,
            _identities: keep,
            _agents: sender,
        }
    }

    /// These are the policies from now on, and these the labels of the pod's namespace.
    pub(crate) fn policies(&self, policies: &[(&str, Value)], labels: &[(&str, &str)]) {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let namespaces = [("wh-test".to_owned(), Arc::new(labels.collect()))];
        self.updater.set(stored(policies), namespaces.into());
    }

    /// The same, and of the pod's namespace nothing is known.
    pub(crate) fn policies_elsewhere(&self, policies: &[(&str, Value)]) {
        self.updater.set(stored(policies), HashMap::new());
    }

    /// What becomes of an interaction that could be recorded nowhere.
    pub(crate) fn unrecorded(&mut self, unrecorded: Unrecorded) {
        Arc::get_mut(&mut self.admission).unwrap().unrecorded = unrecorded;
    }

    /// Posts a review of an interaction and returns the review that answers it.
    pub(crate) async fn admit(&self, body: String) -> Value {
        let (status, text) = self.post(body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn post(&self, body: String) -> (StatusCode, String) {
        self.post_to(INTERACTION_PATH, body).await
    }

    /// Posts under the path that the API server is told.
    pub(crate) async fn post_to(&self, base: &str, body: String) -> (StatusCode, String) {
        self.post_under(&self.told.told(base), body).await
    }

    /// Posts under this path.
    pub(crate) async fn post_under(&self, path: &str, body: String) -> (StatusCode, String) {
        let limits = Limits {
            body: server::MAX_BODY,
            request: 3 * PATIENCE,
            concurrent: 16,
            connection_limit: server::CLIENTS,
            drain: Duration::ZERO,
        };
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .unwrap();
        let router = bounded(
            server::router(self.admission.clone(), self.guard.clone()),
            limits,
        );
        let router = gated(router, self.gate.clone());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The pod has these annotations, too; what sessions left there is looked at. Returns how often that failed.
    pub(crate) async fn touched(&mut self, annotations: &BTreeMap<&'static str, String>) -> usize {
        let mut pod = the_pod(&self.api);
        pod["metadata"]["annotations"] = json!(annotations);
        self.behaviour.touched(pod).await;
        let mut failures = 0;
        while let Ok(found) = self.found.try_recv() {
            failures += usize::from(self.leftovers.judge_once(found).await.is_err());
        }
        failures
    }

    /// What the agent stored.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }

    /// What the API server was asked to patch, refused or not.
    pub(crate) fn patches(&self) -> Vec<Value> {
        let patches = self.asked().filter(|asked| asked.method == "PATCH");
        patches.map(|asked| asked.body).collect()
    }

    /// The paths that the API server was asked for, but for the list of namespaces.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked().map(|asked| asked.path).collect()
    }

    fn asked(&self) -> impl Iterator<Item = Asked> {
        let asked = self.api.asked().into_iter();
        asked.filter(|asked| asked.path != "/api/v1/namespaces")
    }

    /// The sum of a counter over all its labels.
    pub(crate) fn total(&self, name: &str) -> f64 {
        self.metrics.count(&format!("curfew_webhook_{name}"), &[])
    }

    pub(crate) fn counted(&self, name: &str, label: &str, value: &str) -> f64 {
        self.metrics
            .count(&format!("curfew_webhook_{name}"), &[(label, value)])
    }
}

fn stored(policies: &[(&str, Value)]) -> Vec<Stored> {
    policies
        .iter()
        .map(|(name, spec)| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec,
            }))
            .unwrap()
        })
        .collect()
}

/// A review as an API server sent it.
pub(crate) fn review(name: &str) -> String {
    let path = format!("{}/tests/reviews/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The review of `kubectl exec one -c app -- echo hi`.
pub(crate) fn exec() -> String {
    review("exec")
}

/// A review with a text in it replaced everywhere.
pub(crate) fn changed(body: String, from: &str, to: &str) -> String {
    assert!(body.contains(from), "{from} is not in {body}");
    body.replace(from, to)
}

fn start_agent(agent: Agent, notices: Notices, authorities: &Authorities) -> Option<SocketAddr> {
    if agent == Agent::None {
        return None;
    }
    if agent == Agent::Down {
        // Nobody else gets the port while the test runs: it is never closed.
        let socket = Box::leak(Box::new(TcpSocket::new_v4().unwrap()));
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        return Some(socket.local_addr().unwrap());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let node = match agent {
        Agent::Elsewhere => "node-2",
        _ => "node-1",
    };
    let foreign = Authorities::new(DAY).unwrap();
    let issuer = match agent {
        Agent::Foreign => &foreign.current,
        _ => &authorities.current,
    };
    let key = KeyPair::generate().unwrap();
    let certificate = issuer.sign_agent_certificate(node, &key, DAY).unwrap();
    let leaf = Leaf::from_pem(certificate.as_bytes(), key.serialize_der()).unwrap();
    let trust = Trust::from_pem(&authorities.bundle()).unwrap();
    let config = leaf.serve_only(trust.clients(identity::WEBHOOK).unwrap());
    let config = RustlsConfig::from_config(Arc::new(config.unwrap()));
    let router =
        Router::new()
            .route(notice::PATH, post(take))
            .with_state((agent, notices, Arc::default()));
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));
    Some(address)
}

async fn take(
    State((agent, notices, in_hand)): State<(Agent, Notices, Arc<AtomicUsize>)>,
    Json(notice): Json<Notice>,
) -> axum::response::Response {
    match agent {
        Agent::Few(most) => {
            if in_hand.fetch_add(1, Ordering::SeqCst) >= most {
                return (StatusCode::SERVICE_UNAVAILABLE, "too many").into_response();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            in_hand.fetch_sub(1, Ordering::SeqCst);
        }
        Agent::Slow => std::future::pending().await,
        Agent::Fails => return (StatusCode::SERVICE_UNAVAILABLE, "disk full").into_response(),
        Agent::Babbles => return "hello".into_response(),
        _ => {}
    }
    let record = Record::new(notice.pod.clone(), notice.known.clone());
    notices.lock().unwrap().push(notice);
    Json(Receipt {
        version: notice::VERSION,
        eviction_time: record.deadline(),
        dry_run: record.is_dry_run(),
        interactions: record.interactions(),
    })
    .into_response()
}

fn the_pod(server: &ApiServer) -> Value {
    server.list("pods").remove(0)
}

/// An API server that has one pod, of whichever name it is asked for.
fn api_server(api: Api) -> ApiServer {
    let server = ApiServer::new();
    server.put(
        "namespaces",
        json!({"metadata": {"name": "wh-test", "labels": api.labels}}),
    );
    server.put("pods", api.pod);
    let (known, mut conflicts) = (server.clone(), api.conflicts);
    server.script(move |asked| {
        if asked.path == "/api/v1/namespaces" {
            return Answer::honest();
        }
        if asked.method == "GET" {
            return match api.get {
                _ if api.late => Answer::never(),
                200 => Answer::json(200, &the_pod(&known)),
                code => Answer::status(code, "as the script says"),
            };
        }
        if conflicts > 0 {
            conflicts -= 1;
            known.put("pods", the_pod(&known));
            return Answer::honest();
        }
        match api.patch {
            200 => Answer::honest(),
            code => Answer::status(code, "as the script says"),
        }
    });
    server
}
