//! The tables that say what policies mean.

mod behaviour;
mod conditions;
mod evidence;
mod later;
mod pod_choice;
mod properties;
mod spec_values;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    interaction::Kind,
    terms::{self, DefaultTerms, Enforcement, Exemption},
};

const DEFAULTS: DefaultTerms = DefaultTerms {
    ttl: Duration::from_secs(600),
    max_extension: Duration::from_secs(3600),
    max_hold: Duration::from_secs(7200),
    enforcement: Enforcement::Enforce,
};

/// An interaction, to be changed by each test.
#[derive(Debug, Clone)]
struct Case {
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    pod_labels: BTreeMap<String, String>,
    priority: i32,
    managed: bool,
    of_job: bool,
    workload: &'static str,
    mirror: bool,
    user: String,
    groups: Vec<String>,
    kind: Kind,
    argv: Vec<String>,
    stdin: bool,
    tty: bool,
}

impl Default for Case {
    /// `kubectl exec cart-1 -- ls /tmp` in shop, by alice, who is in the group dev.
    fn default() -> Self {
        Self {
            namespace: "shop".into(),
            namespace_labels: labels(&[("env", "dev"), ("kubernetes.io/metadata.name", "shop")]),
            pod_labels: labels(&[("app", "cart")]),
            priority: 0,
            managed: true,
            of_job: false,
            workload: "Deployment",
            mirror: false,
            user: "alice".into(),
            groups: vec!["dev".into(), "system:authenticated".into()],
            kind: Kind::Exec,
            argv: words("ls /tmp"),
            stdin: false,
            tty: false,
        }
    }
}

impl Case {
    fn subject(&self) -> Subject<'_> {
        Subject {
            namespace: &self.namespace,
            namespace_labels: &self.namespace_labels,
            pod_labels: &self.pod_labels,
            priority: self.priority,
            managed: self.managed,
            of_job: self.of_job,
            workload: self.workload,
            mirror: self.mirror,
            user: &self.user,
            groups: &self.groups,
            kind: self.kind,
            argv: &self.argv,
            stdin: self.stdin,
            tty: self.tty,
            behaviour: None,
        }
    }
}

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn spec(value: Value) -> Spec {
    let spec: Spec = serde_json::from_value(value).unwrap();
    spec.check().unwrap();
    spec
}

fn policies(all: &[(&str, Value)]) -> Policies {
    all.iter()
        .map(|(name, value)| Policy {
            name: (*name).to_owned(),
            spec: spec(value.clone()),
        })
        .collect()
}

fn admitted<'a>(policies: &'a Policies, case: &Case) -> Admitted<'a> {
    match policies.decide(&case.subject(), DEFAULTS) {
        PolicyDecision::Admit(admitted) => admitted,
        denied @ PolicyDecision::Deny { .. } => panic!("{denied:?}"),
    }
}

/// Whether a policy of this spec alone applies to this interaction.
fn applies(spec: Value, case: &Case) -> bool {
    admitted(&policies(&[("p", spec)]), case).policy.is_some()
}

#[test]
fn without_a_policy_the_flags_hold() {
    for &kind in Kind::ALL {
        let case = Case {
            kind,
            ..Case::default()
        };
        let admitted = admitted(&Policies::default(), &case).terms;
        assert_eq!(admitted, DEFAULTS.of(kind), "{kind}");
    }
}

#[test]
fn what_a_policy_leaves_out_is_taken_from_the_flags_and_not_from_other_policies() {
    let policies = policies(&[
        ("high", json!({"priority": 10, "maxExtension": "0s"})),
        (
            "low",
            json!({"ttl": "1m", "maxHold": "1m", "action": "Record"}),
        ),
    ]);
    let admitted = admitted(&policies, &Case::default());
    assert_eq!(admitted.policy, Some("high"));
    assert_eq!(admitted.terms.ttl, DEFAULTS.ttl);
    assert_eq!(admitted.terms.max_extension, Duration::ZERO);
    assert_eq!(admitted.terms.max_hold, DEFAULTS.max_hold);
    assert_eq!(admitted.terms.action, terms::Action::Evict);
}

#[test]
fn every_condition_has_to_hold() {
    let cases: [(Value, bool); 22] = [
        (json!({}), true),
        (json!({"namespaceSelector": {}}), true),
        (
            json!({"namespaceSelector": {"matchLabels": {"env": "dev"}}}),
            true,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}),
            false,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"env": "dev", "team": "a"}}}),
            false,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "cart"}}}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "till"}}}),
            false,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["till", "cart"]}]}}),
            true,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["till"]}]}}),
            true,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["till"]}]}}),
            true,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "none", "operator": "In", "values": ["till"]}]}}),
            false,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
            true,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
            false,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "cart"},
                "matchExpressions": [{"key": "none", "operator": "Exists"}]}}),
            false,
        ),
        (json!({"users": ["bob", "alice"]}), true),
        (json!({"users": ["bob"]}), false),
        (json!({"users": ["ali"]}), false),
        (json!({"groups": ["dev"]}), true),
        (json!({"users": ["bob"], "groups": ["dev"]}), true),
        (json!({"interactions": ["attach", "exec"]}), true),
        (
            json!({"interactions": ["debug"], "users": ["alice"]}),
            false,
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(applies(spec.clone(), &Case::default()), expected, "{spec}");
    }
}

#[test]
fn of_several_the_highest_priority_applies_and_then_the_first_name() {
    let policies = policies(&[
        ("b", json!({"priority": 5})),
        ("z-not-mine", json!({"priority": 9, "users": ["bob"]})),
        ("c", json!({"priority": 5})),
        ("a", json!({"priority": 4})),
    ]);
    let case = Case::default();
    assert_eq!(admitted(&policies, &case).policy, Some("b"));
    let told: Vec<_> = policies
        .explain(&case.subject())
        .iter()
        .map(|considered| format!("{}: {}", considered.policy.name, considered.matched))
        .collect();
    assert_eq!(
        told,
        [
            "z-not-mine: neither its users nor its groups contain the user",
            "b: applies",
            "c: b has the same priority, and its name comes first",
            "a: b has the higher priority 5",
        ]
    );
}

#[test]
fn the_action_is_the_policys_or_that_of_the_kind() {
    use terms::Action::{Evict, Record};
    let of = |spec: Value, kind| {
        let policies = policies(&[("p", spec)]);
        let case = Case {
            kind,
            ..Case::default()
        };
        match policies.decide(&case.subject(), DEFAULTS) {
            PolicyDecision::Admit(admitted) => Some(admitted.terms.action),
            PolicyDecision::Deny { policy, .. } => {
                assert_eq!(policy, "p");
                None
            }
        }
    };
    for (action, exec, portforward) in [
        (json!({}), Some(Evict), Some(Record)),
        (json!({"action": "Evict"}), Some(Evict), Some(Evict)),
        (json!({"action": "Record"}), Some(Record), Some(Record)),
        (json!({"action": "Deny"}), None, None),
    ] {
        assert_eq!(of(action.clone(), Kind::Exec), exec, "{action}");
        assert_eq!(
            of(action.clone(), Kind::Portforward),
            portforward,
            "{action}"
        );
    }
}

#[test]
fn a_harmless_command_is_compared_word_for_word() {
    let policies = policies(&[(
        "p",
        json!({"harmlessCommands": [["ls", "*"], ["cat", "/etc/hosts"], ["date"], ["sh", "-c", "ls /tmp"]]}),
    )]);
    let of = |change: fn(&mut Case), argv: &[&str]| {
        let mut case = Case {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            ..Case::default()
        };
        change(&mut case);
        admitted(&policies, &case).terms
    };
    let usual = |_: &mut Case| {};
    for (argv, harmless) in [
        (&["ls", "/tmp"][..], true),
        (&["ls", ""], true),
        (&["ls", "*"], true),
        (&["ls"], false),
        (&["ls", "-l", "/tmp"], false),
        (&["/bin/ls", "/tmp"], false),
        (&["LS", "/tmp"], false),
        (&["cat", "/etc/hosts"], true),
        (&["cat", "/etc/hosts "], false),
        (&["cat", "/etc/shadow"], false),
        (&["date"], true),
        (&["date", "-s", "1970-01-01"], false),
        (&["sh", "-c", "ls /tmp"], true),
        (&["sh", "-c", "ls /tmp; rm -r /"], false),
        (&[], false),
    ] {
        let terms = of(usual, argv);
        let expected = harmless.then_some(Exemption::Harmless);
        assert_eq!(terms.exemption, expected, "{argv:?}");
        assert_eq!(terms.action == terms::Action::Record, harmless, "{argv:?}");
    }
    type Change = fn(&mut Case);
    let others: [(&str, Change); 4] = [
        ("with stdin", |case| case.stdin = true),
        ("with a terminal", |case| case.tty = true),
        ("in a debug container", |case| case.kind = Kind::Debug),
        ("attached", |case| case.kind = Kind::Attach),
    ];
    for (what, change) in others {
        assert_eq!(of(change, &["date"]).exemption, None, "{what}");
    }
}

#[test]
fn of_several_exemptions_the_one_that_lasts_comes_first() {
    let everything = json!({
        "unmanagedPods": "Record",
        "harmlessCommands": [["ls", "*"]],
        "protect": {"priorityAtLeast": 1000, "namespaces": ["shop"]},
    });
    let policies = policies(&[("p", everything)]);
    for (priority, managed, argv, expected) in [
        (1000, false, "ls /tmp", Some(Exemption::Protected)),
        (1000, true, "rm /tmp", Some(Exemption::Protected)),
        (999, false, "ls /tmp", Some(Exemption::Harmless)),
        (999, false, "rm /tmp", Some(Exemption::Unmanaged)),
        (999, true, "ls /tmp", Some(Exemption::Harmless)),
        (999, true, "rm /tmp", None),
    ] {
        let case = Case {
            priority,
            managed,
            argv: words(argv),
            ..Case::default()
        };
        let terms = admitted(&policies, &case).terms;
        assert_eq!(terms.exemption, expected, "{priority} {managed} {argv}");
        assert_eq!(terms.action == terms::Action::Record, expected.is_some());
    }
    let case = Case {
        mirror: true,
        ..Case::default()
    };
    let terms = admitted(&Policies::default(), &case).terms;
    assert_eq!(
        terms.exemption,
        Some(Exemption::Protected),
        "whatever the policies say"
    );
    // What is only recorded anyway needs no exemption.
    let case = Case {
        priority: 1000,
        kind: Kind::Portforward,
        ..Case::default()
    };
    assert_eq!(admitted(&policies, &case).terms.exemption, None);
}

#[test]
fn a_priority_protects_in_the_listed_namespaces_only() {
    let critical = |namespace: &str, priority| Case {
        namespace: namespace.into(),
        priority,
        ..Case::default()
    };
    let exemption =
        |spec: Value, case: &Case| admitted(&policies(&[("p", spec)]), case).terms.exemption;
    let system = critical("kube-system", 2_000_000_000);
    let protected = Some(Exemption::Protected);
    assert_eq!(exemption(json!({}), &system), protected);
    assert_eq!(
        admitted(&Policies::default(), &system).terms.exemption,
        protected
    );
    assert_eq!(
        exemption(json!({}), &critical("kube-system", 1_999_999_999)),
        None
    );
    assert_eq!(exemption(json!({}), &critical("shop", 2_000_001_000)), None);
    let elsewhere = json!({"protect": {"namespaces": ["shop"]}});
    assert_eq!(
        exemption(elsewhere.clone(), &critical("shop", 2_000_001_000)),
        protected
    );
    assert_eq!(exemption(elsewhere, &system), None);
    assert_eq!(
        exemption(json!({"protect": {"namespaces": []}}), &system),
        None
    );
}

#[test]
fn as_much_of_a_command_is_kept_as_the_policy_says() {
    let argv: Vec<String> = ["mysql", "--password=s3cret"].map(str::to_owned).into();
    for (given, kept) in [
        ("Full", "mysql '--password=xxxxx'"),
        ("Name", "mysql"),
        ("None", ""),
    ] {
        let policies = policies(&[("p", json!({"recordCommand": given}))]);
        let record = admitted(&policies, &Case::default()).record_command;
        assert_eq!(record.of(&argv).as_str(), kept);
        assert_eq!(record.of(&[]).as_str(), "");
    }
}

#[test]
fn what_is_masked_is_compared_as_it_was_typed() {
    let argv = |token: &str| vec!["app".to_owned(), format!("--token={token}")];
    let policies = policies(&[("p", json!({"harmlessCommands": [argv("abc")]}))]);
    for (token, exemption) in [("abc", Some(Exemption::Harmless)), ("xxxxx", None)] {
        let case = Case {
            argv: argv(token),
            ..Case::default()
        };
        let admitted = admitted(&policies, &case);
        assert_eq!(admitted.terms.exemption, exemption, "{token}");
        let kept = admitted.record_command.of(&case.argv);
        assert_eq!(kept.as_str(), "app '--token=xxxxx'");
    }
}

#[test]
fn a_policy_or_the_default_says_whether_it_is_enforced() {
    let enforcement = |spec: serde_json::Value, default| {
        let defaults = DefaultTerms {
            enforcement: default,
            ..DEFAULTS
        };
        let policies = policies(&[("p", spec)]);
        match policies.decide(&Case::default().subject(), defaults) {
            PolicyDecision::Admit(admitted) => admitted.terms.enforcement,
            PolicyDecision::Deny { .. } => unreachable!("it denies nothing"),
        }
    };
    use Enforcement::{DryRun, Enforce};
    for default in [Enforce, DryRun] {
        assert_eq!(enforcement(json!({}), default), default);
        assert_eq!(
            enforcement(json!({"enforcement": "DryRun"}), default),
            DryRun
        );
        assert_eq!(
            enforcement(json!({"enforcement": "Enforce"}), default),
            Enforce
        );
        // It does not apply.
        let elsewhere = json!({"users": ["nobody"], "enforcement": "DryRun"});
        assert_eq!(enforcement(elsewhere, default), default);
    }
}
