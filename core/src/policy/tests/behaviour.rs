//! The condition on behaviour.

use std::hash::RandomState;

use super::*;
use crate::behaviour::{
    Assessment, Features, ProfileIndex, ProfileSpec, ProfileStatus, SeenInteraction, assess,
};

/// How `ls` by alice compares with a workload that these people know, where this was learned.
fn assessed(allowed: Value, people: u64, days: i64) -> Assessment {
    let spec = serde_json::from_value(json!({"allowed": allowed})).unwrap();
    let (features, index, now) = ls_by_alice(&spec, people, days);
    assess(&features, &index, now, "deployment web")
}

/// `ls` by alice, and a profile of a workload that these people know, where this was learned.
pub(super) fn ls_by_alice(
    spec: &ProfileSpec,
    people: u64,
    days: i64,
) -> (Features, ProfileIndex<RandomState>, jiff::Timestamp) {
    let now: jiff::Timestamp = "2026-11-02T10:00:00Z".parse().unwrap();
    let status = ProfileStatus {
        samples: people,
        people,
        since: Some(now - jiff::SignedDuration::from_hours(24 * days)),
        ..ProfileStatus::default()
    };
    let features = Features::of(&SeenInteraction {
        user: "alice",
        groups: &[],
        kind: Kind::Exec,
        container: Some("app"),
        argv: &["ls".to_owned()],
        tty: false,
        stdin: false,
        time: now,
        rate: 1,
    });
    let index = ProfileIndex::new(spec, &status, jiff::Timestamp::MIN, RandomState::new());
    (features, index, now)
}

fn everything() -> Value {
    json!([{"actors": ["User"], "kinds": ["exec"], "containers": ["app"], "programs": ["ls"]}])
}

#[test]
fn the_policy_says_what_is_enough() {
    let asks = |behaviour: &str, days: u32, samples: u32| json!({"behaviour": behaviour, "minimumDays": days, "minimumSamples": samples});
    for (spec, people, days, expected) in [
        (json!({"behaviour": "Irregular"}), 30, 14, true),
        (json!({"behaviour": "Irregular"}), 29, 14, false),
        (json!({"behaviour": "Irregular"}), 30, 13, false),
        (asks("Irregular", 0, 1), 1, 0, true),
        (asks("Irregular", 0, 1), 0, 0, false),
        (asks("Irregular", 20, 1), 1, 19, false),
        (json!({"behaviour": "Usual"}), 30, 14, false),
        // What is not known is not usual either.
        (json!({"behaviour": "Usual"}), 0, 0, false),
    ] {
        let assessment = assessed(json!([]), people, days);
        let policies = policies(&[("p", spec.clone())]);
        let case = Case::default();
        let subject = Subject {
            behaviour: Some(&assessment),
            ..case.subject()
        };
        let applies = policies.explain(&subject)[0].matched == PolicyMatch::Applies;
        assert_eq!(applies, expected, "{spec} {people} {days}");
    }
}

#[test]
fn what_people_allowed_is_usual_from_the_first_day() {
    let assessment = assessed(everything(), 0, 0);
    let policies = policies(&[("p", json!({"behaviour": "Usual"}))]);
    let case = Case::default();
    let subject = Subject {
        behaviour: Some(&assessment),
        ..case.subject()
    };
    assert_eq!(policies.explain(&subject)[0].matched, PolicyMatch::Applies);
}

#[test]
fn without_a_profile_it_is_neither() {
    let case = Case::default();
    for (behaviour, told) in [
        ("Irregular", "it applies only to irregular interactions"),
        (
            "Usual",
            "it applies only to interactions that are known to be usual",
        ),
    ] {
        let policies = policies(&[("p", json!({"behaviour": behaviour}))]);
        let found = policies.explain(&case.subject())[0].matched.to_string();
        assert_eq!(found, told);
    }
}

#[test]
fn a_profile_is_not_asked_about_a_bypass_and_does_not_learn_it() {
    let assessment = assessed(json!([]), 30, 14);
    let policies = policies(&[
        ("asks", json!({"priority": 1, "behaviour": "Irregular"})),
        ("learns", json!({"learn": true})),
    ]);
    for (kind, applies) in [(Kind::Exec, "asks"), (Kind::Bypass, "learns")] {
        let case = Case {
            kind,
            ..Case::default()
        };
        let subject = Subject {
            behaviour: Some(&assessment),
            ..case.subject()
        };
        let PolicyDecision::Admit(admitted) = policies.decide(&subject, DEFAULTS) else {
            panic!("{kind}")
        };
        assert_eq!(admitted.policy, Some(applies));
        assert!(!admitted.learn, "{kind}");
        assert_eq!(admitted.behaviour.is_some(), kind == Kind::Exec);
    }
}
