//! Why a peer was refused, in few words that can be counted.

use std::{error::Error, io};

use prometheus::{IntCounterVec, Opts};
use rustls::CertificateError;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It showed no certificate.
    Missing,
    /// Its certificate has ended.
    Expired,
    /// Its certificate does not hold yet: a clock is wrong.
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

impl Refusal {
    const ALL: [Self; 8] = [
        Refusal::Missing,
        Refusal::Expired,
        Refusal::Early,
        Refusal::Untrusted,
        Refusal::Name,
        Refusal::Purpose,
        Refusal::Rejected,
        Refusal::Protocol,
    ];

    /// The value of the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Missing => "missing",
            Refusal::Expired => "expired",
            Refusal::Early => "not_yet_valid",
            Refusal::Untrusted => "untrusted",
            Refusal::Name => "name",
            Refusal::Purpose => "purpose",
            Refusal::Rejected => "rejected",
            Refusal::Protocol => "protocol",
        }
    }
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
pub struct Refusals(IntCounterVec);

impl Refusals {
    /// A counter of this name, in which every reason stands from the start.
    ///
    /// # Errors
    /// When the name is not one.
    pub fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let counter = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
        for refusal in Refusal::ALL {
            counter.with_label_values(&[refusal.as_str()]);
        }
        Ok(Self(counter))
    }

    /// The counter, to be registered.
    pub fn collector(&self) -> IntCounterVec {
        self.0.clone()
    }

    /// Somebody was refused.
    pub fn count(&self, refusal: Refusal) {
        self.0.with_label_values(&[refusal.as_str()]).inc();
    }
}
