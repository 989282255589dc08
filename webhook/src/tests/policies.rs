//! What policies make of interactions, through the router.

use crate::args::Unrecorded;
use curfew_core::{Enforcement, Exemption, Kind, terms::Action};
use serde_json::{Value, json};

use super::script::{Agent, Api, Script, changed, exec, review};

const SHOP: &[(&str, &str)] = &[("env", "dev")];

/// A pod that a ReplicaSet owns.
fn owned() -> Api {
    let mut api = Api::default();
    api.pod["metadata"]["labels"] = json!({"app": "till"});
    api.pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "till", "uid": "rs-1", "controller": true,
    }]);
    api
}

async fn script(api: Api, policies: &[(&str, Value)]) -> Script {
    let script = Script::start(Agent::Stores, api).await;
    script.policies(policies, SHOP);
    script
}

/// What the agent was told of the one interaction.
fn told(script: &Script) -> curfew_core::RecordedInteraction {
    let notices = script.notices();
    assert_eq!(notices.len(), 1);
    notices[0].known.clone()
}

#[tokio::test]
async fn the_terms_are_those_of_the_policy_that_applies() {
    let policies = [
        ("all", json!({"ttl": "1h"})),
        (
            "dev",
            json!({"priority": 1, "ttl": "5m", "maxExtension": "1m", "maxHold": "2m",
                "namespaceSelector": {"matchLabels": {"env": "dev"}}}),
        ),
        (
            "prod",
            json!({"priority": 2, "ttl": "1s", "namespaceSelector": {"matchLabels": {"env": "prod"}}}),
        ),
    ];
    let script = script(owned(), &policies).await;
    script.admit(exec()).await;
    let terms = told(&script).terms;
    assert_eq!(terms.ttl.as_secs(), 300);
    assert_eq!(terms.max_extension.as_secs(), 60);
    assert_eq!(terms.max_hold.as_secs(), 120);
    assert_eq!(terms.action, Action::Evict);
}

#[tokio::test]
async fn what_follows_from_what_is_found_is_part_of_the_terms() {
    let found = "or as soon as a change in it is found";
    for (spec, warned) in [
        (json!({"whenChanged": "Now"}), true),
        (json!({"whenUnchanged": "Release"}), false),
        (
            json!({"whenChanged": "Now", "enforcement": "DryRun"}),
            false,
        ),
    ] {
        let script = script(owned(), &[("p", spec.clone())]).await;
        let answer = script.admit(exec()).await;
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        assert_eq!(warning.contains(found), warned, "{warning}");
        let on_evidence = serde_json::to_value(told(&script).terms.on_evidence).unwrap();
        for field in ["whenChanged", "whenUnchanged"] {
            assert_eq!(on_evidence.get(field), spec.get(field), "{spec}");
        }
    }
}

#[tokio::test]
async fn a_dry_run_is_recorded_and_told_as_one() {
    for agent in [Agent::Stores, Agent::Fails] {
        let fallback = matches!(agent, Agent::Fails);
        let script = Script::start(agent, owned()).await;
        script.policies(&[("trial", json!({"enforcement": "DryRun"}))], SHOP);
        let answer = script.admit(exec()).await;
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        assert!(
            warning.contains("it would be evicted at 2") && warning.ends_with("(dry run)"),
            "{warning}"
        );
        if fallback {
            let annotations = &script.patches()[0]["metadata"]["annotations"];
            assert_eq!(annotations["curfew.dev/enforcement"], "DryRun");
            continue;
        }
        let known = told(&script);
        assert_eq!(known.terms.action, Action::Evict);
        assert_eq!(known.terms.enforcement, Enforcement::DryRun);
        assert_eq!(known.policy.as_deref(), Some("trial"));
    }
}

#[tokio::test]
async fn user_group_pod_and_kind_are_those_of_the_request() {
    for (spec, applies) in [
        (json!({"users": ["curfew-admin"]}), true),
        (json!({"users": ["admin"]}), false),
        (json!({"groups": ["system:masters"]}), true),
        (json!({"groups": ["masters"]}), false),
        (
            json!({"podSelector": {"matchLabels": {"app": "till"}}}),
            true,
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "cart"}}}),
            false,
        ),
        (json!({"interactions": ["exec"]}), true),
        (json!({"interactions": ["attach", "debug"]}), false),
    ] {
        let mut of_a_minute = spec.clone();
        of_a_minute["ttl"] = json!("1m");
        let script = script(owned(), &[("p", of_a_minute)]).await;
        script.admit(exec()).await;
        let expected = if applies { 60 } else { 600 };
        assert_eq!(told(&script).terms.ttl.as_secs(), expected, "{spec}");
    }
}

#[tokio::test]
async fn a_change_holds_for_the_next_interaction() {
    let script = script(owned(), &[("p", json!({"ttl": "1m"}))]).await;
    script.admit(exec()).await;
    script.policies(&[("p", json!({"ttl": "2m"}))], SHOP);
    script.admit(exec()).await;
    script.policies(&[], SHOP);
    script.admit(exec()).await;
    let told: Vec<_> = script
        .notices()
        .iter()
        .map(|notice| notice.known.terms.ttl.as_secs())
        .collect();
    assert_eq!(told, [60, 120, 600]);
}

#[tokio::test]
async fn what_a_policy_denies_is_denied_in_its_name_and_leaves_no_trace() {
    let deny = json!({"action": "Deny", "interactions": ["exec", "debug"]});
    let script = script(owned(), &[("no-shells", deny)]).await;
    for body in [exec(), review("debug")] {
        let answer = script.admit(body).await;
        let response = &answer["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["code"], 403);
        assert_eq!(response["status"]["reason"], "Forbidden");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("InteractionPolicy no-shells forbids this interaction ("),
            "{message}"
        );
        assert!(
            message.contains("with pod wh-test/one. Nothing was done."),
            "{message}"
        );
    }
    assert!(script.notices().is_empty() && script.patches().is_empty());
    assert_eq!(
        script.counted("admissions_total", "outcome", "forbidden"),
        2.0
    );
    let answer = script.admit(review("attach")).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(told(&script).interaction.kind, Kind::Attach);
}

#[tokio::test]
async fn a_harmless_command_is_recorded_without_a_timer() {
    let policy = [("p", json!({"harmlessCommands": [["echo", "*"]]}))];
    let script = script(owned(), &policy).await;
    let answer = script.admit(exec()).await;
    assert_eq!(
        answer["response"]["warnings"][0],
        "this interaction with pod wh-test/one was recorded"
    );
    let known = told(&script);
    assert_eq!(known.terms.action, Action::Record);
    assert_eq!(known.terms.exemption, Some(Exemption::Harmless));
    assert_eq!(known.interaction.command.as_str(), "echo hi");
    assert_eq!(
        script.counted("exempted_total", "exemption", "harmless"),
        1.0
    );

    for typing in [r#""stdin":true,"#, r#""tty":true,"#] {
        let body = changed(
            exec(),
            r#""stdout":true"#,
            &format!(r#"{typing}"stdout":true"#),
        );
        script.admit(body).await;
    }
    let actions: Vec<_> = script
        .notices()
        .iter()
        .map(|notice| notice.known.terms.action)
        .collect();
    assert_eq!(actions, [Action::Record, Action::Evict, Action::Evict]);
}

#[tokio::test]
async fn a_pod_is_exempt_by_what_it_is() {
    let policy = json!({
        "unmanagedPods": "Record",
        "protect": {"priorityAtLeast": 1000, "namespaces": ["wh-test"]},
    });
    let mut critical = owned();
    critical.pod["spec"]["priority"] = json!(1000);
    // An owner that is no controller replaces nothing.
    let mut merely_owned = owned();
    merely_owned.pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    for (api, exemption) in [
        (owned(), None),
        (Api::default(), Some(Exemption::Unmanaged)),
        (merely_owned, Some(Exemption::Unmanaged)),
        (critical, Some(Exemption::Protected)),
    ] {
        let script = script(api, &[("p", policy.clone())]).await;
        script.admit(exec()).await;
        assert_eq!(told(&script).terms.exemption, exemption);
    }
}

#[tokio::test]
async fn the_pod_of_a_job_starts_no_timer_unless_a_policy_says_so() {
    let job = || {
        let mut api = owned();
        let owner = &mut api.pod["metadata"]["ownerReferences"][0];
        (owner["apiVersion"], owner["kind"]) = (json!("batch/v1"), json!("Job"));
        api
    };
    for (policies, exemption) in [
        (&[][..], Some(Exemption::Completing)),
        (&[("p", json!({}))], Some(Exemption::Completing)),
        (&[("p", json!({"completingPods": "Evict"}))], None),
        (
            &[(
                "p",
                json!({"completingPods": "Evict", "workloads": ["Deployment"]}),
            )],
            Some(Exemption::Completing),
        ),
    ] {
        let script = script(job(), policies).await;
        script.admit(exec()).await;
        let terms = told(&script).terms;
        assert_eq!(terms.exemption, exemption, "{policies:?}");
        assert_eq!(terms.action == Action::Record, exemption.is_some());
        let counted = script.counted("exempted_total", "exemption", "completing");
        assert_eq!(counted > 0.0, exemption.is_some());
    }
}

#[tokio::test]
async fn a_debug_container_is_interactive_if_a_user_can_type_into_it() {
    let policies = [("p", json!({"interactive": true, "ttl": "1m"}))];
    for (field, expected) in [("", 600), (r#""stdin":true,"#, 60), (r#""tty":true,"#, 60)] {
        let script = script(owned(), &policies).await;
        let body = changed(
            review("debug"),
            r#"{"name":"dbg","#,
            &format!(r#"{{{field}"name":"dbg","#),
        );
        script.admit(body).await;
        assert_eq!(told(&script).terms.ttl.as_secs(), expected, "{field}");
    }
}

#[tokio::test]
async fn the_audit_log_is_told_what_follows_and_no_command() {
    let policies = [("minute", json!({"ttl": "1m"}))];
    for (agent, recorded) in [(Agent::Stores, "agent"), (Agent::None, "metadata")] {
        let script = Script::start(agent, owned()).await;
        script.policies(&policies, SHOP);
        let answer = script.admit(exec()).await;
        let audit = answer["response"]["auditAnnotations"].as_object().unwrap();
        assert_eq!(audit["recorded"], recorded);
        assert_eq!(audit["policy"], "minute");
        let terms: Value = serde_json::from_str(audit["terms"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&terms["action"], &terms["ttl"]),
            (&json!("Evict"), &json!("1m0s"))
        );
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        let at = audit["eviction-time"].as_str().unwrap();
        assert!(
            warning.ends_with(&format!("will be evicted at {at}")),
            "{warning}"
        );
        // The API server drops a key with a slash.
        assert!(audit.keys().all(|key| !key.contains('/')), "{audit:?}");
        assert!(
            audit
                .values()
                .all(|value| !value.as_str().unwrap().contains("echo"))
        );
    }
    let by_the_flags = script(owned(), &[]).await;
    let audit = by_the_flags.admit(review("portforward")).await;
    let audit = audit["response"]["auditAnnotations"].as_object().unwrap();
    assert_eq!(audit.keys().collect::<Vec<_>>(), ["recorded", "terms"]);

    let denied = script(owned(), &[("no", json!({"action": "Deny"}))]).await;
    let answer = denied.admit(exec()).await;
    assert_eq!(
        answer["response"]["auditAnnotations"],
        json!({"policy": "no", "terms": r#"{"action":"Deny"}"#})
    );
    // A dry run leaves no trace.
    let answer = denied.admit(review("debug-two-dry-run")).await;
    assert_eq!(answer["response"]["auditAnnotations"], Value::Null);
}

#[tokio::test]
async fn no_more_of_a_command_is_told_than_the_policy_keeps() {
    for (kept, text) in [("Full", "echo hi"), ("Name", "echo"), ("None", "")] {
        let policy = [("p", json!({"recordCommand": kept}))];
        let with_agent = script(owned(), &policy).await;
        with_agent.admit(exec()).await;
        assert_eq!(told(&with_agent).interaction.command.as_str(), text);

        let without = Script::start(Agent::None, owned()).await;
        without.policies(&policy, SHOP);
        without.admit(exec()).await;
        let patch = without.patches().remove(0).to_string();
        assert_eq!(patch.contains("hi\\\""), kept == "Full", "{patch}");
        assert_eq!(patch.contains("echo"), kept != "None", "{patch}");
    }
}

#[tokio::test]
async fn a_harmless_command_is_judged_by_all_its_words_however_many_are_kept() {
    let policy = [(
        "p",
        json!({"recordCommand": "None", "harmlessCommands": [["echo", "ho"]]}),
    )];
    let script = script(owned(), &policy).await;
    script.admit(exec()).await;
    assert_eq!(told(&script).terms.action, Action::Evict);
}

#[tokio::test]
async fn a_policy_that_cannot_be_followed_stops_nobody_and_the_last_that_could_holds() {
    let script = script(owned(), &[("p", json!({"ttl": "1d"}))]).await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(told(&script).terms.ttl.as_secs(), 600);
}

#[tokio::test]
async fn of_a_namespace_that_is_not_known_the_name_is() {
    let by_name = json!({"ttl": "1m",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "wh-test"}}});
    let script = Script::start(Agent::Stores, owned()).await;
    script.policies_elsewhere(&[("p", by_name)]);
    script.admit(exec()).await;
    assert_eq!(told(&script).terms.ttl.as_secs(), 60);
}

/// As the Security Profiles Operator changes an exec.
#[tokio::test]
async fn a_command_is_known_behind_the_prefix_of_the_security_profiles_operator() {
    let prefix = r#""env","SPO_EXEC_REQUEST_UID=4f2303d7-da46-4a8c-9ea4-3a830d478076","#;
    let harmless = json!({"harmlessCommands": [["echo", "hi"]], "recordCommand": "Name"});
    for (before, harmless_command, command) in [
        (prefix.to_owned(), true, "echo"),
        (format!("{prefix}\"A=b\","), false, "env"),
    ] {
        let script = Script::start(Agent::Stores, Api::default()).await;
        script.policies(&[("p", harmless.clone())], &[]);
        let body = changed(
            exec(),
            r#"["echo","hi"]"#,
            &format!(r#"[{before}"echo","hi"]"#),
        );
        script.admit(body).await;
        let notices = script.notices();
        let known = &notices[0].known;
        assert_eq!(
            known.terms.exemption.is_some(),
            harmless_command,
            "{before}"
        );
        assert_eq!(known.interaction.command.as_str(), command);
    }
}

#[tokio::test]
async fn until_the_policies_were_read_once_the_flag_for_what_is_unrecorded_decides() {
    let script = Script::without_policies(Agent::Stores, owned());
    let review = script.admit(exec()).await;
    assert_eq!(review["response"]["allowed"], false, "{review}");
    let said = review["response"]["status"]["message"].as_str().unwrap();
    assert!(
        said.contains("has not been able to read its InteractionPolicies"),
        "{said}"
    );
    assert!(script.notices().is_empty());

    let mut script = Script::without_policies(Agent::Stores, owned());
    script.unrecorded(Unrecorded::Admit);
    let review = script.admit(exec()).await;
    assert_eq!(review["response"]["allowed"], true, "{review}");
    assert_eq!(told(&script).terms.ttl.as_secs(), 600, "the flags apply");
}
