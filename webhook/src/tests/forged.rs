//! Reviews that no API server sent. What they say of a pod beyond its name comes to nothing.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::script::{Agent, Api, Script, changed, exec, review};

/// The captured review of a debug container, with what it says of the pod replaced.
fn debug(pod: impl Fn(&mut Value)) -> String {
    let mut body: Value = serde_json::from_str(&review("debug")).unwrap();
    for object in ["object", "oldObject"] {
        pod(&mut body["request"][object]);
    }
    body.to_string()
}

#[tokio::test]
async fn nobody_is_served_under_a_path_that_no_api_server_was_told() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let wrong = format!("/admit/interaction/{}", "0".repeat(32));
    let paths = [
        "/admit/interaction",
        "/admit/interaction/",
        &wrong,
        "/admit/eviction",
        "/admit/probe",
        "/admit",
        "/",
        "/metrics",
    ];
    for path in paths {
        let (status, text) = script.post_under(path, exec()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(!text.contains("wh-test"), "{text}");
    }
    assert!(script.notices().is_empty() && script.paths().is_empty());
    assert_eq!(script.total("unknown_paths_total"), paths.len() as f64);
    assert_eq!(script.total("admissions_total"), 0.0);
}

#[tokio::test]
async fn the_live_pod_tells_node_and_uid_and_not_the_review() {
    let script = Script::start(Agent::Stores, Api::default()).await;
    let body = debug(|pod| {
        pod["metadata"]["uid"] = json!("forged");
        pod["metadata"]["name"] = json!("two");
        pod["spec"]["nodeName"] = json!("node-9");
        pod["spec"]["priority"] = json!(2_000_000_001);
    });
    let answer = script.admit(body).await;
    assert_eq!(answer["response"]["allowed"], true);
    let notices = script.notices();
    assert_eq!(notices.len(), 1);
    notices[0].check("node-1").unwrap();
    assert_eq!(notices[0].pod.uid, "u-1");
    assert_eq!(notices[0].pod.name, "one");
    assert_eq!(script.paths(), ["/api/v1/namespaces/wh-test/pods/one"]);
}

#[tokio::test]
async fn annotations_of_a_review_reach_no_pod() {
    let script = Script::start(Agent::None, Api::default()).await;
    let body = debug(|pod| {
        pod["metadata"]["annotations"] = json!({
            "curfew.dev/interaction-time": "2020-01-01T00:00:00Z",
            "curfew.dev/interactor": "somebody-else",
            "curfew.dev/interaction": "exec",
            "curfew.dev/ttl": "1s",
            "curfew.dev/max-extension": "8760h0m0s",
        });
    });
    script.admit(body).await;
    let patches = script.patches();
    assert_eq!(patches.len(), 1);
    let annotations = &patches[0]["metadata"]["annotations"];
    assert_eq!(annotations["curfew.dev/interactor"], "curfew-admin");
    assert_eq!(annotations["curfew.dev/max-extension"], "1h0m0s");
    assert_eq!(annotations["curfew.dev/interactions"], "1");
}

#[tokio::test]
async fn a_name_that_is_a_path_is_asked_for_nowhere() {
    for body in [exec(), review("debug")] {
        for name in [
            "one/status",
            "../..",
            "one?watch=1",
            "one%2fstatus",
            ".",
            "..",
        ] {
            let script = Script::start(Agent::None, Api::default()).await;
            let named = changed(
                body.clone(),
                r#""name":"one""#,
                &format!(r#""name":{name:?}"#),
            );
            let answer = script.admit(named).await;
            assert_eq!(answer["response"]["allowed"], true, "{name}");
            assert!(script.paths().is_empty(), "{name}: {:?}", script.paths());
        }
        for namespace in ["../../nodes", "a/pods/b", "..", ""] {
            let script = Script::start(Agent::None, Api::default()).await;
            let from = r#""namespace":"wh-test","operation""#;
            let to = format!(r#""namespace":{namespace:?},"operation""#);
            script.admit(changed(body.clone(), from, &to)).await;
            assert!(
                script.paths().is_empty(),
                "{namespace}: {:?}",
                script.paths()
            );
        }
    }
}

#[tokio::test]
async fn containers_that_the_pod_has_and_names_that_none_can_have_leave_no_trace() {
    let mut api = Api::default();
    api.pod["spec"]["ephemeralContainers"] = json!([{"name": "dbg"}]);
    let script = Script::start(Agent::Stores, api).await;
    script.admit(review("debug")).await;
    let body = debug(|pod| {
        pod["spec"]["ephemeralContainers"] =
            json!([{"name": "app"}, {"name": "a/b"}, {"name": ""}, {"name": "x".repeat(64)}]);
    });
    script.admit(body).await;
    assert!(script.notices().is_empty() && script.patches().is_empty());
    assert_eq!(
        script.counted("admissions_total", "outcome", "nothing"),
        2.0
    );
}

#[tokio::test]
async fn exempt_namespaces_stay_so_whoever_asks() {
    for namespace in ["kube-system", "curfew"] {
        for body in [exec(), review("debug")] {
            let script = Script::start(Agent::None, Api::default()).await;
            let answer = script
                .admit(changed(body, "\"wh-test\"", &format!("{namespace:?}")))
                .await;
            assert_eq!(answer["response"]["allowed"], true);
            assert!(script.paths().is_empty() && script.patches().is_empty());
        }
    }
    let exempt = json!({"curfew.dev/exempt": "true"});
    for (seen, live, patches) in [
        ("true", exempt, 0),
        ("true", json!({}), 1),
        ("false", json!({}), 1),
    ] {
        let api = Api {
            labels: live,
            ..Api::default()
        };
        let script = Script::start(Agent::None, api).await;
        script.policies(&[], &[("curfew.dev/exempt", seen)]);
        script.admit(exec()).await;
        assert_eq!(script.patches().len(), patches, "{seen}");
    }
}

#[tokio::test]
async fn a_pod_of_another_name_is_not_taken_for_the_one_that_was_asked_for() {
    let mut api = Api::default();
    api.pod["metadata"]["name"] = json!("two");
    let script = Script::start(Agent::Stores, api).await;
    let answer = script.admit(exec()).await;
    assert_eq!(answer["response"]["allowed"], false);
    assert!(script.notices().is_empty());
}
