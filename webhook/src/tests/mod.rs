//! The admission of interactions and evictions through the router, with an agent and an API server that
//! follow a script. No cluster, and no socket but the agent's.

mod behaviour;
mod evictions;
mod forged;
mod leftovers;
mod log;
mod policies;
mod script;

use crate::{args::Unrecorded, server};
use axum::http::StatusCode;
use curfew_core::{Kind, terms::Action};
use jiff::Timestamp;
use script::{Agent, Api, Script, changed, exec, review};
use serde_json::{Value, json};

#[tokio::test]
async fn recorded_with_the_agent() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(
        answer["response"]["uid"],
        "4f2303d7-da46-4a8c-9ea4-3a830d478076"
    );
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("pod wh-test/one will be evicted at 2"),
        "{warning}"
    );
    assert!(
        warning.ends_with('Z') && !warning.contains('.'),
        "{warning}"
    );

    let notices = script.notices();
    assert_eq!(notices.len(), 1);
    let notice = &notices[0];
    notice.check("node-1").unwrap();
    assert_eq!(notice.pod.uid, "u-1");
    let interaction = &notice.known.interaction;
    assert_eq!(interaction.kind, Kind::Exec);
    assert_eq!(interaction.container.as_deref(), Some("app"));
    assert_eq!(interaction.request, "4f2303d7-da46-4a8c-9ea4-3a830d478076");
    assert_eq!(interaction.time.subsec_nanosecond(), 0);
    assert_eq!(notice.known.terms.action, Action::Evict);
    assert!(script.patches().is_empty());
    assert_eq!(script.counted("recorded_total", "where", "agent"), 1.0);
    assert_eq!(script.forwarder.unreachable(), 0);
}

#[tokio::test]
async fn no_eviction_is_promised_of_a_pod_that_ends() {
    for (change, says) in [
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            "is already terminating",
        ),
        (
            json!({"status": {"phase": "Succeeded"}}),
            "will not be evicted",
        ),
        (
            json!({"status": {"phase": "Failed"}}),
            "will not be evicted",
        ),
    ] {
        let mut api = Api::default();
        for part in ["metadata", "status"] {
            if let Some(change) = change[part].as_object() {
                api.pod[part]
                    .as_object_mut()
                    .unwrap()
                    .extend(change.clone());
            }
        }
        let script = Script::start(Agent::Stores, api).await;
        let answer = script.admit(exec()).await;
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        let expected = "this interaction with pod wh-test/one was recorded; the pod ";
        assert!(
            warning.starts_with(expected) && warning.ends_with(says),
            "{warning}"
        );
        assert_eq!(script.notices().len(), 1);
    }
}

#[tokio::test]
async fn a_notice_says_when_it_was_sent() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let before = Timestamp::now();
    script.admit(exec()).await;
    let sent = script.notices()[0].sent.unwrap();
    assert!((before..=Timestamp::now()).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_port_forward_is_recorded_without_a_timer() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let answer = script.admit(review("portforward")).await;
    assert_eq!(
        answer["response"]["warnings"][0],
        "this interaction with pod wh-test/one was recorded"
    );
    let notices = script.notices();
    assert_eq!(notices[0].known.terms.action, Action::Record);
    assert_eq!(notices[0].known.interaction.container, None);
}

#[tokio::test]
async fn without_a_container_the_only_one_is_meant() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    script.admit(review("exec-no-container")).await;
    let notices = script.notices();
    assert_eq!(
        notices[0].known.interaction.container.as_deref(),
        Some("app")
    );
    assert_eq!(notices[0].known.interaction.user, "alice@example.org");
}

#[tokio::test]
async fn recorded_on_the_pod_when_the_agent_is_down_slow_or_refuses() {
    for (agent, result) in [
        (Agent::None, "no_agent"),
        (Agent::Down, "broken"),
        (Agent::Slow, "late"),
        (Agent::Fails, "refused"),
        (Agent::Babbles, "other"),
    ] {
        let known = !matches!(agent, Agent::None);
        let script = Script::start(agent, Api::default()).await;
        let answer = script.admit(exec()).await;
        assert_eq!(answer["response"]["allowed"], true, "{agent:?}");
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        assert!(warning.contains("will be evicted at"), "{warning}");
        let patches = script.patches();
        assert_eq!(patches.len(), 1, "{agent:?}");
        let metadata = &patches[0]["metadata"];
        assert_eq!(metadata["uid"], "u-1");
        assert_eq!(metadata["resourceVersion"], "7");
        assert_eq!(metadata["labels"]["curfew.dev/interacted"], "true");
        assert_eq!(
            metadata["annotations"]["curfew.dev/interactor"],
            "curfew-admin"
        );
        assert_eq!(metadata["annotations"]["curfew.dev/command"], "echo hi");
        assert_eq!(script.counted("recorded_total", "where", "metadata"), 1.0);
        assert_eq!(script.counted("notices_total", "result", result), 1.0);
        assert_eq!(script.forwarder.unreachable(), usize::from(known));
    }
}

#[tokio::test]
async fn an_agent_is_told_of_few_interactions_at_once() {
    let script = Script::start(Agent::Few(8), Api::default()).await;
    let admitted = (0..40).map(|_| script.admit(exec()));
    futures::future::join_all(admitted).await;
    assert_eq!(script.notices().len(), 40);
    assert_eq!(script.patches(), Vec::<Value>::new());
}

#[tokio::test]
async fn who_only_claims_to_be_the_agent_is_told_nothing() {
    for (agent, reason) in [(Agent::Elsewhere, "name"), (Agent::Foreign, "untrusted")] {
        let script = Script::start(agent, Api::default()).await;
        let answer = script.admit(exec()).await;
        assert_eq!(answer["response"]["allowed"], true, "{agent:?}");
        assert!(script.notices().is_empty(), "{agent:?}");
        assert_eq!(script.counted("recorded_total", "where", "metadata"), 1.0);
        assert_eq!(script.counted("refused_peers_total", "reason", reason), 1.0);
    }
}

#[tokio::test]
async fn a_pod_that_changed_meanwhile_is_read_again() {
    let script = Script::start(
        Agent::None,
        Api {
            conflicts: 2,
            ..Api::default()
        },
    )
    .await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], true);
    let versions: Vec<_> = script
        .patches()
        .iter()
        .map(|patch| patch["metadata"]["resourceVersion"].clone())
        .collect();
    assert_eq!(versions, ["7", "8", "9"]);
}

#[tokio::test]
async fn denied_when_it_can_be_recorded_nowhere() {
    let script = Script::start(
        Agent::Down,
        Api {
            patch: 500,
            ..Api::default()
        },
    )
    .await;
    let answer = script.admit(exec()).await;
    let response = &answer["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 503);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("wh-test/one") && message.contains("node-1"),
        "{message}"
    );
    assert!(
        message.contains("4f2303d7-da46-4a8c-9ea4-3a830d478076"),
        "{message}"
    );
    assert_eq!(script.counted("recorded_total", "where", "nowhere"), 1.0);
    assert_eq!(script.counted("admissions_total", "outcome", "denied"), 1.0);
}

#[tokio::test]
async fn admitted_and_counted_when_it_can_be_recorded_nowhere_and_that_is_wanted() {
    let mut script = Script::start(
        Agent::Down,
        Api {
            patch: 422,
            ..Api::default()
        },
    )
    .await;
    script.unrecorded(Unrecorded::Admit);
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], true);
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("did not record"), "{warning}");
    assert_eq!(
        script.counted("admissions_total", "outcome", "unrecorded"),
        1.0
    );
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_is_as_one_that_cannot_be_recorded() {
    let script = Script::start(
        Agent::Stores,
        Api {
            get: 500,
            ..Api::default()
        },
    )
    .await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["status"]["code"], 503);
    assert!(script.notices().is_empty());
}

#[tokio::test]
async fn nobody_is_stopped_when_curfews_authority_was_taken_away() {
    for code in [401, 403] {
        let script = Script::start(
            Agent::Stores,
            Api {
                get: code,
                ..Api::default()
            },
        )
        .await;
        let answer = script.admit(exec()).await;
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(
            script.counted("admissions_total", "outcome", "unrecorded"),
            1.0
        );
    }
}

#[tokio::test]
async fn somebody_elses_ban_of_the_patch_is_no_removal() {
    let script = Script::start(
        Agent::Down,
        Api {
            patch: 403,
            ..Api::default()
        },
    )
    .await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], false);
}

#[tokio::test]
async fn what_the_api_server_will_refuse_leaves_no_trace() {
    let named = |container: &str| changed(exec(), r#""app""#, &format!("{container:?}"));
    let pod = |name: &str| changed(exec(), r#""name":"one""#, &format!(r#""name":{name:?}"#));
    let with = |containers: Value, node: Value| Api {
        pod: json!({
            "metadata": {"name": "one", "namespace": "wh-test", "uid": "u-1", "resourceVersion": "7"},
            "spec": {"nodeName": node, "containers": containers}
        }),
        ..Api::default()
    };
    let one = || json!([{"name": "app"}]);
    let two = json!([{"name": "app"}, {"name": "sidecar"}]);
    let cases = [
        (
            "no such pod",
            Api {
                get: 404,
                ..Api::default()
            },
            exec(),
        ),
        ("no such container", Api::default(), named("other")),
        (
            "no container named of two",
            with(two, json!("node-1")),
            review("exec-no-container"),
        ),
        ("not on a node", with(one(), Value::Null), exec()),
        ("an empty name", Api::default(), pod("")),
        ("a name of 10 kB", Api::default(), pod(&"a".repeat(10_000))),
        ("a name that is a path", Api::default(), pod("../nodes/x")),
        ("a dry run", Api::default(), review("debug-two-dry-run")),
    ];
    for (case, api, body) in cases {
        let script = Script::start(Agent::Stores, api).await;
        let answer = script.admit(body).await;
        assert_eq!(answer["response"]["allowed"], true, "{case}");
        assert_eq!(answer["response"]["warnings"], Value::Null, "{case}");
        assert!(script.notices().is_empty(), "{case}");
        assert!(script.patches().is_empty(), "{case}");
        assert_eq!(
            script.counted("admissions_total", "outcome", "nothing"),
            1.0,
            "{case}"
        );
    }
}

#[tokio::test]
async fn debug_of_a_pod_that_is_on_no_node_yet_is_recorded_on_the_pod() {
    let mut api = Api::default();
    api.pod["spec"]["nodeName"] = Value::Null;
    api.pod["metadata"]["name"] = json!("pending");
    let script = Script::start(Agent::Stores, api).await;
    let answer = script.admit(review("debug-no-node")).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert!(script.notices().is_empty());
    assert_eq!(script.patches().len(), 1);
}

#[tokio::test]
async fn several_new_containers_are_several_interactions() {
    let body = changed(
        review("debug-two-dry-run"),
        r#""dryRun":true"#,
        r#""dryRun":false"#,
    );
    // One of the three is in the pod already.
    let mut api = Api::default();
    api.pod["spec"]["ephemeralContainers"] = json!([{"name": "dbg"}]);
    let script = Script::start(Agent::Stores, api).await;
    script.admit(body).await;
    let notices = script.notices();
    let told: Vec<_> = notices
        .iter()
        .map(|notice| {
            notice.check("node-1").unwrap();
            let interaction = &notice.known.interaction;
            (
                interaction.container.clone().unwrap(),
                interaction.request.clone(),
            )
        })
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].0, "x1");
    assert_eq!(told[1].0, "x2");
    assert_ne!(told[0].1, told[1].1);
    assert_eq!(script.counted("recorded_total", "where", "agent"), 2.0);
    // Both in one.
    assert_eq!(script.counted("notices_total", "result", "stored"), 1.0);
}

#[tokio::test]
async fn a_retried_request_is_patched_once() {
    let script = Script::start(Agent::None, Api::default()).await;
    script.admit(exec()).await;
    script.admit(exec()).await;
    // As the API server does with an update that the patch made out of date: another request.
    script.admit(changed(exec(), "4f2303d7", "5f2303d7")).await;
    assert_eq!(script.patches().len(), 1);
    assert_eq!(
        script.counted("admissions_total", "outcome", "recorded"),
        3.0
    );
}

#[tokio::test]
async fn malformed_bodies_are_answered_clearly() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    for (body, problem) in [
        ("nonsense", "not JSON"),
        (r#"{"apiVersion":"v1","kind":"Pod"}"#, "kind \"Pod\""),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
            "request: is missing",
        ),
    ] {
        let (status, text) = script.post(body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains(problem), "{text}");
    }
    let answer = script
        .admit(changed(
            exec(),
            r#""subResource":"exec""#,
            r#""subResource":"log""#,
        ))
        .await;
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["code"], 400);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .contains("\"log\"")
    );
}

#[tokio::test]
async fn the_review_of_the_largest_pod_is_read_and_a_larger_one_is_refused_in_words() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let mut body: Value = serde_json::from_str(&review("debug")).unwrap();
    for object in ["object", "oldObject"] {
        let environment: Vec<_> = (0..200)
            .map(|n| json!({"name": format!("E{n}"), "value": "<&".repeat(3750)}))
            .collect();
        body["request"][object]["spec"]["containers"][0]["env"] = json!(environment);
    }
    // As the API server escapes them.
    let mut body = body
        .to_string()
        .replace('<', "\\u003c")
        .replace('&', "\\u0026");
    assert!(body.len() > 17 * 1024 * 1024, "{}", body.len());
    assert_eq!(script.post(body.clone()).await.0, StatusCode::OK);
    assert_eq!(script.notices().len(), 1);
    body.push_str(&" ".repeat(server::MAX_BODY + 1 - body.len()));
    let (status, text) = script.post(body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        text.contains("larger than the limit of 19922944 bytes"),
        "{text}"
    );
}

#[tokio::test]
async fn thousands_of_arguments_and_long_users_become_notices_of_bounded_size() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let arguments: Vec<_> = (0..5_000).map(|n| format!("argument-{n}")).collect();
    let body = changed(exec(), r#"["echo","hi"]"#, &json!(arguments).to_string());
    let user = format!("oidc:üser@例え.jp\u{7}{}", "x".repeat(10_000));
    let body = changed(body, r#""curfew-admin""#, &json!(user).to_string());
    let answer = script.admit(body).await;
    assert_eq!(answer["response"]["allowed"], true);
    let notices = script.notices();
    notices[0].check("node-1").unwrap();
    assert!(
        notices[0]
            .known
            .interaction
            .user
            .starts_with("oidc:üser@例え.jp")
    );
    assert!(serde_json::to_vec(&notices[0]).unwrap().len() < curfew_core::notice::MAX_BYTES);
}

#[tokio::test]
async fn the_probe_is_denied_with_its_nonce() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{
        "uid":"u","object":{"kind":"ConfigMap","data":{"nonce":"n-1"}}}}"#;
    let (status, text) = script.post_to("/admit/probe", body.to_owned()).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .contains("n-1")
    );
}
