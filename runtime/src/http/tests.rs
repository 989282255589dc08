use std::net::Ipv4Addr;

use axum::routing::{get, post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::*;

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
        crowd: Bounds {
            greeting: GREETING,
            ..Bounds::MANY
        },
        drain: Duration::ZERO,
    }
}

struct Server {
    address: SocketAddr,
    refused: IntCounter,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start(limits: Limits, tls: Option<RustlsConfig>) -> Self {
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/", post(async |body: String| body))
            .route("/never", get(std::future::pending::<()>));
        let handle = Handle::new();
        let refused = IntCounter::new("refused", "Refused connections").unwrap();
        let stop = CancellationToken::new();
        let tls = tls.map(|config| Tls {
            config,
            refusals: Refusals::new("refused_peers", "Refused clients").unwrap(),
        });
        tokio::spawn(serve_with(
            handle.clone(),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls,
            router,
            limits,
            refused.clone(),
            stop.clone(),
        ));
        Self {
            address: handle.listening().await.unwrap(),
            refused,
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

/// Whether what is sent is answered so, on a connection that stays open.
async fn says(connection: &mut TcpStream, request: &[u8], answer: &str) -> bool {
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
    // Longer than it takes to connect them all.
    limits.crowd.greeting = Duration::from_secs(2);
    let server = Server::start(limits, None).await;
    let mut dripping = JoinSet::new();
    for _ in 0..1000 {
        let mut connection = server.connect(ONE).await;
        dripping.spawn(async move {
            // One that is refused or given up sees it when it writes.
            for byte in GET.iter().chain(std::iter::repeat(&b'x')) {
                if connection.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        if dripping.len() % 200 == 0 {
            assert!(server.answers(OTHER).await);
        }
    }
    let refused = server.refused.get();
    assert!(refused >= 1000 - 2 * 256, "refused {refused}");
    assert!(server.answers(OTHER).await);
    // None of them may go on for ever.
    let given_up = timeout(PATIENCE, dripping.join_all());
    given_up.await.expect("all to be closed in time");
    until(async || server.answers(ONE).await).await;
}

#[tokio::test]
async fn a_flood_from_one_address_leaves_places_for_others() {
    let mut limits = limits();
    limits.crowd.connections = 8;
    limits.crowd.connections_of_one = 4;
    let server = Server::start(limits, None).await;
    let mut places = Vec::new();
    for _ in 0..4 {
        let mut connection = server.connect(ONE).await;
        assert!(says(&mut connection, GET, "here").await);
        places.push(connection);
    }
    assert!(!server.answers(ONE).await);
    assert_eq!(server.refused.get(), 1);

    let mut others = Vec::new();
    for _ in 0..4 {
        let mut connection = server.connect(OTHER).await;
        assert!(says(&mut connection, GET, "here").await);
        others.push(connection);
    }
    assert!(!server.answers(THIRD).await, "all places are taken");
    assert_eq!(server.refused.get(), 2);

    // Each that leaves makes room for one, and no more.
    places.pop();
    let mut third = server.connect(THIRD).await;
    until(async || {
        let answered = says(&mut third, GET, "here").await;
        if !answered {
            third = server.connect(THIRD).await;
        }
        answered
    })
    .await;
    assert!(!server.answers(THIRD).await);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Server::start(limits(), None).await;
    let begun = Instant::now();
    closed(server.connect(ONE).await).await;
    assert!(begun.elapsed() >= GREETING, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_go_on_is_closed() {
    let made = rcgen::generate_simple_self_signed(["curfew".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    drop(rustls::crypto::ring::default_provider().install_default());
    let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes());
    let server = Server::start(limits(), Some(tls.await.unwrap())).await;
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

#[tokio::test]
async fn bodies_that_are_promised_take_no_more_than_their_client_s_share() {
    let mut limits = limits();
    limits.request = PATIENCE;
    // Eight bodies in all, one from an address.
    limits.crowd.bodies = 8 * limits.body;
    let server = Server::start(limits, None).await;
    let promise = format!(
        "POST / HTTP/1.1\r\nhost: curfew\r\ncontent-length: {}\r\n\r\n",
        limits.body
    );
    let mut first = server.connect(ONE).await;
    first.write_all(promise.as_bytes()).await.unwrap();
    let mut second = server.connect(ONE).await;
    sleep(Duration::from_millis(200)).await;
    second.write_all(GET).await.unwrap();
    assert!(server.answers(OTHER).await);
    let mut answer = [0; 1];
    let early = timeout(GREETING, second.read_exact(&mut answer)).await;
    assert!(early.is_err(), "it should have waited for the first");
    drop(first);
    assert!(says(&mut second, b"", "here").await);
}
