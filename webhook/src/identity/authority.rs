//! A CA, and the certificates that it issues. Nothing here does any I/O.

use std::time::{Duration, SystemTime};

use curfew_core::identity;
use curfew_runtime::tls::{self, Leaf};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::IdentityError;
use crate::names::NAME;

/// The clocks of those who verify may be behind by so much.
const SKEW: Duration = Duration::from_secs(3600);

/// A CA with its key.
#[allow(missing_debug_implementations, reason = "it holds a private key")]
pub struct Authority {
    /// Its certificate (PEM).
    pub certificate: String,
    /// When it was made.
    pub made: SystemTime,
    /// When it ends.
    pub expiry: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// What can be wrong with a stored CA: the field, and the problem.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) of_key: bool,
    pub(super) problem: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(life: Duration) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = name("curfew CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.not_before = (now - SKEW).into();
        params.not_after = (now + life).into();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            made: now,
            expiry: now + life,
            issuer: Issuer::new(params, key),
        })
    }

    /// The one of this certificate and this key, both in PEM.
    pub(super) fn from_pem(certificate: String, key: &str) -> Result<Self, Flaw> {
        let flaw = |of_key| move |problem: String| Flaw { of_key, problem };
        let pair = KeyPair::from_pem(key).map_err(|error| flaw(true)(error.to_string()))?;
        // The issuer does not look whether the two belong together, and the API server would only
        // say that it does not trust what comes of it.
        let leaf = Leaf::from_pem(certificate.as_bytes(), pair.serialize_der())
            .map_err(|error| flaw(false)(error.to_string()))?;
        leaf.serve(None)
            .map_err(|error| flaw(true)(error.to_string()))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| flaw(false)(error.to_string()))?;
        let (from, expiry) = tls::validity(&der).map_err(|error| flaw(false)(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair)
            .map_err(|error| flaw(false)(error.to_string()))?;
        Ok(Self {
            certificate,
            made: from + SKEW,
            expiry,
            issuer,
        })
    }

    /// Its key (PEM).
    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate to serve the API server under the names of the webhook's Service.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn serving(&self, namespace: &str, life: Duration) -> Result<Leaf, IdentityError> {
        let names =
            ["", ".svc", ".svc.cluster.local"].map(|suffix| format!("{NAME}.{namespace}{suffix}"));
        self.leaf(names.to_vec(), ExtendedKeyUsagePurpose::ServerAuth, life)
    }

    /// A certificate to call others under this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn calling(&self, name: &str, life: Duration) -> Result<Leaf, IdentityError> {
        let names = vec![name.to_owned()];
        self.leaf(names, ExtendedKeyUsagePurpose::ClientAuth, life)
    }

    /// A certificate (PEM) for the agent of this node, whose key is its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sign_agent_certificate(
        &self,
        node: &str,
        key: &impl PublicKeyData,
        life: Duration,
    ) -> Result<String, IdentityError> {
        let names = vec![identity::agent(node)];
        let params = self.params(names, ExtendedKeyUsagePurpose::ServerAuth, life)?;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    fn leaf(
        &self,
        names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
        life: Duration,
    ) -> Result<Leaf, IdentityError> {
        let key = KeyPair::generate()?;
        let certificate = self
            .params(names, purpose, life)?
            .signed_by(&key, &self.issuer)?;
        Ok(Leaf::new(certificate.der().clone(), key.serialize_der())?)
    }

    fn params(
        &self,
        names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
        life: Duration,
    ) -> Result<CertificateParams, IdentityError> {
        // X.509 allows 64 characters here. Nobody verifies by it, so it need not be unique.
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("curfew");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - SKEW).into();
        params.not_after = (now + life).min(self.expiry).into();
        Ok(params)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
