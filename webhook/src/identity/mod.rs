//! Who the webhook is, and for whom it vouches.
//!
//! All replicas share a CA, which stands in a Secret. With it each replica issues its own certificates: one
//! to serve the API server, one to call the agents; keys of both never leave the process. It signs those
//! of the agents, too. [`authority`] issues, [`secret`] says what stands in the Secret and when it has to
//! change, [`paths`] does so of the paths under which API servers ask, [`controller`] carries that out,
//! [`publication`] tells the agents whom to trust, and [`signer`] answers their requests. Telling the API server whom to trust is for [`crate::registration`].
//!
//! The CA is exchanged in three steps, so that nobody is ever shown a certificate that they do not trust
//! yet: the next one is trusted beside the current one; then it issues and the former is still trusted;
//! when the last certificate of the former has ended, it is not trusted any more.

pub mod authority;
pub mod controller;
pub mod paths;
pub mod publication;
pub mod secret;
pub mod signer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum_server::tls_rustls::RustlsConfig;
use curfew_core::identity::WEBHOOK;
use curfew_runtime::tls::{self, Leaf, Trust, Unusable};
use rustls::{ClientConfig, server::danger::ClientCertVerifier};
use tokio::sync::watch;

use paths::Paths;
use secret::Authorities;

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Certificates of webhook and agents; each is renewed after two thirds of it.
    pub certificate: Duration,
    /// The CA; it is exchanged after two thirds of it.
    pub authority: Duration,
    /// How long a CA is trusted before it issues, and a path accepted before and after it is told.
    pub overlap: Duration,
    /// How long API servers are told a path before it is exchanged.
    pub path: Duration,
}

/// Who this replica is at the moment.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds private keys")]
pub struct Identity {
    /// Whom everybody is to trust, and who issues.
    pub authorities: Arc<Authorities>,
    /// What the server uses; a renewal changes it in place.
    pub serving: RustlsConfig,
    /// What calls to agents use.
    pub calling: Arc<ClientConfig>,
    /// The certificate that the server shows.
    pub leaf: Leaf,
}

/// The identity, for those who use it; none before the first.
pub type Identities = watch::Receiver<Option<Identity>>;

/// Under which paths API servers may ask at the moment.
pub fn paths(identities: &Identities) -> Option<Paths> {
    let identity = identities.borrow();
    identity
        .as_ref()
        .map(|identity| identity.authorities.paths.clone())
}

/// Whom everybody is to trust at the moment, in PEM.
pub fn bundle(identities: &Identities) -> Option<String> {
    let identity = identities.borrow();
    identity
        .as_ref()
        .map(|identity| identity.authorities.bundle())
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The Secret has something else in it than a CA. Trying again does not help.
    #[error(
        "Secret {} in namespace {namespace} contains no usable CA: {problem}. Delete it, and the webhook \
         creates a new one",
        secret::NAME
    )]
    Invalid {
        /// The namespace of the Secret.
        namespace: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The API server did not answer, or not as it should.
    #[error("cannot {0}: {1}")]
    Api(String, String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// A certificate could not be used.
    #[error("cannot use a certificate: {0}")]
    Using(#[from] Unusable),
    /// The system gives no random bytes.
    #[error("cannot get random bytes")]
    Random,
    /// The CA of the API servers' client certificates could not be read.
    #[error("--client-ca: {0}: {1}")]
    ClientCa(PathBuf, String),
}

impl Identity {
    /// One with new certificates. What the server uses is changed in place where there was one before.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(
        authorities: Arc<Authorities>,
        before: Option<&Self>,
        namespace: &str,
        life: Duration,
    ) -> Result<Self, IdentityError> {
        Self::for_clients(None, authorities, before, namespace, life)
    }

    /// The same, for clients that have to show a certificate, where it is said which.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn for_clients(
        clients: Option<Arc<dyn ClientCertVerifier>>,
        authorities: Arc<Authorities>,
        before: Option<&Self>,
        namespace: &str,
        life: Duration,
    ) -> Result<Self, IdentityError> {
        let leaf = authorities.current.serving(namespace, life)?;
        let config = Arc::new(match clients {
            Some(clients) => leaf.serve_verified(clients)?,
            None => leaf.serve()?,
        });
        let serving = tls::reload(before.map(|before| before.serving.clone()), config);
        let trust = Trust::from_pem(&authorities.bundle())?;
        let calling = authorities.current.calling(WEBHOOK, life)?.call(&trust)?;
        Ok(Self {
            authorities,
            serving,
            calling: Arc::new(calling),
            leaf,
        })
    }
}
