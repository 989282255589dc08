use curfew_core::metadata;
use serde_json::json;

use super::*;
use crate::testing::{at, pod_id, record, shell};

fn body(request: &http::Request<Vec<u8>>) -> serde_json::Value {
    serde_json::from_slice(request.body()).unwrap()
}

#[test]
fn the_uid_is_where_the_api_server_looks_for_it() {
    let overrides = Overrides::default();
    let sent = body(&eviction(&pod_id("u-1"), Some(&overrides), None, false).unwrap());
    assert_eq!(sent["apiVersion"], "policy/v1");
    assert_eq!(sent["kind"], "Eviction");
    assert_eq!(sent["metadata"]["name"], "cart-1");
    let uid = json!({"uid": "u-1"});
    assert_eq!(sent["deleteOptions"]["preconditions"], uid);
    assert_eq!(sent["metadata"]["annotations"][overrides::SEEN], "{}");
    let sent = body(&eviction(&pod_id("u-1"), None, None, false).unwrap());
    assert_eq!(sent["metadata"].get("annotations"), None);
    let sent = body(&eviction(&pod_id("u-1"), None, Some("7"), false).unwrap());
    assert_eq!(sent["metadata"].get("annotations"), None);
    let all = json!({"uid": "u-1", "resourceVersion": "7"});
    assert_eq!(sent["deleteOptions"]["preconditions"], all);
}

/// The metadata of the pod that a shell was opened in at 0 s, with an extension of ten minutes or without.
fn found(uid: &str, extended: bool) -> ObjectMeta {
    let told = metadata::annotations(&record("u-1", shell(0)), &[]).into_iter();
    let wanted = extended.then(|| (metadata::EXTENSION, "10m".to_owned()));
    let annotations = told
        .chain(wanted)
        .map(|(key, value)| (key.to_owned(), value));
    ObjectMeta {
        uid: Some(uid.to_owned()),
        resource_version: Some("7".to_owned()),
        annotations: Some(annotations.collect()),
        ..ObjectMeta::default()
    }
}

#[test]
fn a_pod_is_evicted_as_it_was_read() {
    let pod = pod_id("u-1");
    let nothing = Overrides::default();
    let check = |seen, found, second| check(&pod, seen, found, at(second));
    assert_eq!(
        check(Some(&nothing), found("u-1", false), 600),
        Ok(Some("7".to_owned()))
    );
    assert_eq!(
        check(Some(&nothing), found("u-2", false), 600),
        Err(EvictionOutcome::Gone)
    );
    let early = check(Some(&nothing), found("u-1", true), 600).unwrap_err();
    assert!(
        matches!(early, EvictionOutcome::DeadlineMoved(why) if why.contains("2027-01-15T08:20:00Z"))
    );
    // An extension that is over moves nothing, and nobody is waited for without end.
    assert!(check(Some(&nothing), found("u-1", true), 1200).is_ok());
    assert_eq!(check(None, found("u-1", true), 600), Ok(None));
}

#[test]
fn a_dry_run_is_said_to_the_api_server_and_to_those_it_asks() {
    let dry = eviction(&pod_id("u-1"), None, None, true).unwrap();
    assert_eq!(body(&dry)["deleteOptions"]["dryRun"], json!(["All"]));
    assert!(
        dry.uri().query().unwrap().contains("dryRun=All"),
        "{}",
        dry.uri()
    );
    let real = eviction(&pod_id("u-1"), None, None, false).unwrap();
    assert_eq!(body(&real)["deleteOptions"].get("dryRun"), None);
    assert!(!real.uri().to_string().contains("dryRun"), "{}", real.uri());
}
