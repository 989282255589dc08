//! As much of an API server as it takes for an agent to have a certificate, and for pods to end: it drops
//! their records then.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use curfew_api_server::{self as api_server, Answer, Asked};
use curfew_core::identity::{TRUST, TRUST_KEY};
use curfew_webhook::identity::secret::Authorities;
use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
use rcgen::CertificateSigningRequestParams;
use serde_json::{Value, json};

use crate::process::NODE;

/// No certificate ends while a test runs.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificates that agents request.
const REQUESTS: &str = "certificatesigningrequests";

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
        let pods = Arc::<Mutex<Pods>>::default();
        let authorities = Arc::new(Authorities::new(DAY).unwrap());
        let server = api_server::ApiServer::new();
        server.put(
            "configmaps",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": TRUST, "namespace": "curfew"},
                "data": {TRUST_KEY: authorities.bundle()},
            }),
        );
        let (signer, requests, known) = (authorities.clone(), server.clone(), pods.clone());
        server.script(move |asked| match asked.target.resource.as_str() {
            "configmaps" => Answer::honest(),
            REQUESTS if asked.method == "POST" => {
                Answer::json(201, &sign(&signer, &requests, asked.body.clone()))
            }
            REQUESTS => Answer::honest(),
            "pods" if known.lock().unwrap().tells(asked) => Answer::honest(),
            _ => Answer::status(503, "not in this test"),
        });
        Self {
            address: server.listen(),
            authorities,
            pods,
        }
    }

    /// The pods of these names are gone. Agents learn it when they are given a list.
    pub(crate) fn set(&self, ended: BTreeSet<String>, listed: bool) {
        *self.pods.lock().unwrap() = Pods { ended, listed };
    }
}

impl Pods {
    /// Whether a request is answered: there are no pods, and of one that has not ended nothing is told. The list is
    /// empty, so that the agent looks up each pod that it has a record of. If they were listed, it would read from their
    /// metadata what its store may have lost.
    fn tells(&self, asked: &Asked) -> bool {
        match asked.target.name.as_str() {
            "" => self.listed,
            name => asked.method == "GET" && self.ended.contains(name),
        }
    }
}

/// Signs whatever an agent asks for. Returns the request as it was made: the agent sees the certificate in its watch.
fn sign(authorities: &Authorities, server: &api_server::ApiServer, mut request: Value) -> Value {
    let parsed: CertificateSigningRequest = serde_json::from_value(request.clone()).unwrap();
    let text = std::str::from_utf8(&parsed.spec.request.0).unwrap();
    let wanted = CertificateSigningRequestParams::from_pem(text).unwrap();
    let certificate = authorities
        .current
        .sign_agent_certificate(NODE, &wanted.public_key, DAY)
        .unwrap();
    request["metadata"]["name"] = json!("request");
    let made = server.put(REQUESTS, request.clone());
    request["status"] = json!({"certificate": ByteString(certificate.into_bytes())});
    server.put(REQUESTS, request);
    made
}
