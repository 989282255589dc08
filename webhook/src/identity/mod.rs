//! The certificates of the webhook and of the agents.
//!
//! All replicas share a CA, which is in a Secret. With it, each replica signs its own certificates: one to serve the
//! API server, and one to call the agents. The keys of both never leave the process. Each replica also signs the
//! certificates of the agents.
//!
//! [`authority`] signs. [`secret`] defines the content of the Secret and when it must change, and [`paths`] does the
//! same for the paths that API servers call. [`controller`] makes these changes. [`publication`] tells the agents
//! which CAs to trust, and [`signer`] answers their requests. [`crate::registration`] tells the API server which CA
//! to trust.
//!
//! The CA is replaced in three steps, so that no peer sees a certificate that it does not trust yet. First, the next
//! CA is trusted in addition to the current one. Then the next CA signs, and the previous one is still trusted. When
//! the last certificate of the previous CA has expired, that CA is no longer trusted.

pub mod authority;
pub mod controller;
pub mod paths;
pub mod publication;
pub mod secret;
pub mod signer;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

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

/// What is to be done to exchange a CA or a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeStep {
    /// Nothing until then.
    Wait(SystemTime),
    /// Another one is to be trusted or accepted.
    Prepare,
    /// That one is to be used from now on.
    Switch,
    /// The one before is to be trusted or accepted no more.
    Retire,
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
    Some(identity.as_ref()?.authorities.paths.clone())
}

/// Whom everybody is to trust at the moment, in PEM.
pub fn bundle(identities: &Identities) -> Option<String> {
    let identity = identities.borrow();
    Some(identity.as_ref()?.authorities.bundle())
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
    /// One with new certificates. What the server uses is changed in place where there was one before. Where it is given
    /// which clients there are, they have to show a certificate.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(
        clients: Option<Arc<dyn ClientCertVerifier>>,
        authorities: Arc<Authorities>,
        before: Option<&Self>,
        namespace: &str,
        life: Duration,
    ) -> Result<Self, IdentityError> {
        let leaf = authorities.current.serving(namespace, life)?;
        let config = Arc::new(leaf.serve(clients)?);
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
