use std::sync::Mutex;

use super::*;
use axum::http::{Request, Response};
use kube::client::Body;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

fn secret(certificate: &str, key: &str) -> Secret {
    let data = [(CERTIFICATE_KEY, certificate), (PRIVATE_KEY, key)];
    Secret {
        data: Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value.into())))
                .into(),
        ),
        ..Secret::default()
    }
}

/// Shakes hands in memory with a client that trusts this CA, as the API server would.
fn handshake(ca: &str, config: Arc<ServerConfig>, server: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = server.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(config)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn the_api_server_trusts_what_is_issued_also_after_a_restart() {
    let made = Authority::new().unwrap();
    let stored = secret(&made.certificate, &made.key());
    let read = Authority::read(&stored, "curfew").unwrap();
    assert_eq!(read.certificate, made.certificate);
    for authority in [&made, &read] {
        for name in [
            "curfew-webhook.curfew.svc",
            "curfew-webhook.curfew.svc.cluster.local",
        ] {
            let (config, _) = authority.issue("curfew").unwrap();
            handshake(&made.certificate, config, name).unwrap();
        }
    }
    let (config, _) = read.issue("curfew").unwrap();
    assert!(
        handshake(
            &made.certificate,
            config.clone(),
            "curfew-webhook.other.svc"
        )
        .is_err()
    );
    let other = Authority::new().unwrap();
    assert!(handshake(&other.certificate, config, "curfew-webhook.curfew.svc").is_err());
}

#[test]
fn a_secret_that_holds_no_authority_is_a_clear_error() {
    let (one, two) = (Authority::new().unwrap(), Authority::new().unwrap());
    let broken = [
        (Secret::default(), "tls.crt"),
        (secret("x", &one.key()), "tls.crt"),
        (secret(&one.certificate, "x"), "tls.key"),
        (secret(&one.certificate, &two.key()), "tls.key"),
    ];
    for (secret, field) in broken {
        let error = Authority::read(&secret, "curfew")
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("Secret curfew-webhook-ca in namespace curfew"),
            "{error}"
        );
        assert!(error.contains(field), "{error}");
    }
}

/// An API server that knows nothing but Secrets, of which it has none or one.
fn api(stored: Arc<Mutex<Option<serde_json::Value>>>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let stored = stored.clone();
        async move {
            let post = request.method() == "POST";
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut stored = stored.lock().unwrap();
            let (code, reason) = match (post, stored.is_some()) {
                (true, true) => (409, "AlreadyExists"),
                (false, false) => (404, "NotFound"),
                (true, false) => {
                    *stored = Some(serde_json::from_slice(&body).unwrap());
                    (201, "")
                }
                (false, true) => (200, ""),
            };
            let answer = match (code, stored.as_ref()) {
                (200 | 201, Some(secret)) => secret.clone(),
                _ => serde_json::json!({"kind": "Status", "status": "Failure", "code": code,
                    "reason": reason, "message": reason}),
            };
            let answer = Body::from(answer.to_string().into_bytes());
            let response = Response::builder().status(code).body(answer).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Client::new(service, "curfew")
}

#[tokio::test]
async fn replicas_agree_and_a_lost_secret_comes_back() {
    let stored = Arc::new(Mutex::new(None));
    let client = api(stored.clone());
    // Both saw no Secret and made a CA; the second one to store takes the first one's.
    let first = Authority::new()
        .unwrap()
        .store(&client, "curfew")
        .await
        .unwrap();
    let second = Authority::new()
        .unwrap()
        .store(&client, "curfew")
        .await
        .unwrap();
    let third = Authority::agreed(&client, "curfew").await.unwrap();
    assert_eq!(first.certificate, second.certificate);
    assert_eq!(first.certificate, third.certificate);

    stored.lock().unwrap().take();
    assert!(first.is_agreed(&client, "curfew").await.unwrap());
    assert!(second.is_agreed(&client, "curfew").await.unwrap());
    let other = Authority::new().unwrap();
    assert!(!other.is_agreed(&client, "curfew").await.unwrap());
}
