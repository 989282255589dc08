//! The certificate of whoever has connected, verified when it connects and with each request.

use std::{io, sync::Arc};

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

use super::{Refusal, Refusals, refusal};

/// What the other end of a connection showed of itself; nothing where it had to show nothing.
#[derive(Debug, Clone)]
pub struct Peer(Arc<[CertificateDer<'static>]>);

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
            let peer = Peer(shown.collect());
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
    let refusal = match peer.map(|peer| peer.0.split_first()) {
        None | Some(None) => Some(Refusal::Missing),
        Some(Some((certificate, others))) => {
            let verified = (peers.clients)()
                .map(|clients| clients.verify_client_cert(certificate, others, UnixTime::now()));
            match verified {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(Refusal::from(&error)),
                None => Some(Refusal::Untrusted),
            }
        }
    };
    match refusal {
        None => next.run(request).await,
        Some(refusal) => {
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
