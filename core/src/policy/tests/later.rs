//! What follows from what becomes known after an interaction was let through.

use super::{behaviour::ls_by_alice, *};
use crate::{
    behaviour::{Assessment, ProfileSpec, assess_left},
    left,
    terms::Action,
};

/// How it compares that alice left this behind, where enough was learned.
fn assessed(left: &str) -> Assessment {
    let (features, index, now) = ls_by_alice(&ProfileSpec::default(), 30, 14);
    let features = features.leaving(left::parse(left));
    assess_left(&features, &index, now, "deployment web")
}

/// Which policy applies, and whether because it is irregular.
fn later(
    all: &[(&str, Value)],
    left: &str,
    past: Option<&str>,
    whole_command: bool,
) -> Option<(Option<String>, bool, Action, u64)> {
    let (policies, assessment) = (policies(all), assessed(left));
    let case = Case {
        groups: Vec::new(),
        ..Case::default()
    };
    let subject = Subject {
        behaviour: Some(&assessment),
        ..case.subject()
    };
    let past = Past {
        policy: past,
        whole_command,
    };
    let later = policies.decide_later(&subject, past, DEFAULTS)?;
    let Admitted { policy, terms, .. } = later.admitted;
    Some((
        policy.map(str::to_owned),
        later.because_irregular,
        terms.action,
        terms.ttl.as_secs(),
    ))
}

fn expected(
    policy: &str,
    irregular: bool,
    ttl: u64,
) -> Option<(Option<String>, bool, Action, u64)> {
    Some((Some(policy.to_owned()), irregular, Action::Evict, ttl))
}

fn learning() -> (&'static str, Value) {
    ("learning", json!({"learn": true}))
}

fn irregular(more: Value) -> (&'static str, Value) {
    let mut spec = json!({"priority": 10, "behaviour": "Irregular", "ttl": "1m"});
    let spec_of = spec.as_object_mut().unwrap();
    spec_of.extend(more.as_object().unwrap().clone());
    ("irregular", spec)
}

#[test]
fn what_is_irregular_goes_by_the_policy_for_it() {
    let all = [irregular(json!({})), learning()];
    let past = Some("learning");
    assert_eq!(
        later(&all, "running nc", past, true),
        expected("irregular", true, 60)
    );
    // One weak reason is tolerated.
    assert_eq!(
        later(&all, "running tail", past, true),
        expected("learning", false, 600)
    );
    assert_eq!(
        later(&[], "running nc", None, true),
        Some((None, false, Action::Evict, 600))
    );
}

#[test]
fn it_is_too_late_to_deny_it() {
    let all = [irregular(json!({"action": "Deny"})), learning()];
    let found = later(&all, "dropped xmrig", Some("learning"), true);
    assert_eq!(found, expected("irregular", true, 60));
}

#[test]
fn what_depends_on_groups_that_are_not_known_is_not_guessed() {
    let group = |more: Value| {
        let mut spec = json!({"priority": 20, "groups": ["sre"], "ttl": "8h"});
        let spec_of = spec.as_object_mut().unwrap();
        spec_of.extend(more.as_object().unwrap().clone());
        ("of-group", spec)
    };
    let below = [irregular(json!({})), learning()];
    let with = |first: (&'static str, Value)| [vec![first], below.to_vec()].concat();
    let left = "running nc";
    // It did not apply then, and so it does not now.
    let all = with(group(json!({})));
    assert_eq!(
        later(&all, left, Some("learning"), true),
        expected("irregular", true, 60)
    );
    // It did.
    assert_eq!(
        later(&all, left, Some("of-group"), true),
        expected("of-group", false, 8 * 3600)
    );
    // It may spare some people from what is irregular.
    let all = with(group(json!({"behaviour": "Irregular"})));
    assert_eq!(later(&all, left, Some("learning"), true), None);
    // A user who is listed needs no group, and who is elsewhere has none that counts.
    let all = with(group(json!({"behaviour": "Irregular", "users": ["alice"]})));
    assert_eq!(
        later(&all, left, Some("learning"), true),
        expected("of-group", true, 8 * 3600)
    );
    let elsewhere = json!({"behaviour": "Irregular", "podSelector": {"matchLabels": {"app": "x"}}});
    let all = with(group(elsewhere));
    assert_eq!(
        later(&all, left, Some("learning"), true),
        expected("irregular", true, 60)
    );
    // What was usual then is not now.
    let all = with(group(json!({"behaviour": "Usual"})));
    assert_eq!(
        later(&all, left, Some("of-group"), true),
        expected("irregular", true, 60)
    );
}

#[test]
fn nor_is_what_depends_on_words_that_were_not_recorded() {
    let all = [irregular(json!({"commands": [["ls", "..."]]})), learning()];
    let past = Some("learning");
    assert_eq!(
        later(&all, "running nc", past, true),
        expected("irregular", true, 60)
    );
    assert_eq!(later(&all, "running nc", past, false), None);
    let all = [irregular(json!({"commands": [["cat"]]})), learning()];
    assert_eq!(
        later(&all, "running nc", past, true),
        expected("learning", false, 600)
    );
}
