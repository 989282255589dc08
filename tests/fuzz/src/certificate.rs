//! CAs that are to be trusted, and certificates that somebody shows.

use std::time::{Duration, SystemTime};

use curfew_runtime::tls::{Leaf, Trust, Unusable, validity};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};

/// A CA that has issued no certificate, and of which nobody has the key.
const CA: &str = include_str!("../../../fuzz/corpus/certificate/ca.pem");

/// A file with CAs in PEM, whose first certificate somebody shows, too; or a certificate in DER.
pub fn certificate(bytes: &[u8]) {
    let mut shown = CertificateDer::from(bytes.to_vec());
    if let Ok(text) = std::str::from_utf8(bytes) {
        authorities(text);
        if let Ok(first) = CertificateDer::from_pem_slice(bytes) {
            shown = first;
        }
    }
    if let Ok((_, until)) = validity(&shown)
        && let Ok(leaf) = Leaf::new(shown.clone(), Vec::new())
    {
        assert_eq!(leaf.expiry(), until);
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        assert!(leaf.renewal() <= left + Duration::from_secs(1));
    }
    // Whatever it says of itself, nobody has signed it.
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    for client in ["webhook.curfew.dev", ""] {
        let trust = Trust::from_pem(CA);
        let verifier = trust.and_then(|trust| match client {
            "" => trust.any_client(),
            name => trust.clients(name),
        });
        let verifier = verifier.map(|verifier| verifier.verify_client_cert(&shown, &[], now));
        assert!(matches!(verifier, Ok(Err(_))), "{verifier:?}");
    }
}

fn authorities(text: &str) {
    let trust = match Trust::from_pem(text) {
        Ok(trust) => trust,
        Err(error) => {
            assert!(!matches!(error, Unusable::Untrusted(_)));
            assert!(error.to_string().len() < 1024, "{error}");
            return;
        }
    };
    assert!(trust.issuing().is_some());
    let again = Trust::from_pem(text).is_ok_and(|again| again.is_same(&trust));
    assert!(again, "read again it is another");
    if let Err(error) = trust.any_client() {
        assert!(error.to_string().len() < 1024, "{error}");
    }
}
