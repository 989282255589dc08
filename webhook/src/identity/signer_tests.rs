use super::*;
use rcgen::{CertificateParams, DnType, KeyPair};

const ACCOUNT: &str = "system:serviceaccount:curfew:curfew-agent";

/// A request with these names, by the agent of node-1, changed by `change`.
fn request(
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams, &mut serde_json::Value),
) -> CertificateSigningRequest {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let mut spec = json!({
        "signerName": SIGNER,
        "username": ACCOUNT,
        "usages": USAGES,
        "extra": {NODE_CLAIM: ["node-1"]},
        "request": "",
    });
    change(&mut params, &mut spec);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut request: CertificateSigningRequest =
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap();
    if request.spec.request.0.is_empty() {
        request.spec.request.0 = pem.into_bytes();
    }
    request
}

const OWN: &str = "node-1.agent.curfew.dev";

#[test]
fn an_agent_is_certified_for_its_own_node() {
    let applicant = applicant(&request(&[OWN], |_, _| {}), "curfew").unwrap();
    assert_eq!(applicant.node, "node-1");
}

#[test]
fn whatever_else_is_asked_for_is_refused() {
    type Change = fn(&mut CertificateParams, &mut serde_json::Value);
    let cases: [(&[&str], Change, &str); 12] = [
        (
            &["node-2.agent.curfew.dev"],
            |_, _| {},
            "node node-1 must use the name",
        ),
        (&[OWN, "node-2.agent.curfew.dev"], |_, _| {}, "and no other"),
        (&["webhook.curfew.dev"], |_, _| {}, "and no other"),
        (&[], |_, _| {}, "and no other"),
        (&["10.0.0.1"], |_, _| {}, "and no other"),
        (
            &[OWN],
            |_, spec| spec["username"] = json!("system:serviceaccount:shop:curfew-agent"),
            "spec.username",
        ),
        (
            &[OWN],
            |_, spec| spec["username"] = json!("system:node:node-1"),
            "spec.username",
        ),
        (&[OWN], |_, spec| spec["extra"] = json!({}), "spec.extra"),
        (
            &[OWN],
            |_, spec| spec["extra"][NODE_CLAIM] = json!(["node-1", "node-2"]),
            "spec.extra",
        ),
        (
            &[OWN],
            |_, spec| spec["usages"] = json!(["server auth", "client auth"]),
            "client auth",
        ),
        (
            &[OWN],
            |params, _| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            "only for server authentication",
        ),
        (
            &[OWN],
            |params, _| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "only for server authentication",
        ),
    ];
    for (names, change, complaint) in cases {
        let why = applicant(&request(names, change), "curfew").unwrap_err();
        assert!(why.contains(complaint), "{why}");
    }
    let wrong = |bytes: &[u8]| {
        let mut request = request(&[OWN], |_, _| {});
        request.spec.request.0 = bytes.to_vec();
        applicant(&request, "curfew").unwrap_err()
    };
    assert!(wrong(b"").contains("spec.request"));
    assert!(wrong(b"\xff").contains("not PEM text"));
    assert!(
        wrong(b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----")
            .contains("spec.request")
    );
}

#[test]
fn who_has_not_the_key_gets_nothing() {
    // The subject is changed after it was signed.
    let asked = request(&[OWN], |params, _| {
        params
            .distinguished_name
            .push(DnType::CommonName, "an agent");
    });
    let mut der = rustls_der(&asked.spec.request.0);
    let at = der
        .windows(8)
        .position(|bytes| bytes == b"an agent")
        .unwrap();
    der[at] = b'A';
    let error = CertificateSigningRequestParams::from_der(&der.into()).unwrap_err();
    assert_eq!(error, rcgen::Error::InvalidCertificationRequestSignature);
}

fn rustls_der(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
    CertificateSigningRequestDer::from_pem_slice(pem)
        .unwrap()
        .to_vec()
}

#[test]
fn a_request_is_answered_once() {
    let with = |status: serde_json::Value| CertificateSigningRequest {
        status: Some(serde_json::from_value(status).unwrap()),
        ..CertificateSigningRequest::default()
    };
    let condition = |kind: &str| json!([{"type": kind, "status": "True"}]);
    assert!(!is_answered(&CertificateSigningRequest::default()));
    // The replica that approved may have ended before it signed.
    assert!(!is_answered(&with(
        json!({"conditions": condition("Approved")})
    )));
    assert!(is_answered(&with(
        json!({"conditions": condition("Denied")})
    )));
    assert!(is_answered(&with(
        json!({"conditions": condition("Approved"), "certificate": "eA=="})
    )));
}
