//! What follows from what is found in a pod, and what policies can ask of a bypass.

use super::*;
use crate::terms::{OnEvidence, WhenChanged, WhenUnchanged};

/// `nsenter` into cart-1, by whoever it was.
fn bypass() -> Case {
    Case {
        kind: Kind::Bypass,
        user: "unknown".into(),
        groups: Vec::new(),
        ..Case::default()
    }
}

#[test]
fn a_policy_says_what_follows_from_what_is_found() {
    use WhenChanged::{AtDeadline, Now};
    use WhenUnchanged::{Evict, Release};
    for (spec, when_changed, when_unchanged) in [
        (json!({}), AtDeadline, Evict),
        (
            json!({"whenChanged": "AtDeadline", "whenUnchanged": "Evict"}),
            AtDeadline,
            Evict,
        ),
        (json!({"whenChanged": "Now"}), Now, Evict),
        (json!({"whenUnchanged": "Release"}), AtDeadline, Release),
        (
            json!({"whenChanged": "Now", "whenUnchanged": "Release"}),
            Now,
            Release,
        ),
        (
            json!({"users": ["bob"], "whenUnchanged": "Release"}),
            AtDeadline,
            Evict,
        ),
    ] {
        let policies = policies(&[("p", spec.clone())]);
        let expected = OnEvidence {
            when_changed,
            when_unchanged,
        };
        let terms = admitted(&policies, &Case::default()).terms;
        assert_eq!(terms.on_evidence, expected, "{spec}");
    }
    // An exemption may end, and then it counts.
    let policies = policies(&[(
        "p",
        json!({"unmanagedPods": "Record", "whenUnchanged": "Release"}),
    )]);
    let bare = Case {
        managed: false,
        ..Case::default()
    };
    let terms = admitted(&policies, &bare).terms;
    assert_eq!(terms.exemption, Some(Exemption::Unmanaged));
    assert_eq!(terms.on_evidence.when_unchanged, Release);
}

#[test]
fn what_is_left_out_is_not_written() {
    let written = |value: Value| serde_json::to_value(spec(value)).unwrap();
    let given = written(json!({"whenChanged": "Now"}));
    assert_eq!(given["whenChanged"], "Now");
    assert_eq!(given.get("whenUnchanged"), None);
    for (field, value) in [("whenChanged", "Never"), ("whenUnchanged", "Keep")] {
        let error = serde_json::from_value::<Spec>(json!({field: value})).unwrap_err();
        assert!(error.to_string().contains("unknown variant"), "{error}");
    }
}

#[test]
fn what_nobody_can_know_of_a_bypass_is_no_condition_it_meets() {
    for (spec, expected) in [
        (json!({}), true),
        (json!({"interactions": ["bypass"]}), true),
        (json!({"interactions": ["exec", "bypass"]}), true),
        (
            json!({"interactions": ["exec", "attach", "debug", "portforward"]}),
            false,
        ),
        (json!({"users": ["unknown"]}), true),
        (json!({"users": ["alice"]}), false),
        (json!({"groups": ["dev"]}), false),
        (json!({"actors": ["User"]}), true),
        (json!({"actors": ["ServiceAccount", "Node"]}), false),
        (json!({"interactive": true}), false),
        (json!({"interactive": false}), false),
        (json!({"commands": [["ls", "..."]]}), false),
        (json!({"behaviour": "Irregular"}), false),
        (json!({"behaviour": "Usual"}), false),
        (json!({"workloads": ["Deployment"]}), true),
        (json!({"workloads": ["Job"]}), false),
        (
            json!({"podSelector": {"matchLabels": {"app": "cart"}}}),
            true,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}),
            false,
        ),
    ] {
        for (stdin, tty) in [(false, false), (true, true)] {
            let case = Case {
                stdin,
                tty,
                ..bypass()
            };
            assert_eq!(applies(spec.clone(), &case), expected, "{spec}");
        }
    }
}

#[test]
fn a_bypass_starts_a_timer_where_others_are_denied() {
    use terms::Action::{Evict, Record};
    for (spec, action) in [
        (json!({"action": "Deny", "ttl": "1m"}), Evict),
        (json!({"ttl": "1m"}), Evict),
        (json!({"action": "Record", "ttl": "1m"}), Record),
        // A process can call itself anything.
        (
            json!({"harmlessCommands": [["ls", "*"]], "ttl": "1m"}),
            Evict,
        ),
    ] {
        let policies = policies(&[("p", spec.clone())]);
        let admitted = admitted(&policies, &bypass());
        assert_eq!(admitted.policy, Some("p"));
        assert_eq!(admitted.terms.action, action, "{spec}");
        assert_eq!(admitted.terms.ttl, Duration::from_secs(60));
        assert_eq!(admitted.terms.exemption, None);
    }
    let protected = Case {
        namespace: "kube-system".into(),
        priority: 2_000_000_000,
        ..bypass()
    };
    let policies = policies(&[("p", json!({"action": "Deny"}))]);
    let terms = admitted(&policies, &protected).terms;
    assert_eq!(terms.exemption, Some(Exemption::Protected));
}

#[test]
fn a_policy_that_releases_pods_is_laxer() {
    let other = json!({"matchLabels": {"app": "other"}});
    let laxer = |own: Value, all: Value| {
        let mut own = own;
        own["podSelector"] = other.clone();
        own["priority"] = json!(1);
        let policies = policies(&[("own", own), ("all", all)]);
        let case = Case::default();
        !policies.pod_choice(&case.subject()).laxer.is_empty()
    };
    let release = || json!({"ttl": "1m", "whenUnchanged": "Release"});
    let now = || json!({"ttl": "1m", "whenChanged": "Now"});
    let plain = || json!({"ttl": "1m"});
    assert!(laxer(release(), plain()) && !laxer(plain(), release()));
    assert!(laxer(plain(), now()) && !laxer(now(), plain()));
    assert!(!laxer(release(), release()) && !laxer(now(), now()));
    assert!(laxer(release(), now()), "each in its way");
}
