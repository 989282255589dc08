use std::net::Ipv4Addr;

use axum::routing::{get, post};
use prometheus::IntGauge;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::metrics::Catalog;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const THIRD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const GREETING: Duration = Duration::from_millis(600);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: curfew\r\n\r\n";
/// Long for a machine that is busy, and short for a test.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits {
        body: 64 * 1024,
        request: Duration::from_secs(5),
        concurrent: 16,
        connection_limit: Bounds {
            greeting: GREETING,
            ..Bounds::MANY
        },
        drain: Duration::ZERO,
    }
}

struct Server {
    address: SocketAddr,
    closed: IntCounter,
    in_hand: IntGauge,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start(limits: Limits, tls: Option<RustlsConfig>) -> Self {
        let in_hand = IntGauge::new("in_hand", "Requests").unwrap();
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/", post(async |body: String| body))
            .route("/never", get(never))
            .with_state(in_hand.clone());
        let handle = Handle::new();
        let closed = IntCounter::new("closed", "Closed connections").unwrap();
        let stop = CancellationToken::new();
        let tls = tls.map(|config| Tls {
            config,
            refusals: Refusals::new(&mut Catalog::default(), "refused_peers", "Refused clients")
                .unwrap(),
        });
        tokio::spawn(serve_with(
            handle.clone(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls,
            (router, None),
            limits,
            closed.clone(),
            stop.clone(),
        ));
        Self {
            address: handle.listening().await.unwrap(),
            closed,
            in_hand,
            stop,
        }
    }

    async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Whether a new connection from there gets an answer.
    async fn answers(&self, from: Ipv4Addr) -> bool {
        says(&mut self.connect(from).await, GET, "here").await
    }
}

/// Counts itself for as long as it is not given up.
async fn never(State(in_hand): State<IntGauge>) {
    struct Counted(IntGauge);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.dec();
        }
    }
    in_hand.inc();
    let _counted = Counted(in_hand);
    std::future::pending().await
}

/// Whether what is sent is answered so, on a connection that stays open.
async fn says(
    connection: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
    answer: &str,
) -> bool {
    // What is closed already may or may not take what is written.
    drop(connection.write_all(request).await);
    let mut text = Vec::new();
    let asked = async {
        loop {
            match connection.read_buf(&mut text).await {
                Ok(0) | Err(_) => return false,
                Ok(_) if String::from_utf8_lossy(&text).ends_with(answer) => return true,
                Ok(_) => {}
            }
        }
    };
    timeout(PATIENCE, asked).await.expect("an answer in time")
}

/// Waits until the server closes the connection, sooner than a server does by itself.
async fn closed(mut connection: TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(GREETING * 12, connection.read_to_end(&mut rest));
    drop(read.await.expect("the connection to be closed in time"));
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let patient = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < patient, "it never came true");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_thousand_that_drip_their_heads_stop_nobody() {
    let mut limits = limits();
    limits.connection_limit.connections = 256;
    // None is closed for being slow, however slow the machine is: only to make room.
    limits.connection_limit.greeting = Duration::from_secs(3600);
    let server = Server::start(limits, None).await;
    let mut dripping = JoinSet::new();
    for _ in 0..1000 {
        let mut connection = server.connect(ONE).await;
        dripping.spawn(async move {
            // One that is closed sees it when it writes.
            for byte in GET.iter().chain(std::iter::repeat(&b'x')) {
                if connection.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        if dripping.len() % 200 == 0 {
            assert!(server.answers(OTHER).await);
            // The same address, too, gets a place for as long as it takes to ask.
            assert!(server.answers(ONE).await);
        }
    }
    until(async || server.closed.get() >= 1000 - 256).await;
    assert!(server.answers(OTHER).await);
}

#[tokio::test]
async fn a_head_that_drips_is_not_waited_for_for_ever() {
    let server = Server::start(limits(), None).await;
    let mut connection = server.connect(ONE).await;
    let dripped = async {
        // One that is closed sees it when it writes.
        while connection.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripped)
        .await
        .expect("it to be closed in time");
}

#[tokio::test]
async fn many_from_one_address_give_their_places_to_others() {
    let mut limits = limits();
    limits.connection_limit.connections = 8;
    let server = Server::start(limits, None).await;
    let mut many = Vec::new();
    for _ in 0..7 {
        let mut connection = server.connect(ONE).await;
        assert!(says(&mut connection, GET, "here").await);
        many.push(connection);
    }
    assert_eq!(server.closed.get(), 0);
    // The last place is for those who have none.
    let mut other = server.connect(OTHER).await;
    assert!(says(&mut other, GET, "here").await);
    assert_eq!(server.closed.get(), 0);
    // The second and those after it are from the one that has most, idlest first.
    let mut others = vec![other];
    for closes in 1..=3 {
        let mut connection = server.connect(OTHER).await;
        assert!(says(&mut connection, GET, "here").await);
        others.push(connection);
        assert_eq!(server.closed.get(), closes);
        assert!(!says(&mut many.remove(0), GET, "here").await);
    }
    for connection in many.iter_mut().chain(&mut others) {
        assert!(says(connection, GET, "here").await);
    }
    assert!(server.answers(THIRD).await);
}

#[tokio::test]
async fn a_request_in_hand_is_given_up_for_others_only_when_all_are_in_hand() {
    let mut limits = limits();
    limits.connection_limit.connections = 3;
    limits.request = PATIENCE;
    let server = Server::start(limits, None).await;
    let never = b"GET /never HTTP/1.1\r\nhost: curfew\r\n\r\n";
    let mut working = Vec::new();
    for _ in 0..2 {
        let mut connection = server.connect(ONE).await;
        connection.write_all(never).await.unwrap();
        until(async || server.in_hand.get() == working.len() as i64 + 1).await;
        working.push(connection);
    }
    let mut idle = server.connect(ONE).await;
    assert!(says(&mut idle, GET, "here").await);
    assert!(server.answers(OTHER).await);
    assert!(!says(&mut idle, GET, "here").await);
    assert_eq!(server.in_hand.get(), 2);
    let mut third = server.connect(ONE).await;
    third.write_all(never).await.unwrap();
    until(async || server.in_hand.get() == 3).await;
    assert!(server.answers(OTHER).await);
    until(async || server.in_hand.get() == 2).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Server::start(limits(), None).await;
    let begun = Instant::now();
    closed(server.connect(ONE).await).await;
    assert!(begun.elapsed() >= GREETING, "{:?}", begun.elapsed());
}

/// A certificate for `curfew`, and how a server uses it.
async fn certificate() -> (CertificateDer<'static>, RustlsConfig) {
    let made = rcgen::generate_simple_self_signed(["curfew".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    drop(rustls::crypto::ring::default_provider().install_default());
    let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes());
    (made.cert.der().clone(), tls.await.unwrap())
}

/// As an API server does that has connected for a request and then sent it on another connection.
#[tokio::test]
async fn who_has_shaken_hands_may_idle_before_the_first_request() {
    let (certificate, tls) = certificate().await;
    let server = Server::start(limits(), Some(tls)).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = "curfew".try_into().unwrap();
    let stream = server.connect(ONE).await;
    let mut connection = connector.connect(name, stream).await.unwrap();
    sleep(GREETING * 3).await;
    assert!(says(&mut connection, GET, "here").await);
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_go_on_is_closed() {
    let (_, tls) = certificate().await;
    let server = Server::start(limits(), Some(tls)).await;
    closed(server.connect(ONE).await).await;
    let mut half = server.connect(ONE).await;
    // The beginning of a ClientHello of 512 bytes.
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    closed(half).await;
    let mut plain = server.connect(ONE).await;
    assert!(!says(&mut plain, GET, "here").await);
}

#[tokio::test]
async fn who_has_asked_once_may_idle() {
    let server = Server::start(limits(), None).await;
    let mut connection = server.connect(ONE).await;
    assert!(says(&mut connection, GET, "here").await);
    sleep(GREETING * 3).await;
    assert!(says(&mut connection, GET, "here").await);
}

#[tokio::test]
async fn those_who_wait_for_their_turn_are_told_in_the_end() {
    let mut limits = limits();
    limits.concurrent = 1;
    limits.request = Duration::from_millis(700);
    let server = Server::start(limits, None).await;
    let never = b"GET /never HTTP/1.1\r\nhost: curfew\r\n\r\n";
    // Whoever is at work holds the only place until the time is over.
    let mut working = server.connect(ONE).await;
    working.write_all(never).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let mut waiting = server.connect(OTHER).await;
    waiting.write_all(never).await.unwrap();
    for mut connection in [working, waiting] {
        let mut head = [0; 12];
        let read = timeout(PATIENCE, connection.read_exact(&mut head));
        read.await.expect("an answer in time").unwrap();
        assert_eq!(&head, b"HTTP/1.1 408");
    }

    // Whoever still sends a body holds none.
    let mut sending = server.connect(ONE).await;
    let head = b"POST / HTTP/1.1\r\nhost: curfew\r\ncontent-length: 4\r\n\r\nab";
    sending.write_all(head).await.unwrap();
    assert!(server.answers(OTHER).await);
    assert!(says(&mut sending, b"cd", "abcd").await);
}

/// The head of a request with a body that the server asks for once there is room for it.
fn promise(bytes: usize) -> Vec<u8> {
    let head = "POST / HTTP/1.1\r\nhost: curfew\r\nexpect: 100-continue\r\n";
    format!("{head}content-length: {bytes}\r\n\r\n").into_bytes()
}

const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn bodies_that_are_promised_take_no_more_than_their_client_s_share() {
    let mut limits = limits();
    limits.request = PATIENCE;
    // Eight bodies in all, one from an address.
    limits.connection_limit.bodies = 8 * limits.body;
    let server = Server::start(limits, None).await;
    let mut first = server.connect(ONE).await;
    assert!(says(&mut first, &promise(limits.body), GO_ON).await);
    let mut second = server.connect(ONE).await;
    second.write_all(GET).await.unwrap();
    assert!(server.answers(OTHER).await);
    let mut answer = [0; 1];
    let early = timeout(GREETING, second.read_exact(&mut answer)).await;
    assert!(early.is_err(), "it should have waited for the first");
    drop(first);
    assert!(says(&mut second, b"", "here").await);
}

#[tokio::test]
async fn bodies_that_drip_give_their_room_to_others() {
    let mut limits = limits();
    limits.request = PATIENCE;
    limits.connection_limit.bodies = 8 * limits.body;
    let server = Server::start(limits, None).await;
    let mut dripping = Vec::new();
    for last in 11..19 {
        let mut connection = server.connect(Ipv4Addr::new(127, 0, 0, last)).await;
        assert!(says(&mut connection, &promise(limits.body), GO_ON).await);
        dripping.push(connection);
    }
    // All room is taken. One of those who do not use it has to give it, and no more.
    let body = "x".repeat(limits.body);
    let mut other = server.connect(OTHER).await;
    assert!(says(&mut other, &promise(limits.body), GO_ON).await);
    assert!(says(&mut other, body.as_bytes(), &body).await);
    assert_eq!(server.closed.get(), 1);
}
