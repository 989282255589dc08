use super::*;
use serde_json::json;

fn eviction(uid: Option<&str>, nodes: &[&str]) -> Eviction {
    Eviction {
        namespace: "shop".into(),
        name: "cart-0".into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        uid: uid.map(str::to_owned),
    }
}

fn pod(uid: &str, node: Option<&str>) -> Result<Option<Pod>, Failure> {
    let pod = json!({"metadata": {"name": "cart-0", "uid": uid}, "spec": {"nodeName": node}});
    Ok(Some(serde_json::from_value(pod).unwrap()))
}

fn late() -> Result<Option<Pod>, Failure> {
    Err(Failure::Failed("no answer".into()))
}

fn judged(eviction: &Eviction, found: Result<Option<Pod>, Failure>) -> Result<(), Refusal> {
    Claim::of(eviction)?.check(found)
}

#[test]
fn only_the_pod_that_is_meant_on_the_callers_node_is_let_through() {
    let right = || eviction(Some("u-1"), &["node-1"]);
    let there = || pod("u-1", Some("node-1"));
    let taken_away = || Err(Failure::Unauthorised("pods is forbidden".into()));
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
        let seen = match &judged {
            Ok(()) => (Guarded::Admitted.as_str(), 200),
            Err(refusal) => (refusal.outcome().as_str(), refusal.status().0),
        };
        assert_eq!(seen, (outcome, code), "{case}: {judged:?}");
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
            &["pod shop/cart-0 has the UID u-2", "to be evicted was u-1"],
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
