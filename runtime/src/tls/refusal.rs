//! Why a peer was refused, in few words that can be counted.

use std::{error::Error, io};

use prometheus::IntCounterVec;
use rustls::CertificateError;
use strum::{AsRefStr, VariantNames};

use crate::metrics::Catalog;

/// Why. The metrics' label has the name in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsRefStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// It showed no certificate.
    Missing,
    /// Its certificate has ended.
    Expired,
    /// Its certificate does not hold yet: a clock is wrong.
    #[strum(serialize = "not_yet_valid")]
    Early,
    /// No CA that is trusted issued its certificate.
    Untrusted,
    /// Its certificate is another's.
    Name,
    /// Its certificate was made for something else.
    Purpose,
    /// It did not want ours.
    Rejected,
    /// It does not speak TLS as it should, or at all.
    Protocol,
}

impl From<&rustls::Error> for Refusal {
    fn from(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(certificate) = error else {
            return match error {
                rustls::Error::NoCertificatesPresented => Refusal::Missing,
                rustls::Error::AlertReceived(_) => Refusal::Rejected,
                _ => Refusal::Protocol,
            };
        };
        match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Refusal::Early
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Refusal::Name
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Refusal::Purpose
            }
            _ => Refusal::Untrusted,
        }
    }
}

/// Why a connection was refused, if it was: an error, or what lies beneath it, is one of TLS.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.into());
        }
        current = match error.downcast_ref::<io::Error>() {
            // What an error of I/O wraps is not its source, but in its place.
            Some(wrapped) => wrapped
                .get_ref()
                .map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Counts those who were refused.
#[derive(Debug, Clone)]
pub struct Refusals(pub(super) IntCounterVec);

impl Refusals {
    /// A counter of this name, in which every reason stands from the start.
    ///
    /// # Errors
    /// As [`Catalog::add`].
    pub fn new(catalog: &mut Catalog, name: &str, help: &str) -> prometheus::Result<Self> {
        let labels = [("reason", Refusal::VARIANTS)];
        catalog.counters(name, help, &labels).map(Self)
    }

    /// Somebody was refused.
    pub fn count(&self, refusal: Refusal) {
        self.0.with_label_values(&[refusal.as_ref()]).inc();
    }
}
