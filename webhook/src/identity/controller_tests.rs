use curfew_api_server::{ApiServer, Target};
use serde_json::{Value, json};

use super::*;

const LIFETIMES: Lifetimes = Lifetimes {
    certificate: Duration::from_secs(60),
    authority: Duration::from_secs(3600),
    // No test takes so long that a step becomes due in it.
    overlap: Duration::from_secs(300),
    path: Duration::from_secs(600),
};

/// An API server that tells agents to trust this CA, and API servers this CA and path.
struct Cluster(ApiServer);

impl Cluster {
    fn new() -> Self {
        let cluster = Self(ApiServer::new());
        cluster.publish("", "");
        cluster
    }

    fn publish(&self, trusted: &str, told: &str) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {TRUST_KEY: trusted},
            "metadata": {"namespace": "curfew", "name": TRUST}});
        self.0.put("configmaps", map);
        let ca = k8s_openapi::ByteString(trusted.as_bytes().to_vec());
        let client = json!({"caBundle": ca,
            "service": {"name": "w", "namespace": "curfew", "path": told}});
        let webhook = json!({"name": "interaction.curfew.dev", "clientConfig": client, "sideEffects": "None",
            "admissionReviewVersions": ["v1"]});
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": {"name": CONFIGURATION},
            "webhooks": [webhook]});
        self.0.put("validatingwebhookconfigurations", configuration);
    }

    /// The CA's Secret, as a request would name it.
    fn secret() -> Target {
        Target::object("secrets", "curfew", NAME)
    }

    /// Changes the Secret, as somebody else might.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut secret = self.0.get(&Self::secret()).unwrap();
        change(&mut secret);
        self.0.put("secrets", secret);
    }

    fn annotate(&self, annotations: Value) {
        self.change(|secret| secret["metadata"]["annotations"] = annotations);
    }

    /// A replica with this API server.
    fn replica(&self) -> IdentityController {
        IdentityController {
            client: self.0.client(),
            namespace: "curfew".to_owned(),
            lifetimes: LIFETIMES,
            client_ca: None,
            metrics: Metrics::new().unwrap(),
        }
    }
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    // Both saw no Secret and made a CA.
    let made = [(); 2].map(|()| Authorities::new(LIFETIMES.authority).unwrap());
    let first = one.create(&made[0]).await.unwrap();
    let second = two.create(&made[1]).await.unwrap();
    assert!(first.authorities.is_same(&made[0]));
    assert!(second.authorities.is_same(&first.authorities));
    assert!(
        cluster
            .replica()
            .agreed()
            .await
            .unwrap()
            .authorities
            .is_same(&made[0])
    );
}

#[tokio::test]
async fn a_secret_that_is_lost_comes_back_and_one_that_is_unfit_is_passed_over() {
    let cluster = Cluster::new();
    let controller = cluster.replica();
    let mut known = controller.agreed().await.unwrap();
    let before = known.authorities.bundle();
    cluster.0.remove(&Cluster::secret()).unwrap();
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
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let first = one.agreed().await.unwrap().authorities;
    one.carry_out(&first, ExchangeStep::Prepare).await.unwrap();
    let late = two
        .carry_out(&first, ExchangeStep::Prepare)
        .await
        .unwrap_err();
    assert!(
        late.to_string().contains("another replica did it first"),
        "{late}"
    );
    let prepared = one.stored().await.unwrap().unwrap().authorities;
    assert!(prepared.next().is_some());

    let untold = one
        .carry_out(&prepared, ExchangeStep::Switch)
        .await
        .unwrap_err();
    assert!(
        untold.to_string().contains("does not contain it yet"),
        "{untold}"
    );
    cluster.publish(&prepared.bundle(), "");
    one.carry_out(&prepared, ExchangeStep::Switch)
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
    let cluster = Cluster::new();
    let controller = cluster.replica();
    controller.agreed().await.unwrap();
    cluster.annotate(json!({ROTATE: "now", "example.org/kept": "yes"}));
    let known = controller.stored().await.unwrap().unwrap();
    assert!(known.asked);
    controller.advance(&known).await;
    let known = controller.stored().await.unwrap().unwrap();
    assert!(!known.asked && known.authorities.next().is_some());
    let secret = cluster.0.get(&Cluster::secret()).unwrap();
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({"example.org/kept": "yes"})
    );
}

#[tokio::test]
async fn a_path_is_good_until_api_servers_are_told_the_next_one() {
    const BASE: &str = crate::names::INTERACTION_PATH;
    let cluster = Cluster::new();
    let (one, two) = (cluster.replica(), cluster.replica());
    let first = one.agreed().await.unwrap().authorities;
    cluster.annotate(json!({ROTATE_PATH: "now", "example.org/kept": "yes"}));
    let known = one.stored().await.unwrap().unwrap();
    assert!(known.asked_path && !known.asked);
    one.advance(&known).await;
    let known = two.stored().await.unwrap().unwrap();
    assert!(!known.asked_path);
    let prepared = known.authorities;
    assert!(prepared.is_same(&first), "the CA stays");
    assert_eq!(prepared.paths.told(BASE), first.paths.told(BASE));

    let late = two.carry_out_of_paths(&first, ExchangeStep::Prepare).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("another replica did it first"), "{late}");
    let step = ExchangeStep::Switch;
    two.carry_out_of_paths(&prepared, step).await.unwrap();
    let switched = one.stored().await.unwrap().unwrap().authorities;
    let (old, new) = (first.paths.told(BASE), switched.paths.told(BASE));
    assert_ne!(old, new);

    cluster.publish("", &old);
    let untold = one
        .carry_out_of_paths(&switched, ExchangeStep::Retire)
        .await;
    let untold = untold.unwrap_err().to_string();
    assert!(untold.contains("does not contain it yet"), "{untold}");
    cluster.publish("", &new);
    let step = ExchangeStep::Retire;
    one.carry_out_of_paths(&switched, step).await.unwrap();
    let retired = two.stored().await.unwrap().unwrap().authorities;
    assert!(!retired.paths.accept(BASE, &old) && retired.paths.accept(BASE, &new));
}

#[tokio::test]
async fn a_secret_of_an_earlier_release_gets_paths_and_keeps_those_that_are_known() {
    let cluster = Cluster::new();
    let controller = cluster.replica();
    controller.agreed().await.unwrap();
    let forget = || {
        cluster.change(|secret| {
            let data = secret["data"].as_object_mut().unwrap();
            data.retain(|key, _| !key.starts_with("path."));
        });
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
    let mut controller = Cluster::new().replica();
    assert!(controller.clients().unwrap().is_none());
    controller.client_ca = Some("/nowhere/ca.crt".into());
    let error = controller.clients().err().unwrap().to_string();
    assert!(error.contains("--client-ca: /nowhere/ca.crt"), "{error}");
}
