//! The certificate of whoever has connected, which has to be good when it connects and at each request.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::{accept::Accept, tls::TlsService, tls_rustls::RustlsAcceptor};
use futures::future::BoxFuture;
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tower_http::add_extension::AddExtension;

use super::{Refusal, Refusals, refusal, validity};

/// What the other end of a connection showed of itself; nothing where it had to show nothing.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<Verified>>,
}

/// That the certificates are good. Whether they are signed does not change, only who is trusted and the time.
#[derive(Debug)]
struct Verified {
    by: Arc<dyn ClientCertVerifier>,
    from: SystemTime,
    until: SystemTime,
}

impl Peer {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let verified = Mutex::default();
        Self(Arc::new(Shown { chain, verified }))
    }

    /// Whether its certificate is good at this moment.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn verify(
        &self,
        clients: &Arc<dyn ClientCertVerifier>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let Shown { chain, verified } = &*self.0;
        let (certificate, others) = chain.split_first().ok_or(Refusal::Missing)?;
        // What a panic left behind is verified again, or good.
        let mut verified = verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Verified { by, from, until }) = &*verified
            && Arc::ptr_eq(by, clients)
            && (*from..*until).contains(&now)
        {
            return Ok(());
        }
        *verified = None;
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let time = UnixTime::since_unix_epoch(since_1970);
        clients
            .verify_client_cert(certificate, others, time)
            .map_err(|error| Refusal::from(&error))?;
        let spans: Result<Vec<_>, _> = chain.iter().map(validity).collect();
        // One that cannot be read is verified each time.
        let spans = spans.unwrap_or_default().into_iter();
        let both = spans.reduce(|(from, until), other| (from.max(other.0), until.min(other.1)));
        *verified = both.map(|(from, until)| Verified {
            by: clients.clone(),
            from,
            until,
        });
        Ok(())
    }
}

/// Accepts TLS connections, counts those that are refused, and remembers who the others are.
#[derive(Debug, Clone)]
pub struct Acceptor<A> {
    inner: RustlsAcceptor<A>,
    refusals: Refusals,
}

impl<A> Acceptor<A> {
    /// One around another.
    pub fn new(inner: RustlsAcceptor<A>, refusals: Refusals) -> Self {
        Self { inner, refusals }
    }
}

impl<A, I, S> Accept<I, S> for Acceptor<A>
where
    A: Accept<I, S>,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A::Service: Send + 'static,
    A::Future: Send + 'static,
{
    type Stream = TlsStream<A::Stream>;
    type Service = AddExtension<TlsService<A::Service>, Peer>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let accepting = self.inner.accept(stream, service);
        let refusals = self.refusals.clone();
        Box::pin(async move {
            let (stream, service) = accepting.await.inspect_err(|error| {
                if let Some(refusal) = refusal(error) {
                    refusals.count(refusal);
                }
            })?;
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().cloned().map(CertificateDer::into_owned);
            let peer = Peer::new(shown.collect());
            Ok((stream, AddExtension::new(service, peer)))
        })
    }
}

/// The router, open only to those whose certificate is good at the moment of the request: a connection
/// may last longer than the certificate with which it was opened, or than the trust in its CA.
///
/// `clients` says how a client is verified at that moment; nobody is let in where it does not.
pub fn only(
    router: Router,
    clients: impl Fn() -> Option<Arc<dyn ClientCertVerifier>> + Send + Sync + 'static,
    refusals: Refusals,
) -> Router {
    let peers = PeerCheck {
        clients: Arc::new(clients),
        refusals,
    };
    router.layer(middleware::from_fn_with_state(peers, check))
}

#[derive(Clone)]
struct PeerCheck {
    clients: Arc<dyn Fn() -> Option<Arc<dyn ClientCertVerifier>> + Send + Sync>,
    refusals: Refusals,
}

async fn check(State(peers): State<PeerCheck>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let verified = match (peer, (peers.clients)()) {
        (None, _) => Err(Refusal::Missing),
        (Some(_), None) => Err(Refusal::Untrusted),
        (Some(peer), Some(clients)) => peer.verify(&clients, SystemTime::now()),
    };
    match verified {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            peers.refusals.count(refusal);
            let why = format!(
                "the client certificate is not valid: {}\n",
                refusal.as_ref()
            );
            let mut answer = (StatusCode::UNAUTHORIZED, why).into_response();
            // Whoever has a better one by now has to connect anew to show it.
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
            answer
        }
    }
}
