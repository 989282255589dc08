//! What profiles make of interactions, through the router.

use curfew_core::terms::Action;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::script::{Agent, Api, Script, changed, exec};

/// A pod of the Deployment till.
pub(super) fn owned() -> Api {
    let mut api = Api::default();
    api.pod["metadata"]["labels"] = json!({"app": "till", "pod-template-hash": "1"});
    api.pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "till-1", "uid": "rs-1", "controller": true,
    }]);
    api
}

/// A profile of that Deployment that has learned so many interactions by alice, each of `ls`.
pub(super) fn profile(people: u64) -> Value {
    let now = Timestamp::now().to_string();
    let learned = |criterion: Value| json!({"criterion": criterion, "firstSeen": now, "lastSeen": now, "samples": people, "actors": "0:"});
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile",
        "metadata": {"name": "deployment.till", "namespace": "wh-test", "uid": "p", "generation": 1},
        "spec": {},
        "status": {"samples": people, "people": people, "since": now, "learned": [
            learned(json!({"users": ["alice"]})),
            learned(json!({"users": ["alice"], "groups": ["system:masters"]})),
            learned(json!({"programs": ["ls"], "actors": ["User"]})),
            learned(json!({"containers": ["app"]})),
            learned(json!({"kinds": ["exec"], "tty": false, "stdin": false, "actors": ["User"]})),
        ]},
    })
}

pub(super) async fn script(policies: &[(&str, Value)], profiles: Vec<Value>) -> Script {
    let script = Script::start(Agent::Stores, owned()).await;
    script.policies(policies, &[]);
    script.behaviour.set(profiles).await;
    script
}

pub(super) fn by(user: &str, command: &str) -> String {
    let body = changed(exec(), r#""curfew-admin""#, &json!(user).to_string());
    let argv: Vec<_> = command.split(' ').collect();
    changed(body, r#"["echo","hi"]"#, &json!(argv).to_string())
}

fn refusing() -> [(&'static str, Value); 2] {
    let irregular =
        json!({"priority": 9, "behaviour": "Irregular", "minimumDays": 0, "action": "Deny"});
    let learning = json!({"learn": true, "minimumDays": 0});
    [("irregular", irregular), ("learning", learning)]
}

#[tokio::test]
async fn what_is_irregular_is_denied_with_its_reasons() {
    let script = script(&refusing(), vec![profile(30)]).await;
    for (user, command, why) in [
        ("mallory", "ls", "mallory was never seen in deployment till"),
        ("alice", "nc x", "`nc` was never run there by a person"),
    ] {
        let answer = script.admit(by(user, command)).await;
        assert_eq!(answer["response"]["allowed"], false, "{user} {command}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("InteractionPolicy irregular forbids"),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
        let audit = &answer["response"]["auditAnnotations"]["irregular"];
        assert!(audit.as_str().unwrap().contains(why), "{audit}");
    }
    assert!(script.notices().is_empty());
    let answer = script.admit(by("alice", "ls")).await;
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(script.notices()[0].known.irregular, None);
    assert_eq!(
        script.counted("behaviour_total", "behaviour", "irregular"),
        2.0
    );
    assert_eq!(script.counted("behaviour_total", "behaviour", "usual"), 1.0);
    assert_eq!(script.counted("irregular_total", "reason", "user"), 1.0);
    assert_eq!(script.counted("irregular_total", "reason", "program"), 1.0);
}

#[tokio::test]
async fn what_is_irregular_and_let_through_is_told_to_the_agent() {
    let policies = [(
        "irregular",
        json!({"behaviour": "Irregular", "minimumDays": 0, "action": "Evict", "ttl": "0s"}),
    )];
    let script = script(&policies, vec![profile(30)]).await;
    script.admit(by("mallory", "ls")).await;
    let known = script.notices()[0].known.clone();
    let why = known.irregular.as_deref().unwrap();
    assert!(
        why.starts_with("mallory was never seen in deployment till; "),
        "{why}"
    );
    assert_eq!(
        (known.terms.action, known.terms.ttl.as_secs()),
        (Action::Evict, 0)
    );
}

#[tokio::test]
async fn nobody_is_denied_by_accident() {
    let mut unfit = profile(30);
    unfit["spec"] = json!({"planets": ["mars"]});
    let mut of_another = profile(30);
    of_another["metadata"]["name"] = json!("deployment.cart");
    for profiles in [vec![], vec![unfit], vec![of_another], vec![profile(29)]] {
        let script = script(&refusing(), profiles).await;
        let answer = script.admit(by("mallory", "nc x")).await;
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(
            script.counted("behaviour_total", "behaviour", "irregular"),
            0.0
        );
    }
}

#[tokio::test]
async fn only_what_is_let_through_and_usual_is_learned() {
    let no_id = json!({"priority": 10, "commands": [["id"]], "action": "Deny", "users": ["alice"]});
    let mut policies = refusing().to_vec();
    policies.push(("no-id", no_id));
    for (agent, learned) in [(Agent::Stores, 2), (Agent::Fails, 2)] {
        let mut script = Script::start(agent, owned()).await;
        script.policies(&policies, &[]);
        script.behaviour.set(vec![profile(30)]).await;
        for (user, command) in [
            ("alice", "ls"),
            ("alice", "id"),
            ("mallory", "ls"),
            ("alice", "ls"),
        ] {
            let body = changed(
                by(user, command),
                "4f2303d7",
                &format!("{:08x}", user.len() + command.len()),
            );
            script.admit(body).await;
        }
        let told = script.behaviour.told();
        assert_eq!(told.matches("Usual").count(), learned, "{told}");
        assert_eq!(told.matches("Irregular").count(), 1, "{told}");
        assert!(!told.contains("\"id\""), "{told}");
    }
}

#[tokio::test]
async fn where_no_policy_asks_nothing_is_compared_or_learned() {
    let mut script = script(&[("all", json!({"ttl": "1m"}))], vec![profile(30)]).await;
    script.admit(by("mallory", "nc x")).await;
    assert_eq!(script.notices()[0].known.irregular, None);
    assert_eq!(script.total("behaviour_total"), 0.0);
    assert_eq!(script.behaviour.told(), "");
}
