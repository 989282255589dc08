//! What whoever may edit pods can choose.

use proptest::prelude::*;

use super::*;

fn names(policies: &[&Policy]) -> Vec<String> {
    policies.iter().map(|policy| policy.name.clone()).collect()
}

#[test]
fn laxer_policies_that_depend_on_the_pod_are_found() {
    let other = json!({"matchLabels": {"app": "other"}});
    let policies = policies(&[
        (
            "longer",
            json!({"priority": 9, "podSelector": other, "ttl": "2h"}),
        ),
        (
            "shorter",
            json!({"priority": 8, "podSelector": other, "ttl": "1m"}),
        ),
        ("unknown", json!({"priority": 7, "workloads": ["Job"]})),
        (
            "record",
            json!({"priority": 6, "workloads": ["Deployment"], "action": "Record"}),
        ),
        (
            "deny",
            json!({"priority": 5, "podSelector": other, "action": "Deny"}),
        ),
        (
            "bobs",
            json!({"priority": 4, "podSelector": other, "action": "Record", "users": ["bob"]}),
        ),
        ("all", json!({"priority": 3, "ttl": "1h"})),
        (
            "lower",
            json!({"priority": 2, "podSelector": other, "action": "Record"}),
        ),
    ]);
    let case = Case::default();
    let choice = policies.pod_choice(&case.subject());
    assert_eq!(choice.fixed.map(|policy| policy.name.as_str()), Some("all"));
    assert_eq!(names(&choice.laxer), ["longer", "unknown", "record"]);
}

#[test]
fn beside_the_flags_only_what_cannot_be_laxer_is_not_told() {
    let labels = json!({"matchLabels": {"app": "cart"}});
    for (spec, expected) in [
        (json!({"podSelector": labels, "action": "Deny"}), false),
        (json!({"podSelector": labels}), false),
        (json!({"podSelector": labels, "ttl": "1m"}), true),
        (json!({"podSelector": labels, "action": "Record"}), true),
        (json!({"action": "Record"}), false),
    ] {
        let policies = policies(&[("p", spec.clone())]);
        let case = Case::default();
        let choice = policies.pod_choice(&case.subject());
        assert_eq!(!choice.laxer.is_empty(), expected, "{spec}");
    }
}

proptest! {
    /// Whatever labels and controller the pod gets: what applies then is what is fixed, or depends on the pod.
    #[test]
    fn no_other_policy_can_be_chosen(
        specs in prop::collection::vec((0..3, any::<bool>(), any::<bool>(), "[ab]"), 0..6),
        label in "[abc]",
    ) {
        let all: Policies = specs.iter().enumerate().map(|(n, (priority, by_label, lax, label))| {
            let mut spec = json!({"priority": priority, "action": if *lax { "Record" } else { "Deny" }});
            if *by_label {
                spec["podSelector"] = json!({"matchLabels": {"l": label}});
            }
            Policy { name: format!("p-{n}"), spec: super::spec(spec) }
        }).collect();
        let case = Case { pod_labels: labels(&[("l", &label)]), ..Case::default() };
        let choice = all.pod_choice(&case.subject());
        let told = all.explain(&case.subject());
        let applies = told.iter().find(|one| one.matched == PolicyMatch::Applies).map(|one| one.policy);
        if applies != choice.fixed {
            let applies = applies.unwrap();
            prop_assert!(applies.spec.depends_on_the_pod());
            let fixed_denies = choice.fixed.is_some_and(|fixed| fixed.spec.action == Some(PolicyAction::Deny));
            let lax = applies.spec.action == Some(PolicyAction::Record);
            let fixed_records = choice.fixed.is_some() && !fixed_denies;
            prop_assert_eq!(choice.laxer.contains(&applies), lax && !fixed_records);
        }
    }
}
