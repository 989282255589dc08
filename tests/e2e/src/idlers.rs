//! Clients that open connections, keep them and ask for nothing more, from many addresses; and how somebody
//! else gets on meanwhile.
//!
//! The addresses are this machine's for as long as they are needed, in the network that it shares with the nodes:
//! pods answer to no others.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{Cluster, IpFamily, layout::BRIDGE, run};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// How long one client waits for anything.
const LIMIT: Duration = Duration::from_secs(5);
/// The shortest time that a client whose connection was closed waits before it opens the next; the longest is twice
/// as long. The clients are idle ones: those that connect as fast as they can take the processor, not the places.
const PAUSE: Duration = Duration::from_secs(15);

/// How a port is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls,
    /// TLS that only those get through who have a certificate, so that idlers do not begin.
    Mutual,
}

/// How many addresses a block has, with the two that are not used.
const BLOCK: u8 = 64;

/// Addresses of this machine that nobody else uses, until they are dropped.
#[derive(Debug)]
pub struct Addresses {
    family: IpFamily,
    /// The number on the bridge of the address before the first.
    before: u8,
}

impl Addresses {
    /// Up to 62; callers that run at the same time choose different blocks, of 1, 2 and 3.
    ///
    /// # Errors
    /// When the machine cannot have them.
    pub fn take(machine: &Cluster, block: u8) -> Result<Self> {
        let addresses = Self {
            family: machine.ip_family(),
            before: block.clamp(1, 3) * BLOCK,
        };
        run::output_with_input(
            Command::new("ip").args(["-batch", "-"]),
            &addresses.commands(),
        )?;
        Ok(addresses)
    }

    /// The bridge gets them, for a machine answers its neighbours' questions for an IPv6 address only on the interface
    /// that has it. Without a preferred lifetime nobody uses them who does not ask for them, as the API server would
    /// otherwise, whose connections would end with them.
    fn commands(&self) -> String {
        let (at_once, prefix) = (self.family.at_once(), self.family.address_bits());
        (0..BLOCK - 2)
            .map(|index| {
                let address = self.at(index);
                format!("addr replace {address}/{prefix} dev {BRIDGE} {at_once} preferred_lft 0\n")
            })
            .collect()
    }

    fn range(&self) -> String {
        let prefix = u32::from(self.family.address_bits()) - BLOCK.ilog2();
        format!("{}/{prefix}", self.family.on_bridge(self.before))
    }

    /// One of them.
    pub fn at(&self, index: u8) -> IpAddr {
        let at = self.before + 1 + index.min(BLOCK - 3);
        self.family.on_bridge(at)
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        drop(run::ip(&format!(
            "addr flush dev {BRIDGE} to {}",
            self.range()
        )));
    }
}

/// Connections that are held until this is dropped. What is closed is opened again.
#[derive(Debug)]
pub struct Idlers {
    _held: JoinSet<()>,
    open: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
}

impl Idlers {
    /// So many to this port, taking turns among the addresses.
    pub fn hold(to: SocketAddr, port: Port, from: &[IpAddr], connections: usize) -> Self {
        let (open, opened) = (Arc::default(), Arc::default());
        let mut held = JoinSet::new();
        for at in 0..connections {
            let from = from[at % from.len()];
            // Not all at the same time.
            let pause = PAUSE.mul_f64(1.0 + at as f64 / connections as f64);
            let (open, opened) = (Arc::clone(&open), Arc::clone(&opened));
            held.spawn(async move {
                loop {
                    drop(idle(to, port, from, &open, &opened).await);
                    sleep(pause).await;
                }
            });
        }
        Self {
            _held: held,
            open,
            opened,
        }
    }

    /// How many are open as far as their clients know, and how many were so far: each counts when it was answered
    /// or closed.
    pub fn count(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.open), count(&self.opened))
    }
}

/// Asks once, where that is possible, and then reads until the server closes the connection.
async fn idle(
    to: SocketAddr,
    port: Port,
    from: IpAddr,
    open: &AtomicUsize,
    opened: &AtomicUsize,
) -> Result<()> {
    struct Open<'a>(&'a AtomicUsize);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let mut stream = connect(to, from).await?;
    open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(open);
    let mut rest = Vec::new();
    match port {
        Port::Mutual => {
            opened.fetch_add(1, Ordering::Relaxed);
            stream.read_to_end(&mut rest).await?;
        }
        Port::Plain => {
            let asked = get(&mut stream, "/healthz").await;
            opened.fetch_add(1, Ordering::Relaxed);
            asked?;
            stream.read_to_end(&mut rest).await?;
        }
        Port::Tls => {
            let asked = async {
                let mut stream = over_tls(stream, to).await?;
                get(&mut stream, "/").await?;
                anyhow::Ok(stream)
            };
            let asked = asked.await;
            opened.fetch_add(1, Ordering::Relaxed);
            asked?.read_to_end(&mut rest).await?;
        }
    }
    Ok(())
}

/// Opens a connection, gets an answer of any status, and says how long that took.
///
/// # Errors
/// When there was none in time.
pub async fn ask(to: SocketAddr, port: Port, from: IpAddr, path: &str) -> Result<Duration> {
    let began = Instant::now();
    let asked = async {
        let mut stream = connect(to, from).await?;
        match port {
            Port::Plain => get(&mut stream, path).await,
            Port::Tls => get(&mut over_tls(stream, to).await?, path).await,
            // That there is none is what the answer says.
            Port::Mutual => over_tls(stream, to).await.map(drop),
        }
    };
    let asked = timeout(LIMIT, asked).await;
    asked.with_context(|| format!("{to} does not answer within {LIMIT:?}"))??;
    Ok(began.elapsed())
}

async fn connect(to: SocketAddr, from: IpAddr) -> Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let connected = timeout(LIMIT, socket.connect(to)).await;
    Ok(connected.with_context(|| format!("no connection to {to} within {LIMIT:?}"))??)
}

async fn over_tls(
    stream: TcpStream,
    to: SocketAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::from(to.ip());
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(timeout(LIMIT, shaken).await.context("no handshake")??)
}

/// Sends a request and reads its answer's head.
async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: curfew\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut head))
        .await
        .context("no answer")??;
    ensure!(head.starts_with(b"HTTP/1.1 "), "{head:?}");
    Ok(())
}

/// Whom the certificate names is not what this is about.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_and_given_back_as_a_whole() {
        for (family, first, last, range) in [
            (
                IpFamily::IPv4,
                "addr replace 10.203.0.65/32 dev curfew0  preferred_lft 0",
                "addr replace 10.203.0.126/32 dev curfew0  preferred_lft 0",
                "10.203.0.64/26",
            ),
            (
                IpFamily::IPv6,
                "addr replace fd00:203::41/128 dev curfew0 nodad preferred_lft 0",
                "addr replace fd00:203::7e/128 dev curfew0 nodad preferred_lft 0",
                "fd00:203::40/122",
            ),
        ] {
            // It was not taken here, so it must not be given back.
            let block = std::mem::ManuallyDrop::new(Addresses {
                family,
                before: BLOCK,
            });
            let commands = block.commands();
            let commands: Vec<_> = commands.lines().collect();
            assert_eq!(commands.len(), 62);
            assert_eq!((commands[0], commands[61]), (first, last));
            assert_eq!(block.range(), range);
        }
    }
}
