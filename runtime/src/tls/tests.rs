use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, routing::get};
use axum_server::tls_rustls::RustlsConfig;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::HandshakeSignatureValid, pki_types::UnixTime,
    server::danger::ClientCertVerified,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::Catalog;
use crate::{
    connection_limit::Bounds,
    http::{self, Limits},
};

const SERVER: &str = "node-1.agent.curfew.dev";
const CLIENT: &str = "webhook.curfew.dev";

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(&self.pem).unwrap()
    }

    /// A certificate that holds from so many seconds from now on until so many.
    fn leaf(&self, name: &str, purpose: ExtendedKeyUsagePurpose, from: i64, until: i64) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let at = |seconds: i64| {
            let offset = Duration::from_secs(seconds.unsigned_abs());
            match seconds < 0 {
                true => SystemTime::now() - offset,
                false => SystemTime::now() + offset,
            }
        };
        params.not_before = at(from).into();
        params.not_after = at(until).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf::new(certificate.der().clone(), key.serialize_der()).unwrap()
    }

    fn client(&self) -> Leaf {
        self.leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth, -60, 60)
    }

    fn server(&self) -> Leaf {
        self.leaf(SERVER, ExtendedKeyUsagePurpose::ServerAuth, -60, 60)
    }
}

/// A server that lets in whom it is told to, and says hello to them.
struct Server {
    address: SocketAddr,
    config: RustlsConfig,
    clients: watch::Sender<Arc<dyn ClientCertVerifier>>,
    refusals: Refusals,
    stop: CancellationToken,
}

impl Server {
    fn start(leaf: &Leaf, trust: &Trust) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let verifier = trust.clients(CLIENT).unwrap();
        let config =
            RustlsConfig::from_config(Arc::new(leaf.serve_only(verifier.clone()).unwrap()));
        let refusals =
            Refusals::new(&mut Catalog::default(), "refused_total", "For tests").unwrap();
        let (sender, clients) = watch::channel(verifier);
        let router = Router::new().route("/", get(async || "hello"));
        let router = only(
            router,
            move || Some(clients.borrow().clone()),
            refusals.clone(),
        );
        let stop = CancellationToken::new();
        let limits = Limits {
            body: 0,
            request: Duration::from_secs(5),
            concurrent: 4,
            connection_limit: Bounds::FEW,
            drain: Duration::ZERO,
        };
        let tls = http::Tls {
            config: config.clone(),
            refusals: refusals.clone(),
        };
        let crowded = IntCounter::new("crowded_total", "For tests").unwrap();
        let serving = http::serve(
            address,
            Some(tls),
            (router, None),
            limits,
            crowded,
            stop.clone(),
        );
        tokio::spawn(serving);
        Self {
            address,
            config,
            clients: sender,
            refusals,
            stop,
        }
    }

    async fn connect(&self) -> TcpStream {
        for _ in 0..2000 {
            if let Ok(stream) = TcpStream::connect(self.address).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody listens");
    }

    /// Says hello on a new connection.
    async fn call(&self, config: ClientConfig) -> Result<String, Box<dyn std::error::Error>> {
        let mut client = self.open(config).await?;
        hello(&mut client).await
    }

    async fn open(&self, config: ClientConfig) -> Result<Client, Box<dyn std::error::Error>> {
        let name = ServerName::try_from(SERVER).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, self.connect().await)
            .await?;
        let (client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn counts(&self, refusal: Refusal) -> u64 {
        // The server counts when it is told, which the client does not wait for.
        for _ in 0..2000 {
            let count = self.refusals.0.with_label_values(&[refusal.as_ref()]).get();
            if count > 0 {
                return count;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Client = hyper::client::conn::http1::SendRequest<Empty<bytes::Bytes>>;

async fn hello(client: &mut Client) -> Result<String, Box<dyn std::error::Error>> {
    let request = axum::http::Request::get("/")
        .header("host", SERVER)
        .body(Empty::new())?;
    let answer = client.send_request(request).await?;
    let status = answer.status();
    let text = answer.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    match status.is_success() {
        true => Ok(text),
        false => Err(format!("{status}: {text}").into()),
    }
}

fn anonymous(trust: &Trust) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(trust.roots.clone())
        .with_no_client_auth()
}

#[tokio::test]
async fn only_a_good_certificate_of_the_right_name_is_let_in() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = Server::start(&ca.server(), &ca.trust());
    let trust = ca.trust();
    let hello = server.call(ca.client().call(&trust).unwrap()).await;
    assert_eq!(hello.unwrap(), "hello");

    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    for (leaf, refusal) in [
        (ca.leaf(CLIENT, ClientAuth, -7200, -3600), Refusal::Expired),
        (ca.leaf(CLIENT, ClientAuth, 3600, 7200), Refusal::Early),
        (foreign.client(), Refusal::Untrusted),
        (ca.leaf(SERVER, ClientAuth, -60, 60), Refusal::Name),
        (ca.leaf(CLIENT, ServerAuth, -60, 60), Refusal::Purpose),
    ] {
        let said = server.call(leaf.call(&trust).unwrap()).await;
        assert!(said.is_err(), "{refusal:?}: {said:?}");
        assert_eq!(server.counts(refusal).await, 1, "{refusal:?}");
    }
    assert!(server.call(anonymous(&trust)).await.is_err());
    assert_eq!(server.counts(Refusal::Missing).await, 1);

    let mut plain = server.connect().await;
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(server.counts(Refusal::Protocol).await, 1);
}

/// As the webhook does with `--client-ca`.
#[tokio::test]
async fn any_certificate_of_the_ca_is_let_in_where_no_name_is_asked_for() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let (trust, leaf) = (ca.trust(), ca.server());
    let server = Server::start(&leaf, &trust);
    let anyone = trust.any_client().unwrap();
    let config = leaf.serve(Some(anyone.clone())).unwrap();
    server.config.reload_from_config(Arc::new(config));
    server.clients.send_replace(anyone);
    let http1 = |mut config: ClientConfig| {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    };
    let api_server = ca.leaf("api-server", ExtendedKeyUsagePurpose::ClientAuth, -60, 60);
    let said = server.call(http1(api_server.call(&trust).unwrap())).await;
    assert_eq!(said.unwrap(), "hello");
    let stranger = http1(foreign.client().call(&trust).unwrap());
    assert!(server.call(stranger).await.is_err());
    assert_eq!(server.counts(Refusal::Untrusted).await, 1);
    assert!(server.call(http1(anonymous(&trust))).await.is_err());
    assert_eq!(server.counts(Refusal::Missing).await, 1);
}

#[tokio::test]
async fn only_the_server_that_is_meant_is_talked_to() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let other = "node-2.agent.curfew.dev";
    for (leaf, refusal) in [
        (ca.leaf(SERVER, ServerAuth, -7200, -3600), Refusal::Expired),
        (ca.leaf(SERVER, ServerAuth, 3600, 7200), Refusal::Early),
        (foreign.server(), Refusal::Untrusted),
        (ca.leaf(other, ServerAuth, -60, 60), Refusal::Name),
        (ca.leaf(SERVER, ClientAuth, -60, 60), Refusal::Purpose),
    ] {
        let server = Server::start(&leaf, &ca.trust());
        let error = server
            .call(ca.client().call(&ca.trust()).unwrap())
            .await
            .unwrap_err();
        assert_eq!(super::refusal(error.as_ref()), Some(refusal), "{error:?}");
        assert!(ca.trust().check_server(&leaf, SERVER).is_err());
        // What the server sees of it.
        assert_eq!(server.counts(Refusal::Rejected).await, 1);
    }
    ca.trust().check_server(&ca.server(), SERVER).unwrap();
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_trust_in_it() {
    let (old, new) = (Ca::new(), Ca::new());
    let both = Trust::from_pem(&format!("{}{}", new.pem, old.pem)).unwrap();
    let server = Server::start(&old.server(), &both);
    let mut client = server
        .open(old.client().call(&both).unwrap())
        .await
        .unwrap();
    assert_eq!(hello(&mut client).await.unwrap(), "hello");

    // The server gets another certificate, and connections go on.
    let clients = both.clients(CLIENT).unwrap();
    server
        .config
        .reload_from_config(Arc::new(new.server().serve_only(clients).unwrap()));
    assert_eq!(hello(&mut client).await.unwrap(), "hello");
    let anew = server.call(new.client().call(&both).unwrap()).await;
    assert_eq!(anew.unwrap(), "hello");

    server
        .clients
        .send_replace(new.trust().clients(CLIENT).unwrap());
    let error = hello(&mut client).await.unwrap_err().to_string();
    assert!(
        error.contains("401") && error.contains("untrusted"),
        "{error}"
    );
    assert_eq!(server.counts(Refusal::Untrusted).await, 1);
}

/// Counts how often it is asked.
#[derive(Debug)]
struct Counting(Arc<dyn ClientCertVerifier>, AtomicUsize);

impl ClientCertVerifier for Counting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.verify_client_cert(certificate, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[test]
fn a_certificate_is_verified_again_when_the_trust_or_the_time_is_another() {
    let ca = Ca::new();
    let verifier = || Counting(ca.trust().clients(CLIENT).unwrap(), AtomicUsize::new(0));
    let leaf = ca.leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth, -3600, 3600);
    let peer = Peer::new(vec![leaf.certificate.clone()]);
    let (first, now) = (Arc::new(verifier()), SystemTime::now());
    let day = Duration::from_secs(86_400);
    let trusted: Arc<dyn ClientCertVerifier> = first.clone();
    for (at, said, asked) in [
        (now, Ok(()), 1),
        (now, Ok(()), 1),
        (now + day, Err(Refusal::Expired), 2),
        (now + day, Err(Refusal::Expired), 3),
        (now - day, Err(Refusal::Early), 4),
        (now, Ok(()), 5),
        (now, Ok(()), 5),
    ] {
        assert_eq!(peer.verify(&trusted, at), said);
        assert_eq!(first.1.load(Ordering::Relaxed), asked);
    }

    let others: Arc<dyn ClientCertVerifier> = Ca::new().trust().clients(CLIENT).unwrap();
    assert_eq!(peer.verify(&others, now), Err(Refusal::Untrusted));
    assert_eq!(peer.verify(&trusted, now), Ok(()));
    assert_eq!(first.1.load(Ordering::Relaxed), 6);
    let nobody = Peer::new(Vec::new());
    assert_eq!(nobody.verify(&trusted, now), Err(Refusal::Missing));
}

#[test]
fn what_is_no_trust_is_said() {
    assert!(matches!(Trust::from_pem(""), Err(Unusable::Empty)));
    assert!(matches!(
        Trust::from_pem("no certificate"),
        Err(Unusable::Empty)
    ));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(Trust::from_pem(broken).is_err());
    let (one, two) = (Ca::new(), Ca::new());
    let both = Trust::from_pem(&format!("{}{}", one.pem, two.pem)).unwrap();
    assert_eq!(both.issuing(), one.trust().issuing());
    assert!(!both.is_same(&one.trust()));
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let leaf = Ca::new().leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth, -60, 90);
    let renewal = leaf.renewal().as_secs_f64();
    assert!((30.0..=60.0).contains(&renewal), "{renewal}");
    let ended = Ca::new().leaf(CLIENT, ExtendedKeyUsagePurpose::ClientAuth, -60, -30);
    assert_eq!(ended.renewal(), Duration::ZERO);
}
