//! The conditions on who, with what, and on what of the pod, and the pods of Jobs.

use super::*;

const RUNNER: &str = "system:serviceaccount:ci:runner";

#[test]
fn who_and_what_is_asked_for_has_to_hold() {
    let runner = || Case {
        user: RUNNER.to_owned(),
        groups: vec!["system:serviceaccounts:ci".to_owned()],
        workload: "Pod",
        argv: words("kubectl get pods -A"),
        ..Case::default()
    };
    for (spec, expected) in [
        (json!({"users": ["system:serviceaccount:ci:*"]}), true),
        (json!({"users": ["system:serviceaccount:*"]}), true),
        (json!({"users": ["system:serviceaccount:ci-2:*"]}), false),
        (json!({"users": ["system:serviceaccount:ci:runner*"]}), true),
        (json!({"users": ["system:serviceaccount:ci:run"]}), false),
        (json!({"groups": ["system:serviceaccounts:*"]}), true),
        (json!({"groups": ["oidc:*"]}), false),
        (json!({"actors": ["ServiceAccount"]}), true),
        (json!({"actors": ["User", "Node"]}), false),
        (json!({"interactive": false}), true),
        (json!({"interactive": true}), false),
        (json!({"workloads": ["Job", "Pod"]}), true),
        (json!({"workloads": ["Deployment"]}), false),
        (json!({"commands": [["kubectl", "get", "..."]]}), true),
        (json!({"commands": [["kubectl", "*", "*", "*"]]}), true),
        (json!({"commands": [["kubectl", "*"]]}), false),
        (
            json!({"commands": [["sh", "..."], ["kubectl", "get", "pods", "-A"]]}),
            true,
        ),
        (
            json!({"actors": ["ServiceAccount"], "commands": [["kubectl", "delete", "..."]]}),
            false,
        ),
    ] {
        assert_eq!(applies(spec.clone(), &runner()), expected, "{spec}");
    }
}

#[test]
fn an_interaction_is_interactive_with_either_stream() {
    for (stdin, tty) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = Case {
            stdin,
            tty,
            ..Case::default()
        };
        let interactive = stdin || tty;
        assert_eq!(applies(json!({"interactive": true}), &case), interactive);
        assert_eq!(applies(json!({"interactive": false}), &case), !interactive);
    }
}

#[test]
fn only_an_exec_has_a_command() {
    let spec = json!({"commands": [["ls", "..."]]});
    for &kind in Kind::ALL {
        let case = Case {
            kind,
            ..Case::default()
        };
        assert_eq!(applies(spec.clone(), &case), kind == Kind::Exec, "{kind}");
    }
}

#[test]
fn the_condition_that_does_not_hold_is_told() {
    for (spec, told) in [
        (
            json!({"actors": ["Node"]}),
            "its actors do not contain this kind of actor",
        ),
        (
            json!({"interactive": true}),
            "it applies only with standard input or a terminal",
        ),
        (
            json!({"workloads": ["Job"]}),
            "its workloads do not contain the kind of the pod's controller",
        ),
        (
            json!({"commands": [["rm", "..."]]}),
            "its commands do not match the command",
        ),
    ] {
        let policies = policies(&[("p", spec)]);
        let case = Case::default();
        let told_of = policies.explain(&case.subject());
        assert_eq!(told_of[0].matched.to_string(), told);
    }
    let silent = policies(&[("p", json!({"interactive": false}))]);
    let case = Case {
        tty: true,
        ..Case::default()
    };
    assert_eq!(
        silent.explain(&case.subject())[0].matched.to_string(),
        "it applies only without standard input and without a terminal"
    );
}

#[test]
fn the_pods_of_jobs_are_only_recorded_unless_a_policy_says_otherwise() {
    let job = Case {
        of_job: true,
        workload: "Job",
        ..Case::default()
    };
    let completing = Some(Exemption::Completing);
    assert_eq!(
        admitted(&Policies::default(), &job).terms.exemption,
        completing
    );
    assert_eq!(
        admitted(&Policies::default(), &Case::default())
            .terms
            .exemption,
        None
    );
    for (spec, expected) in [
        (json!({}), completing),
        (json!({"completingPods": "Record"}), completing),
        (json!({"completingPods": "Evict"}), None),
        (
            json!({"completingPods": "Evict", "harmlessCommands": [["ls", "*"]]}),
            Some(Exemption::Harmless),
        ),
        (
            json!({"harmlessCommands": [["ls", "*"]]}),
            Some(Exemption::Harmless),
        ),
        (json!({"action": "Record"}), None),
    ] {
        let policies = policies(&[("p", spec.clone())]);
        let terms = admitted(&policies, &job).terms;
        assert_eq!(terms.exemption, expected, "{spec}");
        let evicts = expected.is_none() && spec["action"] != "Record";
        assert_eq!(terms.action == terms::Action::Evict, evicts, "{spec}");
    }
}
