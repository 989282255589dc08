//! Who is at the other end of a connection: certificates that both ends show and verify.
//!
//! Owns what makes a certificate good (issued by a CA that is trusted, valid now, made for this purpose,
//! bearing the right name), and the words for one that is not. Where certificates come from is for the
//! parts: the webhook issues them, agents ask for theirs.

mod peer;
mod refusal;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
    },
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use peer::{Acceptor, Peer, only};
pub use refusal::{Refusal, Refusals, refusal};

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no certificate.
    #[error("not a certificate in PEM: {0}")]
    Text(String),
    /// There is none.
    #[error("it contains no certificate")]
    Empty,
    /// It cannot be worked with.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// It is good for nothing that it was made for.
    #[error("it is not trusted: {0}")]
    Untrusted(rustls::Error),
}

/// The CAs that are trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Those whose certificates stand in this text, in PEM.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn from_pem(bundle: &str) -> Result<Self, Unusable> {
        let authorities = CertificateDer::pem_slice_iter(bundle.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Unusable::Text(error.to_string()))?;
        if authorities.is_empty() {
            return Err(Unusable::Empty);
        }
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone())?;
        }
        Ok(Self {
            authorities,
            roots: Arc::new(roots),
        })
    }

    /// The one that issues certificates now.
    pub fn issuing(&self) -> Option<&CertificateDer<'static>> {
        self.authorities.first()
    }

    /// Whether these are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }

    /// Verifies that a client's certificate is good, whatever its name.
    ///
    /// # Errors
    /// When no verifier can be made of it.
    pub fn any_client(&self) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(verifier)
    }

    /// Verifies that a client's certificate is good and has this name.
    ///
    /// # Errors
    /// When the name is no DNS name.
    pub fn clients(&self, name: &str) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
        Ok(Arc::new(Named {
            verifier: self.any_client()?,
            name: dns_name(name)?,
        }))
    }

    /// Checks that a server's certificate is good and has this name, as a client would.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check_server(&self, leaf: &Leaf, name: &str) -> Result<(), Unusable> {
        WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(
                &leaf.certificate,
                &[],
                &dns_name(name)?,
                &[],
                UnixTime::now(),
            )
            .map(drop)
            .map_err(Unusable::Untrusted)
    }
}

/// A certificate in use, with its key, which never leaves the process.
#[derive(Clone)]
pub struct Leaf {
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
    expiry: SystemTime,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf")
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl Leaf {
    /// This certificate, with its key as PKCS#8 in DER.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn new(certificate: CertificateDer<'static>, key: Vec<u8>) -> Result<Self, Unusable> {
        let (_, expiry) = validity(&certificate)?;
        Ok(Self {
            certificate,
            key: Arc::new(PrivatePkcs8KeyDer::from(key).into()),
            expiry,
        })
    }

    /// The first certificate of a text in PEM, with its key as PKCS#8 in DER.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(certificate: &[u8], key: Vec<u8>) -> Result<Self, Unusable> {
        let certificate = CertificateDer::from_pem_slice(certificate)
            .map_err(|error| Unusable::Text(error.to_string()))?;
        Self::new(certificate, key)
    }

    /// When it ends.
    pub fn expiry(&self) -> SystemTime {
        self.expiry
    }

    /// How long from now on until another one is to take its place: two thirds of what is left, so that
    /// there is time to try again.
    pub fn renewal(&self) -> Duration {
        let left = self.expiry.duration_since(SystemTime::now());
        left.unwrap_or_default() * 2 / 3
    }

    /// How a server uses it for API servers, which may speak TLS 1.2. Where it is given which clients there are, they have
    /// to show a certificate, too.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub fn serve(
        &self,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<ServerConfig, Unusable> {
        self.server(DEFAULT_VERSIONS, clients, &[b"h2", b"http/1.1"])
    }

    /// How a server uses it for clients that have to show one, too.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub fn serve_only(
        &self,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, Unusable> {
        self.server(&[&TLS13], Some(clients), &[b"http/1.1"])
    }

    fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<Arc<dyn ClientCertVerifier>>,
        protocols: &[&[u8]],
    ) -> Result<ServerConfig, Unusable> {
        let verifies = clients.is_some();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        if verifies {
            // A session that is resumed would not verify anew what was verified once.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// How a client uses it with servers that these CAs vouch for.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub fn call(&self, trust: &Trust) -> Result<ClientConfig, Unusable> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(trust.roots.clone())
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// From when until when a certificate is good.
///
/// # Errors
/// When it is no certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), Unusable> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Unusable::Text(error.to_string()))?;
    let validity = parsed.validity();
    // A time before 1970 is as long over as any.
    let [from, until] = [validity.not_before, validity.not_after].map(|time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    });
    Ok((from, until))
}

/// What a server is to use from now on; one that runs already takes it with its next connection.
pub fn reload(running: Option<RustlsConfig>, config: Arc<ServerConfig>) -> RustlsConfig {
    match running {
        Some(running) => {
            running.reload_from_config(config);
            running
        }
        None => RustlsConfig::from_config(config),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn dns_name(name: &str) -> Result<ServerName<'static>, Unusable> {
    let name = ServerName::try_from(name.to_owned());
    name.map_err(|error| rustls::Error::General(error.to_string()).into())
}

/// Verifies what any verifier of clients does, and the name.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
