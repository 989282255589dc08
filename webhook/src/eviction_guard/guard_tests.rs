use super::*;
use serde_json::json;

fn eviction(uid: Option<&str>, nodes: &[&str]) -> Eviction {
    Eviction {
        namespace: "shop".into(),
        name: "cart-0".into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        uid: uid.map(str::to_owned),
        seen: None,
    }
}

fn pod(uid: &str, node: Option<&str>) -> Result<Option<Pod>, PodReadError> {
    let pod = json!({"metadata": {"name": "cart-0", "uid": uid}, "spec": {"nodeName": node}});
    Ok(Some(serde_json::from_value(pod).unwrap()))
}

fn now() -> Timestamp {
    "2027-01-15T08:10:00Z".parse().unwrap()
}

fn late() -> Result<Option<Pod>, PodReadError> {
    Err(PodReadError::Failed("no answer".into()))
}

fn judged(eviction: &Eviction, found: Result<Option<Pod>, PodReadError>) -> Result<(), Refusal> {
    Claim::of(eviction)?.check(found, now())
}

#[test]
fn only_the_pod_that_is_meant_on_the_callers_node_is_let_through() {
    let right = || eviction(Some("u-1"), &["node-1"]);
    let there = || pod("u-1", Some("node-1"));
    let taken_away = || Err(PodReadError::Unauthorised("pods is forbidden".into()));
    for (case, eviction, found, outcome, code) in [
        ("right", right(), there(), "admitted", 200),
        (
            "no UID",
            eviction(None, &["node-1"]),
            there(),
            "no_uid",
            400,
        ),
        (
            "no node",
            eviction(Some("u-1"), &[]),
            there(),
            "no_node",
            403,
        ),
        (
            "an empty node for a pod on none",
            eviction(Some("u-1"), &[""]),
            pod("u-1", None),
            "other_node",
            403,
        ),
        (
            "two nodes, one of them right",
            eviction(Some("u-1"), &["node-1", "node-2"]),
            there(),
            "no_node",
            403,
        ),
        ("no pod", right(), Ok(None), "gone", 404),
        (
            "a namesake",
            right(),
            pod("u-2", Some("node-1")),
            "other_pod",
            409,
        ),
        (
            "a namesake on another node is still only a namesake",
            right(),
            pod("u-2", Some("node-2")),
            "other_pod",
            409,
        ),
        (
            "a pod of another node",
            right(),
            pod("u-1", Some("node-2")),
            "other_node",
            403,
        ),
        (
            "a pod on no node",
            right(),
            pod("u-1", None),
            "other_node",
            403,
        ),
        (
            "nodes whose names begin alike",
            eviction(Some("u-1"), &["node-1"]),
            pod("u-1", Some("node-10")),
            "other_node",
            403,
        ),
        ("not read in time", right(), late(), "unread", 503),
        (
            "not to be read any more",
            right(),
            taken_away(),
            "unread",
            503,
        ),
        (
            "neither UID nor pod",
            eviction(None, &["node-1"]),
            Ok(None),
            "no_uid",
            400,
        ),
    ] {
        let judged = judged(&eviction, found);
        let (seen, status) = match &judged {
            Ok(()) => (Guarded::Admitted, 200),
            Err(refusal) => (refusal.outcome(), refusal.status().0),
        };
        assert_eq!(
            (seen.as_ref(), status),
            (outcome, code),
            "{case}: {judged:?}"
        );
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let right = eviction(Some("u-1"), &["node-1"]);
    for (eviction, found, said) in [
        (
            eviction(None, &["node-1"]),
            late(),
            &["deleteOptions.preconditions.uid: is missing"][..],
        ),
        (
            eviction(Some("u-1"), &["node-1", "node-2"]),
            late(),
            &["authentication.kubernetes.io/node-name", "2 values"],
        ),
        (right.clone(), Ok(None), &["no pod shop/cart-0"]),
        (
            right.clone(),
            pod("u-2", Some("node-1")),
            &["pod shop/cart-0 has the UID u-2", "the eviction is for u-1"],
        ),
        (
            right.clone(),
            pod("u-1", Some("node-2")),
            &["is on node node-2", "agent of node node-1"],
        ),
        (right.clone(), pod("u-1", None), &["is on no node yet"]),
        (
            right,
            late(),
            &["shop/cart-0 could not be read", "no answer"],
        ),
    ] {
        let sentence = judged(&eviction, found).unwrap_err().to_string();
        for part in said {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
    }
}

#[test]
fn a_pod_that_was_given_more_time_is_not_evicted_before_that() {
    // Done at 08:00 for ten minutes, which may be extended by an hour.
    let marked = |more: &[(&str, &str)]| {
        let mut annotations = json!({
            "curfew.dev/interaction-time": "2027-01-15T08:00:00Z",
            "curfew.dev/interactor": "alice",
            "curfew.dev/interaction": "attach",
            "curfew.dev/interactions": "1",
            "curfew.dev/ttl": "10m0s",
            "curfew.dev/max-extension": "1h0m0s",
            "curfew.dev/eviction-time": "2027-01-15T08:10:00Z",
            "curfew.dev/last-interaction": json!({
                "uid": "u-1",
                "interaction": {"time": "2027-01-15T08:00:00Z", "kind": "attach", "user": "alice", "command": "", "request": ""},
                "terms": {"action": "Evict", "ttl": "10m0s", "maxExtension": "1h0m0s"},
            }).to_string(),
        });
        for (key, value) in more {
            annotations[format!("curfew.dev/{key}")] = json!(value);
        }
        let pod = json!({
            "metadata": {"name": "cart-0", "uid": "u-1", "annotations": annotations},
            "spec": {"nodeName": "node-1"},
        });
        Ok(Some(serde_json::from_value(pod).unwrap()))
    };
    let asked = |seen: Option<&str>| Eviction {
        seen: seen.map(|seen| serde_json::from_str(seen).unwrap()),
        ..eviction(Some("u-1"), &["node-1"])
    };
    let (nothing, half_an_hour) = (Some("{}"), Some(r#"{"extension":"30m"}"#));
    for (seen, live, until) in [
        (nothing, &[][..], None),
        (
            nothing,
            &[("extension", "30m")],
            Some("2027-01-15T08:40:00Z"),
        ),
        (half_an_hour, &[("extension", "30m")], None),
        // A shorter one may have been taken for a longer one.
        (
            half_an_hour,
            &[("extension", "20m")],
            Some("2027-01-15T08:30:00Z"),
        ),
        // What does not reach beyond this moment keeps nothing.
        (half_an_hour, &[], None),
        (nothing, &[("extension", "nonsense")], None),
        // Whoever does not say what it knows is not asked.
        (None, &[("extension", "30m")], None),
        // Without a record there is nothing that could be extended.
        (
            nothing,
            &[("extension", "30m"), ("last-interaction", "{}")],
            None,
        ),
    ] {
        let judged = judged(&asked(seen), marked(live));
        let expected = until.map(|until: &str| Refusal::Moved {
            pod: "shop/cart-0".into(),
            until: until.parse().unwrap(),
        });
        assert_eq!(judged.err(), expected, "{seen:?} {live:?}");
    }
}
