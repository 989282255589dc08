//! What holds for all policies.

use proptest::prelude::*;

use super::*;
use crate::{
    actor::Actor,
    terms::{WhenChanged, WhenUnchanged},
};

prop_compose! {
    fn a_case()(
        namespace in prop::sample::select(vec!["shop", "bank", "docks"]),
        named in any::<bool>(),
        user in prop::sample::select(vec!["alice", "bob", "system:serviceaccount:ci:runner", "system:node:node-1"]),
        kind in prop::sample::select(Kind::ALL),
        argv in prop::sample::select(vec![vec![], words("ls"), words("ls /tmp"), words("rm -r /"), words("date")]),
        stdin in any::<bool>(),
        tty in any::<bool>(),
    ) -> Case {
        let given = [("env", "dev"), ("kubernetes.io/metadata.name", namespace)];
        let namespace_labels = labels(&given[..if named { 2 } else { 0 }]);
        Case { namespace: namespace.into(), namespace_labels, user: user.into(), kind, argv, stdin, tty, ..Case::default() }
    }
}

prop_compose! {
    fn a_policy()(
        name in "[a-e]{1,2}",
        priority in 0..4,
        users in prop::collection::vec("alice|bob|al[*]", 0..2),
        groups in prop::collection::vec("dev|ops|o[*]", 0..2),
        actors in prop::collection::vec(prop::sample::select(Actor::ALL), 0..3),
        interactive in any::<Option<bool>>(),
        workloads in prop::collection::vec("Deployment|Job", 0..2),
        commands in prop::collection::vec(prop::sample::select(vec![words("ls *"), words("ls ..."), words("rm ...")]), 0..2),
        interactions in prop::collection::vec(prop::sample::select(Kind::ALL), 0..3),
        namespace_selector in prop::sample::select(vec![
            None,
            Some(json!({})),
            Some(json!({"matchLabels": {"kubernetes.io/metadata.name": "shop"}})),
            Some(json!({"matchLabels": {"kubernetes.io/metadata.name": "bank"}})),
            Some(json!({"matchLabels": {"env": "dev"}})),
            Some(json!({"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["bank", "shop"]},
            ]})),
            Some(json!({"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["bank"]},
            ]})),
        ]),
        deny in any::<bool>(),
        (when_changed, when_unchanged) in (
            prop::option::of(prop::sample::select(vec![WhenChanged::AtDeadline, WhenChanged::Now])),
            prop::option::of(prop::sample::select(vec![WhenUnchanged::Evict, WhenUnchanged::Release])),
        ),
    ) -> Policy {
        let namespace_selector = namespace_selector.map(|selector| serde_json::from_value(selector).unwrap());
        let action = deny.then_some(PolicyAction::Deny);
        Policy { name, spec: Spec {
            priority, namespace_selector, users, groups, actors, interactions, interactive, workloads, commands, action,
            when_changed, when_unchanged,
            ..Spec::default()
        } }
    }
}

proptest! {
    #[test]
    fn the_order_in_which_policies_are_learned_makes_no_difference(
        (some, shuffled) in prop::collection::btree_map("[a-h]", a_policy(), 0..6).prop_flat_map(|some| {
            // Names are unique in a cluster.
            let some: Vec<_> = some.into_iter().map(|(name, policy)| Policy { name, ..policy }).collect();
            (Just(some.clone()), Just(some).prop_shuffle())
        }),
    ) {
        let (one, other): (Policies, Policies) = (some.into_iter().collect(), shuffled.into_iter().collect());
        prop_assert_eq!(&one, &other);
    }

    #[test]
    fn what_is_explained_is_what_is_done(some in prop::collection::btree_map("[a-h]", a_policy(), 0..6), case in a_case()) {
        let policies: Policies = some.into_iter().map(|(name, policy)| Policy { name, ..policy }).collect();
        let subject = case.subject();
        let told = policies.explain(&subject);
        prop_assert_eq!(told.len(), policies.len());
        let winner = told.iter().find(|considered| considered.matched == PolicyMatch::Applies);
        let by = match policies.decide(&subject, DEFAULTS) {
            PolicyDecision::Admit(admitted) => admitted.policy,
            PolicyDecision::Deny { policy, .. } => Some(policy),
        };
        prop_assert_eq!(winner.map(|considered| considered.policy.name.as_str()), by);
        for considered in &told {
            if let (Some(winner), PolicyMatch::Outranked { .. } | PolicyMatch::Tied { .. }) = (winner, considered.matched) {
                let rank = |policy: &Policy| (std::cmp::Reverse(policy.spec.priority), policy.name.clone());
                prop_assert!(rank(winner.policy) < rank(considered.policy));
            }
        }
    }

    #[test]
    fn whoever_can_type_is_never_harmless(argv in prop::collection::vec("[a-z]{1,3}", 1..4), tty in any::<bool>()) {
        let policies = policies(&[("p", json!({"harmlessCommands": [argv.clone()]}))]);
        let mut case = Case { argv, ..Case::default() };
        prop_assert_eq!(admitted(&policies, &case).terms.exemption, Some(Exemption::Harmless));
        (case.stdin, case.tty) = (!tty, tty);
        prop_assert_eq!(admitted(&policies, &case).terms.exemption, None);
    }

    #[test]
    fn not_in_is_not_in_and_exists_is_not_does_not_exist(key in "[ab]", values in prop::collection::vec("[xyz]", 1..3), there in prop::collection::btree_map("[ab]", "[xyz]", 0..3)) {
        let holds = |operator, values: &[String]| Selector {
            match_expressions: vec![Requirement { key: key.clone(), operator, values: values.to_vec() }],
            ..Selector::default()
        }.matches(&there);
        prop_assert_ne!(holds(Operator::In, &values), holds(Operator::NotIn, &values));
        prop_assert_ne!(holds(Operator::Exists, &[]), holds(Operator::DoesNotExist, &[]));
    }

    #[test]
    fn a_policy_reads_as_it_was_written(policy in a_policy()) {
        let text = serde_json::to_string(&policy.spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), policy.spec);
    }
}
