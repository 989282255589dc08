//! The evictions of agents. The review is what an API server sent when the eviction of a pod was asked for
//! with the token of an agent's pod.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::script::{Agent, Api, Script, changed, review};

/// The UID in the review.
const UID: &str = "3d60e876-ae3c-41e4-885c-1bc3b27ca032";

fn with_pod(uid: &str, node: &str) -> Api {
    Api {
        pod: json!({
            "metadata": {"name": "one", "namespace": "wh-test", "uid": uid},
            "spec": {"nodeName": node, "containers": [{"name": "app"}]}
        }),
        ..Api::default()
    }
}

async fn answered(script: &Script, body: String) -> Value {
    let (status, text) = script.post_to("/admit/eviction", body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["response"].take()
}

#[tokio::test]
async fn the_agent_of_the_pods_node_may_evict_it() {
    let script = Script::start(Agent::None, with_pod(UID, "node-1")).await;
    let body = review("eviction");
    for body in [
        changed(body.clone(), r#""dryRun":false"#, r#""dryRun":true"#),
        body,
    ] {
        let response = answered(&script, body.clone()).await;
        assert_eq!(response["allowed"], true, "{response}");
        assert!(body.contains(response["uid"].as_str().unwrap()));
    }
    assert_eq!(
        script.counted("eviction_reviews_total", "outcome", "admitted"),
        2.0
    );
    assert!(script.patches().is_empty());
}

#[tokio::test]
async fn every_other_eviction_is_denied_with_its_code() {
    let right = || with_pod(UID, "node-1");
    let unread = |api: Api| Api { get: 500, ..api };
    let body = || review("eviction");
    let uid = format!(r#""uid":"{UID}""#);
    let node = r#""authentication.kubernetes.io/node-name":["node-1"]"#;
    let bound_to = |nodes: &str| {
        let key = r#""authentication.kubernetes.io/node-name":"#;
        changed(body(), node, &format!("{key}{nodes}"))
    };
    for (api, body, code, outcome) in [
        (with_pod("u-2", "node-1"), body(), 409, "other_pod"),
        (with_pod(UID, "node-2"), body(), 403, "other_node"),
        (
            Api {
                get: 404,
                ..right()
            },
            body(),
            404,
            "gone",
        ),
        (unread(right()), body(), 503, "unread"),
        (
            Api {
                get: 403,
                ..right()
            },
            body(),
            503,
            "unread",
        ),
        (
            Api {
                late: true,
                ..right()
            },
            body(),
            503,
            "unread",
        ),
        // What the request alone tells is told before anything is read.
        (unread(right()), bound_to("null"), 403, "no_node"),
        (unread(right()), bound_to("[]"), 403, "no_node"),
        (
            unread(right()),
            bound_to(r#"["node-1","node-1"]"#),
            403,
            "no_node",
        ),
        (
            unread(right()),
            changed(body(), r#""extra":{"#, r#""else":{"#),
            403,
            "no_node",
        ),
        (
            unread(right()),
            changed(body(), &uid, r#""uid":"""#),
            400,
            "no_uid",
        ),
        (
            unread(right()),
            changed(body(), &uid, r#""uid":null"#),
            400,
            "no_uid",
        ),
        (
            unread(right()),
            changed(body(), &format!(r#""preconditions":{{{uid}}}"#), r#""x":1"#),
            400,
            "no_uid",
        ),
        (
            unread(right()),
            changed(body(), r#""deleteOptions":{"#, r#""other":{"#),
            400,
            "no_uid",
        ),
        // What cannot be a pod is not asked for.
        (
            unread(right()),
            changed(body(), r#""name":"one""#, r#""name":"../nodes/x""#),
            404,
            "gone",
        ),
        (
            unread(right()),
            changed(
                body(),
                r#""subResource":"eviction""#,
                r#""subResource":"exec""#,
            ),
            400,
            "invalid",
        ),
        (
            unread(right()),
            changed(body(), r#""operation":"CREATE""#, r#""operation":"UPDATE""#),
            400,
            "invalid",
        ),
        (
            unread(right()),
            changed(body(), r#""object":{"#, r#""subject":{"#),
            400,
            "invalid",
        ),
    ] {
        let script = Script::start(Agent::None, api).await;
        let response = answered(&script, body.clone()).await;
        assert_eq!(response["allowed"], false, "{body}");
        assert_eq!(response["status"]["code"], code, "{response} to {body}");
        assert_ne!(response["status"]["reason"], Value::Null, "{response}");
        assert_eq!(
            script.counted("eviction_reviews_total", "outcome", outcome),
            1.0,
            "{response}"
        );
    }
}

#[tokio::test]
async fn a_uid_of_any_length_is_answered_in_bounded_words() {
    let script = Script::start(Agent::None, with_pod("u-2", "node-1")).await;
    let body = changed(review("eviction"), UID, &"u".repeat(100_000));
    let response = answered(&script, body).await;
    assert_eq!(response["status"]["code"], 409);
    assert!(response.to_string().len() < 1000, "{response}");
}

#[tokio::test]
async fn a_body_that_is_no_review_is_no_eviction() {
    let script = Script::start(Agent::None, with_pod(UID, "node-1")).await;
    let (status, text) = script.post_to("/admit/eviction", "nonsense".into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("not JSON"), "{text}");
    assert_eq!(
        script.counted("eviction_reviews_total", "outcome", "invalid"),
        1.0
    );
}
