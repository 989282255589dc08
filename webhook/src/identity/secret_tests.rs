use super::*;
use curfew_core::identity::agent;
use curfew_runtime::tls::Leaf;
use rcgen::KeyPair;

const LIFETIMES: Lifetimes = Lifetimes {
    certificate: Duration::from_secs(24 * 3600),
    authority: Duration::from_secs(360 * 24 * 3600),
    overlap: Duration::from_secs(300),
    path: Duration::from_secs(12 * 3600),
};

fn new() -> Authorities {
    Authorities::new(LIFETIMES.authority).unwrap()
}

fn stored(authorities: &Authorities) -> Authorities {
    Authorities::read(&authorities.write(None), "curfew").unwrap()
}

/// An agent's certificate as these issue it at the moment.
fn leaf(authorities: &Authorities) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let pem = authorities
        .current
        .sign_agent_certificate("node-1", &key, LIFETIMES.certificate);
    Leaf::from_pem(pem.unwrap().as_bytes(), key.serialize_der()).unwrap()
}

fn trusts(authorities: &Authorities, leaf: &Leaf) -> bool {
    let trust = Trust::from_pem(&authorities.bundle()).unwrap();
    trust.check_server(leaf, &agent("node-1")).is_ok()
}

#[test]
fn what_is_stored_is_read_again_in_each_state() {
    let first = new();
    let prepared = first.after(ExchangeStep::Prepare, &LIFETIMES).unwrap();
    let switched = prepared.after(ExchangeStep::Switch, &LIFETIMES).unwrap();
    let retired = switched.after(ExchangeStep::Retire, &LIFETIMES).unwrap();
    for authorities in [&first, &prepared, &switched, &retired] {
        let again = stored(authorities);
        assert_eq!(again.bundle(), authorities.bundle());
        assert_eq!(again.current.key(), authorities.current.key());
        assert_eq!(again.next(), authorities.next());
        let apart = again.current.made.duration_since(authorities.current.made);
        let apart = apart.unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(2), "{apart:?}");
        assert!(trusts(&again, &leaf(&again)));
    }
}

#[test]
fn nobody_is_shown_a_certificate_that_is_not_trusted_yet() {
    let first = new();
    let of_first = leaf(&first);
    let prepared = first.after(ExchangeStep::Prepare, &LIFETIMES).unwrap();
    assert!(trusts(&prepared, &of_first) && trusts(&prepared, &leaf(&prepared)));
    // The former still issues.
    assert!(trusts(&first, &leaf(&prepared)));

    let switched = prepared.after(ExchangeStep::Switch, &LIFETIMES).unwrap();
    let of_second = leaf(&switched);
    assert!(trusts(&prepared, &of_second), "who is a step behind");
    assert!(!trusts(&first, &of_second), "it is another");
    assert!(
        trusts(&switched, &of_first),
        "certificates in use go on to hold"
    );

    let retired = switched.after(ExchangeStep::Retire, &LIFETIMES).unwrap();
    assert!(trusts(&retired, &of_second));
    assert!(!trusts(&retired, &of_first), "and end with their CA");
}

#[test]
fn each_step_has_its_time() {
    let day = Duration::from_secs(24 * 3600);
    let first = stored(&new());
    let made = first.current.made;
    let step =
        |authorities: &Authorities, asked, at: SystemTime| authorities.step(&LIFETIMES, asked, at);
    let exchange = made + 240 * day;
    assert_eq!(step(&first, false, made), ExchangeStep::Wait(exchange));
    assert_eq!(step(&first, false, exchange), ExchangeStep::Prepare);
    assert_eq!(step(&first, true, made), ExchangeStep::Prepare);

    let prepared = stored(&first.after(ExchangeStep::Prepare, &LIFETIMES).unwrap());
    let next = prepared.next.as_ref().unwrap().made;
    let switch = next + LIFETIMES.overlap;
    for asked in [false, true] {
        assert_eq!(step(&prepared, asked, next), ExchangeStep::Wait(switch));
        assert_eq!(step(&prepared, asked, switch), ExchangeStep::Switch);
    }
    let switched = stored(&prepared.after(ExchangeStep::Switch, &LIFETIMES).unwrap());
    let retire = switch + LIFETIMES.overlap + LIFETIMES.certificate;
    assert_eq!(step(&switched, true, switch), ExchangeStep::Wait(retire));
    assert_eq!(step(&switched, true, retire), ExchangeStep::Retire);
    let retired = stored(&switched.after(ExchangeStep::Retire, &LIFETIMES).unwrap());
    assert_eq!(
        step(&retired, false, retire),
        ExchangeStep::Wait(next + 240 * day)
    );
}

#[test]
fn a_certificate_does_not_outlast_its_authority() {
    let short = Authorities::new(Duration::from_secs(60)).unwrap();
    let left = leaf(&short)
        .expiry()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(left <= Duration::from_secs(60), "{left:?}");
}

#[test]
fn a_secret_that_holds_no_authority_is_a_clear_error() {
    let (one, two) = (new().current, new().current);
    let secret = |data: &[(&str, &str)]| Secret {
        data: Some(
            data.iter()
                .map(|(key, text)| ((*key).to_owned(), ByteString((*text).into())))
                .collect(),
        ),
        ..Secret::default()
    };
    let pair = [(CERTIFICATE, one.certificate.as_str()), (KEY, &one.key())];
    let with = |more: &[(&str, &str)]| secret(&[&pair[..], more].concat());
    for (secret, field) in [
        (Secret::default(), "tls.crt"),
        (secret(&[(CERTIFICATE, "x"), (KEY, &one.key())]), "tls.crt"),
        (
            secret(&[(CERTIFICATE, &one.certificate), (KEY, "x")]),
            "tls.key",
        ),
        (
            secret(&[(CERTIFICATE, &one.certificate), (KEY, &two.key())]),
            "tls.key",
        ),
        (with(&[(NEXT_CERTIFICATE, &two.certificate)]), "next.key"),
        (with(&[(PREVIOUS, "x")]), "previous.crt"),
    ] {
        let error = Authorities::read(&secret, "curfew")
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("Secret curfew-webhook-ca in namespace curfew"),
            "{error}"
        );
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn the_rest_of_the_secret_stays_as_it_is() {
    let mut secret = new().write(None);
    secret.metadata.resource_version = Some("7".to_owned());
    secret.metadata.annotations = Some([(ROTATE.to_owned(), "now".to_owned())].into());
    assert!(is_asked_for(&secret, ROTATE));
    let written = new().write(Some(secret.clone()));
    assert_eq!(written.metadata, secret.metadata);
    assert_ne!(written.data, secret.data);
}
