use std::sync::Mutex;

use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

const LIFETIMES: Lifetimes = Lifetimes {
    certificate: Duration::from_secs(60),
    authority: Duration::from_secs(3600),
    // No test takes so long that a step becomes due in it.
    overlap: Duration::from_secs(300),
    path: Duration::from_secs(600),
};

/// What an API server knows: the Secret, if there is one, and what it tells agents and itself to trust.
#[derive(Default)]
struct Stored {
    secret: Option<Value>,
    version: u32,
    trusted: String,
    /// The path that API servers are told.
    told: String,
}

impl Stored {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        if path.contains("configmaps") {
            return (
                200,
                json!({"metadata": {"name": TRUST}, "data": {TRUST_KEY: self.trusted}}),
            );
        }
        if path.contains("validatingwebhookconfigurations") {
            let ca = k8s_openapi::ByteString(self.trusted.clone().into_bytes());
            let client = json!({"caBundle": ca,
                "service": {"name": "w", "namespace": "curfew", "path": self.told}});
            let webhook = json!({"name": "interaction.curfew.dev", "clientConfig": client, "sideEffects": "None",
                "admissionReviewVersions": ["v1"]});
            return (200, json!({"metadata": {}, "webhooks": [webhook]}));
        }
        let known = self.secret.as_ref();
        let version = known.map(|known| known["metadata"]["resourceVersion"].clone());
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, version) {
            ("POST", Some(_)) => (409, json!("AlreadyExists")),
            ("GET", None) => (404, json!("NotFound")),
            ("PUT", version) if version.as_ref() != Some(&sent["metadata"]["resourceVersion"]) => {
                (409, json!("Conflict"))
            }
            ("POST" | "PUT", _) => {
                self.version += 1;
                let mut secret = sent;
                secret["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.secret = Some(secret.clone());
                (200, secret)
            }
            _ => (200, self.secret.clone().unwrap_or_default()),
        }
    }
}

/// A replica with that API server.
fn replica(stored: &Arc<Mutex<Stored>>) -> IdentityController {
    let stored = stored.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let stored = stored.clone();
        async move {
            let (method, path) = (
                request.method().to_string(),
                request.uri().path().to_owned(),
            );
            let body = request.into_body().collect_bytes().await.unwrap();
            let (code, answer) = stored.lock().unwrap().answer(&method, &path, &body);
            let answer = match code {
                200 => answer,
                _ => {
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": answer,
                    "message": answer})
                }
            };
            let body = Body::from(answer.to_string().into_bytes());
            let response = Response::builder().status(code).body(body).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    IdentityController {
        client: Client::new(service, "curfew"),
        namespace: "curfew".to_owned(),
        lifetimes: LIFETIMES,
        client_ca: None,
        metrics: Metrics::new().unwrap(),
    }
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let stored = Arc::default();
    let (one, two) = (replica(&stored), replica(&stored));
    // Both saw no Secret and made a CA.
    let made = [(); 2].map(|()| Authorities::new(LIFETIMES.authority).unwrap());
    let first = one.create(&made[0]).await.unwrap();
    let second = two.create(&made[1]).await.unwrap();
    assert!(first.authorities.is_same(&made[0]));
    assert!(second.authorities.is_same(&first.authorities));
    assert!(
        replica(&stored)
            .agreed()
            .await
            .unwrap()
            .authorities
            .is_same(&made[0])
    );
}

#[tokio::test]
async fn a_secret_that_is_lost_comes_back_and_one_that_is_unfit_is_passed_over() {
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let controller = replica(&stored);
    let mut known = controller.agreed().await.unwrap();
    let before = known.authorities.bundle();
    stored.lock().unwrap().secret = None;
    assert!(
        !controller.adopt(&mut known, None).await,
        "it is the same CA"
    );
    let again = controller.stored().await.unwrap().unwrap();
    assert_eq!(again.authorities.bundle(), before);

    assert!(!controller.adopt(&mut known, Some(Secret::default())).await);
    assert_eq!(known.authorities.bundle(), before);

    let other = Authorities::new(LIFETIMES.authority).unwrap();
    assert!(controller.adopt(&mut known, Some(other.write(None))).await);
    assert_eq!(known.authorities.bundle(), other.bundle());
}

#[tokio::test]
async fn a_ca_issues_only_when_all_are_told_to_trust_it() {
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let (one, two) = (replica(&stored), replica(&stored));
    let first = one.agreed().await.unwrap().authorities;
    one.carry_out(&first, AuthorityStep::Prepare).await.unwrap();
    let late = two
        .carry_out(&first, AuthorityStep::Prepare)
        .await
        .unwrap_err();
    assert!(
        late.to_string().contains("another replica did it first"),
        "{late}"
    );
    let prepared = one.stored().await.unwrap().unwrap().authorities;
    assert!(prepared.next().is_some());

    let untold = one
        .carry_out(&prepared, AuthorityStep::Switch)
        .await
        .unwrap_err();
    assert!(
        untold.to_string().contains("does not contain it yet"),
        "{untold}"
    );
    stored.lock().unwrap().trusted = prepared.bundle();
    one.carry_out(&prepared, AuthorityStep::Switch)
        .await
        .unwrap();
    let switched = two.stored().await.unwrap().unwrap().authorities;
    assert_eq!(
        Some(switched.current.certificate.trim_end()),
        prepared.next()
    );
    assert!(
        switched
            .bundle()
            .contains(first.current.certificate.trim_end())
    );
}

#[tokio::test]
async fn an_exchange_that_was_asked_for_is_asked_for_once() {
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let controller = replica(&stored);
    controller.agreed().await.unwrap();
    stored.lock().unwrap().secret.as_mut().unwrap()["metadata"]["annotations"] =
        json!({ROTATE: "now", "example.org/kept": "yes"});
    let known = controller.stored().await.unwrap().unwrap();
    assert!(known.asked);
    controller.advance(&known).await;
    let known = controller.stored().await.unwrap().unwrap();
    assert!(!known.asked && known.authorities.next().is_some());
    let secret = stored.lock().unwrap().secret.clone().unwrap();
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({"example.org/kept": "yes"})
    );
}

#[tokio::test]
async fn a_path_is_good_until_api_servers_are_told_the_next_one() {
    const BASE: &str = crate::names::INTERACTION_PATH;
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let (one, two) = (replica(&stored), replica(&stored));
    let first = one.agreed().await.unwrap().authorities;
    stored.lock().unwrap().secret.as_mut().unwrap()["metadata"]["annotations"] =
        json!({ROTATE_PATH: "now", "example.org/kept": "yes"});
    let known = one.stored().await.unwrap().unwrap();
    assert!(known.asked_path && !known.asked);
    one.advance(&known).await;
    let known = two.stored().await.unwrap().unwrap();
    assert!(!known.asked_path);
    let prepared = known.authorities;
    assert!(prepared.is_same(&first), "the CA stays");
    assert_eq!(prepared.paths.told(BASE), first.paths.told(BASE));

    let late = two.carry_out_of_paths(&first, PathStep::Prepare).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("another replica did it first"), "{late}");
    let step = PathStep::Switch;
    two.carry_out_of_paths(&prepared, step).await.unwrap();
    let switched = one.stored().await.unwrap().unwrap().authorities;
    let (old, new) = (first.paths.told(BASE), switched.paths.told(BASE));
    assert_ne!(old, new);

    stored.lock().unwrap().told = old.clone();
    let untold = one.carry_out_of_paths(&switched, PathStep::Retire).await;
    let untold = untold.unwrap_err().to_string();
    assert!(untold.contains("does not contain it yet"), "{untold}");
    stored.lock().unwrap().told = new.clone();
    let step = PathStep::Retire;
    one.carry_out_of_paths(&switched, step).await.unwrap();
    let retired = two.stored().await.unwrap().unwrap().authorities;
    assert!(!retired.paths.accept(BASE, &old) && retired.paths.accept(BASE, &new));
}

#[tokio::test]
async fn a_secret_of_an_earlier_release_gets_paths_and_keeps_those_that_are_known() {
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let controller = replica(&stored);
    controller.agreed().await.unwrap();
    let forget = || {
        let mut stored = stored.lock().unwrap();
        let data = stored.secret.as_mut().unwrap()["data"].as_object_mut();
        data.unwrap().retain(|key, _| !key.starts_with("path."));
    };
    forget();
    let mut known = controller.agreed().await.unwrap();
    assert!(!known.authorities.has_stored_paths);
    controller.advance(&known).await;
    assert!(controller.look(&mut known).await || known.authorities.has_stored_paths);
    let paths = known.authorities.paths.clone();
    // The earlier release writes it once more.
    forget();
    controller.look(&mut known).await;
    assert!(!known.authorities.has_stored_paths && known.authorities.paths == paths);
    controller.advance(&known).await;
    let again = controller.stored().await.unwrap().unwrap().authorities;
    assert!(again.has_stored_paths && again.paths == paths);
}

#[tokio::test]
async fn a_client_ca_that_cannot_be_read_is_said() {
    let mut controller = replica(&Arc::default());
    assert!(controller.clients().unwrap().is_none());
    controller.client_ca = Some("/nowhere/ca.crt".into());
    let error = controller.clients().err().unwrap().to_string();
    assert!(error.contains("--client-ca: /nowhere/ca.crt"), "{error}");
}
