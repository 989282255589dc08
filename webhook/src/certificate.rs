//! The CA of this installation and the certificate that this replica serves with.
//!
//! Owns the Secret of the CA, on which replicas that start at once agree, the serving certificate,
//! which never leaves the process, and its renewal. Telling the API server which CA to trust is for
//! [`crate::registration`].

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use curfew_runtime::explain;

use crate::configuration::NAME;

/// The Secret of the CA.
pub const SECRET: &str = "curfew-webhook-ca";
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a serving certificate is good for; it is renewed after two thirds of it.
pub const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The clocks of the API servers may be behind by so much.
const SKEW: Duration = Duration::from_secs(3600);
const CALL: Duration = Duration::from_secs(10);
const CERTIFICATE_KEY: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The Secret has something else in it than a CA. Trying again does not help.
    #[error(
        "Secret {SECRET} in namespace {namespace} holds no CA that can be used: {problem}. Delete it \
         and restart the Deployment {NAME}, and it is made anew"
    )]
    Invalid {
        /// The namespace of the Secret.
        namespace: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The API server did not answer, or not as it should.
    #[error("cannot {0} Secret {SECRET}: {1}")]
    Api(&'static str, String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// A certificate could not be used.
    #[error("cannot use a certificate: {0}")]
    Using(#[from] rustls::Error),
}

/// The CA of this installation.
#[allow(missing_debug_implementations, reason = "it holds a private key")]
pub struct Authority {
    /// Its certificate (PEM).
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The CA that the Secret holds, which is made if it does not exist.
    ///
    /// # Errors
    /// When the API server does not help, or the Secret holds something else.
    pub async fn agreed(client: &Client, namespace: &str) -> Result<Self, Failure> {
        match Self::stored(client, namespace).await? {
            Some(stored) => Ok(stored),
            None => Self::new()?.store(client, namespace).await,
        }
    }

    /// Whether the Secret holds this very CA. If there is none any more, it is stored again.
    ///
    /// # Errors
    /// When the API server does not help, or the Secret holds something else.
    pub async fn is_agreed(&self, client: &Client, namespace: &str) -> Result<bool, Failure> {
        let agreed = match Self::stored(client, namespace).await? {
            Some(stored) => stored,
            None => {
                let same = Self::from_pem(self.certificate.clone(), &self.key(), namespace)?;
                same.store(client, namespace).await?
            }
        };
        Ok(agreed.certificate == self.certificate)
    }

    fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("curfew webhook CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + CA_LIFE).into();
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    async fn stored(client: &Client, namespace: &str) -> Result<Option<Self>, Failure> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        match call(api.get_opt(SECRET)).await {
            Ok(Some(secret)) => Self::read(&secret, namespace).map(Some),
            Ok(None) => Ok(None),
            Err((_, text)) => Err(Failure::Api("read", text)),
        }
    }

    /// Stores this CA, unless there is one by now: then it is that one.
    async fn store(self, client: &Client, namespace: &str) -> Result<Self, Failure> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let data = [
            (CERTIFICATE_KEY, self.certificate.clone()),
            (PRIVATE_KEY, self.key()),
        ];
        let labels = [
            ("app.kubernetes.io/name", "curfew"),
            ("app.kubernetes.io/component", "webhook"),
            ("app.kubernetes.io/managed-by", NAME),
        ];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.to_owned()),
                labels: Some(
                    labels
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(
                data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                    .into(),
            ),
            ..Secret::default()
        };
        match call(api.create(&PostParams::default(), &secret)).await {
            Ok(_) => Ok(self),
            Err((Some(409), _)) => match Self::stored(client, namespace).await? {
                Some(first) => Ok(first),
                None => Err(Failure::Api("read", "it is gone again".to_owned())),
            },
            Err((_, text)) => Err(Failure::Api("create", text)),
        }
    }

    fn read(secret: &Secret, namespace: &str) -> Result<Self, Failure> {
        let text = |key: &str| {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            data.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
                .ok_or_else(|| Failure::Invalid {
                    namespace: namespace.to_owned(),
                    problem: format!("it has no text under {key}"),
                })
        };
        Self::from_pem(text(CERTIFICATE_KEY)?, &text(PRIVATE_KEY)?, namespace)
    }

    fn from_pem(certificate: String, key: &str, namespace: &str) -> Result<Self, Failure> {
        let invalid = |key: &str, problem: String| Failure::Invalid {
            namespace: namespace.to_owned(),
            problem: format!("{key}: {problem}"),
        };
        let pair =
            KeyPair::from_pem(key).map_err(|error| invalid(PRIVATE_KEY, error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair)
            .map_err(|error| invalid(CERTIFICATE_KEY, error.to_string()))?;
        // The issuer does not look whether the two belong together, and the API server would only
        // say that it does not trust what comes of it.
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| invalid(CERTIFICATE_KEY, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| invalid(PRIVATE_KEY, error.to_string()))?;
        CertifiedKey::from_der(vec![der], key, &default_provider())
            .map_err(|error| invalid(PRIVATE_KEY, error.to_string()))?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// A server's configuration with a new certificate for the webhook's Service, and when that ends.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn issue(&self, namespace: &str) -> Result<(Arc<ServerConfig>, SystemTime), Failure> {
        let mut params = CertificateParams::new(names(namespace))?;
        params.distinguished_name = name(NAME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        let expiry = now + LIFE;
        params.not_before = (now - SKEW).into();
        params.not_after = expiry.into();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((Arc::new(config), expiry))
    }
}

/// A certificate in use, for the other tasks.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds a private key")]
pub struct Identity {
    /// Who issued it.
    pub authority: Arc<Authority>,
    /// What the server uses; a renewal changes it in place.
    pub tls: RustlsConfig,
}

/// How long a certificate is used before another one takes its place.
pub fn renewal() -> Duration {
    LIFE * 2 / 3
}

/// The names by which the webhook's Service can be called.
fn names(namespace: &str) -> Vec<String> {
    ["", ".svc", ".svc.cluster.local"]
        .iter()
        .map(|suffix| format!("{NAME}.{namespace}{suffix}"))
        .chain([NAME.to_owned()])
        .collect()
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// A call's result within its time; an error as the status, if there was one, and a text.
async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, (Option<u16>, String)> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err((explain::code(&error), explain::short(&error))),
        Err(_) => Err((None, format!("no answer within {CALL:?}"))),
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
