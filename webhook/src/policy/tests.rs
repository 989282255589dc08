//! What is known after which events, and what is told of it.

use std::collections::HashMap;

use curfew_api_server::{Answer, ApiServer};
use curfew_core::Enforcement;
use curfew_crd::Status;
use futures::stream;
use jiff::Timestamp;
use kube::client::ClientBuilder;
use serde_json::{Value, json};
use watcher::Event::{self, Apply, Delete, Init, InitApply, InitDone};

use super::*;
use crate::metrics::Metrics;

impl RulesUpdater {
    /// Says what the policies and the labels of the namespaces are.
    pub(crate) fn set(&self, policies: Vec<Stored>, namespaces: Namespaces) {
        let mut book = PolicyCache::default();
        book.replace(policies);
        self.policies.send_replace(Some(Arc::new(book.known())));
        self.namespaces.send_replace(Some(namespaces));
    }
}

fn policy(name: &str, generation: i64, spec: Value) -> Stored {
    with_status(name, generation, spec, Value::Null)
}

fn with_status(name: &str, generation: i64, spec: Value, status: Value) -> Stored {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": "u-1", "generation": generation},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn not_found() -> watcher::Error {
    let status: kube::core::Status =
        serde_json::from_value(json!({"code": 404, "message": "404 page not found"})).unwrap();
    watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
}

async fn after(events: Vec<watcher::Result<Event<Stored>>>) -> Option<Arc<PolicySet>> {
    let (send, known) = watch::channel(None);
    follow(stream::iter(events), &send).await;
    known.borrow().clone()
}

/// The TTL that is in force of each policy.
async fn in_force(events: Vec<Event<Stored>>) -> Vec<(String, String)> {
    let known = after(events.into_iter().map(Ok).collect()).await.unwrap();
    let mut all: Vec<_> = known
        .policies
        .iter()
        .map(|policy| {
            let ttl = policy.spec.ttl.map(|ttl| ttl.to_string());
            (policy.name.clone(), ttl.unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

fn expected(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter()
        .map(|(name, ttl)| ((*name).to_owned(), (*ttl).to_owned()))
        .collect()
}

#[tokio::test]
async fn what_is_known_follows_the_watch() {
    let (a, b) = (
        policy("a", 1, json!({"ttl": "1m"})),
        policy("b", 1, json!({"ttl": "2m"})),
    );
    let listed = || vec![Init, InitApply(a.clone()), InitDone];
    assert_eq!(in_force(listed()).await, expected(&[("a", "1m0s")]));
    let mut events = listed();
    events.extend([
        Apply(b.clone()),
        Apply(policy("a", 2, json!({"ttl": "5m"}))),
    ]);
    assert_eq!(
        in_force(events.clone()).await,
        expected(&[("a", "5m0s"), ("b", "2m0s")])
    );
    events.push(Delete(a.clone()));
    assert_eq!(in_force(events.clone()).await, expected(&[("b", "2m0s")]));
    // A list begun anew takes nothing away before it is complete.
    events.extend([Init, InitApply(a.clone())]);
    assert_eq!(in_force(events.clone()).await, expected(&[("b", "2m0s")]));
    events.push(InitDone);
    assert_eq!(in_force(events).await, expected(&[("a", "1m0s")]));
}

#[tokio::test]
async fn of_a_policy_that_cannot_be_followed_the_last_version_that_could_holds() {
    let good = || Apply(policy("a", 1, json!({"ttl": "1m"})));
    for bad in [
        json!({"ttl": "1d"}),
        json!({"ttl": 7}),
        json!({"ttl": "2m", "nodes": ["n"]}),
        json!("nonsense"),
        json!({"podSelector": {"matchLabels": {"no key": "x"}}}),
        Value::Null,
    ] {
        let changed = policy("a", 2, bad.clone());
        let holds = expected(&[("a", "1m0s")]);
        assert_eq!(
            in_force(vec![good(), Apply(changed.clone())]).await,
            holds,
            "{bad}"
        );
        let anew = vec![good(), Init, InitApply(changed.clone()), InitDone];
        assert_eq!(in_force(anew).await, holds, "{bad}");
        let events = [good(), Apply(changed.clone())].map(Ok).into();
        let known = after(events).await.unwrap();
        assert_eq!(known.count(), (0, 1));
        // Mended, the new one holds.
        let mended = Apply(policy("a", 3, json!({"ttl": "3m"})));
        let events = vec![good(), Apply(changed.clone()), mended];
        assert_eq!(in_force(events).await, expected(&[("a", "3m0s")]));
        // Of one that nobody ever saw in order, nothing holds; and others do not suffer from it.
        let other = policy("b", 1, json!({"ttl": "2m"}));
        let events = vec![Init, InitApply(changed), InitApply(other), InitDone];
        assert_eq!(in_force(events).await, expected(&[("b", "2m0s")]));
    }
}

#[tokio::test]
async fn a_replica_that_starts_later_learns_from_the_status_what_holds() {
    let status = json!({"inForce": {"generation": 1, "spec": {"ttl": "1m"}}});
    let bad = with_status("a", 2, json!({"ttl": "1d"}), status);
    let events = vec![Init, InitApply(bad.clone()), InitDone];
    assert_eq!(in_force(events).await, expected(&[("a", "1m0s")]));
    // What it has seen itself is newer.
    let seen = policy("a", 2, json!({"ttl": "2m"}));
    assert_eq!(
        in_force(vec![Apply(seen), Apply(bad)]).await,
        expected(&[("a", "2m0s")])
    );
}

#[tokio::test]
async fn a_policy_made_anew_under_a_name_inherits_nothing() {
    let mut other = policy("a", 1, json!({"ttl": "1d"}));
    other.metadata.uid = Some("u-2".to_owned());
    let first = policy("a", 1, json!({"ttl": "1m"}));
    assert_eq!(in_force(vec![Apply(first), Apply(other)]).await, []);
}

#[tokio::test]
async fn where_policies_are_not_defined_there_are_none_and_what_was_known_is_not_lost() {
    let known = after(vec![Err(not_found())]).await;
    assert!(known.is_some_and(|known| known.policies.is_empty()));
    let other = || Err(watcher::Error::NoResourceVersion);
    assert!(after(vec![other()]).await.is_none());
    let good = || Ok(Apply(policy("a", 1, json!({}))));
    for error in [Err(not_found()), other()] {
        let known = after(vec![good(), error]).await;
        assert_eq!(known.map(|known| known.policies.len()), Some(1));
    }
}

#[tokio::test]
async fn the_labels_follow_the_namespaces() {
    let namespace = |name: &str, env: &str| {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"env": env}}})).unwrap()
    };
    let after = async |events: Vec<Event<_>>| {
        let (send, known) = watch::channel(None);
        namespaces::follow(stream::iter(events.into_iter().map(Ok)), &send).await;
        let known: Option<Namespaces> = known.borrow().clone();
        known
    };
    assert!(
        after(vec![Init, InitApply(namespace("a", "dev"))])
            .await
            .is_none()
    );
    let known = after(vec![
        Init,
        InitApply(namespace("a", "dev")),
        InitApply(namespace("b", "dev")),
        InitDone,
        Apply(namespace("c", "dev")),
        Apply(namespace("a", "prod")),
        Delete(namespace("b", "dev")),
    ])
    .await;
    let env = |name| namespaces::labels(known.as_ref(), name).get("env").cloned();
    assert_eq!(env("a").as_deref(), Some("prod"));
    assert_eq!(env("b"), None);
    assert_eq!(env("c").as_deref(), Some("dev"));
    let unknown = namespaces::labels(known.as_ref(), "d");
    assert_eq!(
        unknown
            .get("kubernetes.io/metadata.name")
            .map(String::as_str),
        Some("d")
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_rules_longer_than_is_said() {
    let defaults = DefaultTerms {
        ttl: Duration::from_secs(600),
        max_extension: Duration::ZERO,
        max_hold: Duration::ZERO,
        enforcement: Enforcement::Enforce,
    };
    let (rules, updater) = rules(defaults, &Metrics::new().unwrap().watches);
    let began = tokio::time::Instant::now();
    let known = rules.known(Duration::from_secs(1)).await;
    assert_eq!(known, Knowledge::None);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(!rules.are_known());

    let (waiting, ()) = tokio::join!(
        async {
            rules.known(Duration::from_secs(60)).await;
            began.elapsed()
        },
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            updater.set(Vec::new(), HashMap::new());
        }
    );
    assert_eq!(waiting, Duration::from_millis(1200));
    assert!(rules.are_known());
}

/// What the replica told the API server that answers with this status, as these became known one
/// second after the other.
async fn told(all: Vec<Vec<Stored>>, code: u16) -> Vec<(String, Value)> {
    told_each(Duration::from_secs(1), all, code).await
}

/// The same at longer distances.
async fn told_each(pause: Duration, all: Vec<Vec<Stored>>, code: u16) -> Vec<(String, Value)> {
    let server = ApiServer::new();
    let made = json!({"metadata": {"name": "a"}});
    server.script(move |_| match code {
        200 => Answer::json(200, &made),
        _ => Answer::status(code, "scripted"),
    });
    let api: Api<Stored> = Api::all(server.client());
    let (send, known) = watch::channel(None);
    let telling = tokio::spawn(status::report(api, known));
    let mut book = PolicyCache::default();
    for policies in all {
        book.replace(policies);
        send.send_replace(Some(Arc::new(book.known())));
        // On a paused clock: as soon as there is nothing else to do.
        tokio::time::sleep(pause).await;
    }
    drop(send);
    telling.abort();
    let asked = server.asked().into_iter();
    asked
        .inspect(|asked| assert_eq!(asked.method, "PATCH"))
        .map(|asked| (asked.path, asked.body))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_what_became_of_a_policy() {
    let good = || policy("a", 1, json!({"ttl": "1m"}));
    let bad = policy("a", 2, json!({"ttl": "1d"}));
    let patches = told(vec![vec![good()], vec![good()], vec![bad]], 200).await;
    assert_eq!(patches.len(), 2, "{patches:?}");
    for (path, patch) in &patches {
        assert_eq!(
            path,
            "/apis/curfew.dev/v1alpha1/interactionpolicies/a/status"
        );
        assert_eq!(patch["metadata"]["uid"], "u-1");
    }
    let [accepted, rejected] = [0, 1].map(|at: usize| &patches[at].1["status"]);
    assert_eq!(accepted["conditions"][0]["type"], "Accepted");
    assert_eq!(accepted["conditions"][0]["status"], "True");
    assert_eq!(accepted["conditions"][0]["observedGeneration"], 1);
    assert_eq!(accepted["inForce"], Value::Null);
    assert!(
        accepted.as_object().unwrap().contains_key("inForce"),
        "it has to be removed"
    );
    assert_eq!(rejected["conditions"][0]["status"], "False");
    let message = rejected["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("\"1d\" is not a duration"), "{message}");
    assert!(
        message.contains("generation 1 of this policy is in force"),
        "{message}"
    );
    assert_eq!(rejected["inForce"]["generation"], 1);
    assert_eq!(rejected["inForce"]["spec"]["ttl"], "1m0s");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_status_already_is_not_told_again() {
    let good = policy("a", 1, json!({"ttl": "1m"}));
    let first = told(vec![vec![good]], 200).await.remove(0).1;
    let told_by_another = with_status("a", 1, json!({"ttl": "1m"}), first["status"].clone());
    assert_eq!(told(vec![vec![told_by_another]], 200).await, []);
    // Another release sees it differently: this one says what it has to say once.
    let mut differently: Status = serde_json::from_value(first["status"].clone()).unwrap();
    differently.conditions[0].status = "False".to_owned();
    let differently = serde_json::to_value(differently).unwrap();
    let seen = with_status("a", 1, json!({"ttl": "1m"}), differently);
    let again = vec![vec![seen.clone()], vec![seen]];
    assert_eq!(told(again, 200).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_could_not_be_told_is_tried_again_and_that_of_a_policy_that_is_gone_is_not() {
    let good = || vec![policy("a", 1, json!({}))];
    assert_eq!(told(vec![good(), good(), good()], 500).await.len(), 3);
    assert_eq!(told(vec![good(), good(), good()], 404).await.len(), 1);
    // Without any change, too.
    let waiting = told_each(Duration::from_secs(11), vec![good()], 500).await;
    assert_eq!(waiting.len(), 2);
}

#[test]
fn a_condition_keeps_the_time_since_when_it_is_so() {
    let mut book = PolicyCache::default();
    let at = |second| Timestamp::from_second(second).unwrap();
    book.learn(&policy("a", 1, json!({})));
    let first = book.known().reports[0].status(at(100));
    book.learn(&with_status(
        "a",
        2,
        json!({}),
        serde_json::to_value(&first).unwrap(),
    ));
    let report = book.known().reports[0].clone();
    assert!(!report.is_told(), "another generation has to be told");
    let second = report.status(at(200));
    assert_eq!(second.conditions[0].observed_generation, 2);
    assert_eq!(
        second.conditions[0].last_transition_time,
        first.conditions[0].last_transition_time
    );
}

#[tokio::test(start_paused = true)]
async fn who_decides_while_the_watch_is_broken_off_asks_for_the_list() {
    let defaults = DefaultTerms {
        ttl: Duration::from_secs(600),
        max_extension: Duration::ZERO,
        max_hold: Duration::ZERO,
        enforcement: Enforcement::Enforce,
    };
    let server = ApiServer::new();
    let watches = Metrics::new().unwrap().watches;
    let (rules, updater) = rules(defaults, &watches);
    let client = ClientBuilder::new(server.clone(), "default")
        .with_layer(&watches.reach().layer())
        .build();
    tokio::spawn(updater.run(client));
    let patience = Duration::from_millis(1500);
    assert_eq!(rules.known(patience).await, Knowledge::Current);

    server.go_away(Answer::broken());
    tokio::time::sleep(Duration::from_secs(90)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(rules.known(patience).await, Knowledge::Former);
    let waited = began.elapsed();
    assert!(waited <= Duration::from_millis(202), "{waited:?}");

    let spec = json!({"action": "Deny"});
    let mut made = json!({"metadata": {"name": "no", "uid": "u", "generation": 1}, "spec": spec});
    made["apiVersion"] = json!("curfew.dev/v1alpha1");
    made["kind"] = json!("InteractionPolicy");
    server.put("interactionpolicies", made);
    server.come_back();
    let began = tokio::time::Instant::now();
    assert_eq!(rules.known(patience).await, Knowledge::Current);
    let waited = began.elapsed();
    assert!(waited <= Duration::from_millis(200), "{waited:?}");
    let known = rules.policies().unwrap();
    assert_eq!(known.count(), (1, 0), "the new policy is in force");
}
