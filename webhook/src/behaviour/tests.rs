//! What is learned and written, by a task with a scripted API server.

use std::time::Duration;

use curfew_api_server::{Answer, ApiServer, Target};
use curfew_core::{
    Kind,
    behaviour::{Features, SeenInteraction, Thresholds},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    ProfileKey,
    learning::{LearningTask, Seen},
    profiles::{Profiles, follow},
    projection::{KnownProfile, WatchedProfile},
};
use crate::metrics::Metrics;

fn key(name: &str) -> ProfileKey {
    ProfileKey {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn features(user: &str, command: &str) -> Features {
    let argv: Vec<_> = command.split(' ').map(str::to_owned).collect();
    Features::of(&SeenInteraction {
        user,
        groups: &[],
        kind: Kind::Exec,
        container: Some("app"),
        argv: &argv,
        tty: false,
        stdin: false,
        time: Timestamp::now(),
        rate: 1,
    })
}

fn usual(user: &str, command: &str, request: &str) -> Seen {
    Seen::Usual {
        key: key("deployment.web"),
        features: vec![features(user, command)],
        time: Timestamp::now(),
        request: request.to_owned(),
        thresholds: Thresholds {
            days: 0,
            samples: 2,
            ..Thresholds::default()
        },
    }
}

/// A replica that learns.
struct Replica {
    seen: mpsc::Sender<Seen>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    metrics: Metrics,
}

impl Replica {
    fn start(api: &ApiServer, process: &str) -> Self {
        let (seen, queue) = mpsc::channel(16);
        let (stop, metrics) = (CancellationToken::new(), Metrics::new().unwrap());
        let task = LearningTask::new(api.client(), process.to_owned(), metrics.clone());
        Self {
            seen,
            task: tokio::spawn(task.run(queue, stop.clone())),
            stop,
            metrics,
        }
    }

    async fn see(&self, seen: Seen) {
        self.seen.send(seen).await.unwrap();
    }

    async fn stop(self) -> Metrics {
        self.stop.cancel();
        self.task.await.unwrap();
        self.metrics
    }
}

fn profile(api: &ApiServer) -> Option<Value> {
    api.get(&Target::object(
        "interactionprofiles",
        "shop",
        "deployment.web",
    ))
}

fn writes(api: &ApiServer) -> usize {
    let asked = api.asked();
    asked.iter().filter(|asked| asked.method == "PUT").count()
}

fn programs(profile: &Value) -> Vec<String> {
    let learned = profile["status"]["learned"].as_array().unwrap();
    let programs = learned.iter().filter_map(|one| {
        let criterion = &one["criterion"];
        criterion["arguments"].is_null().then_some(())?;
        Some(criterion["programs"][0].as_str()?.to_owned())
    });
    programs.collect()
}

#[tokio::test(start_paused = true)]
async fn what_two_replicas_saw_is_in_the_profile() {
    let api = ApiServer::new();
    let replicas = ["a", "b"].map(|process| Replica::start(&api, process));
    for (at, command) in ["ls", "cat x", "id", "ls"].into_iter().enumerate() {
        let user = if at == 0 { "alice" } else { "bob" };
        replicas[at % 2]
            .see(usual(user, command, &at.to_string()))
            .await;
    }
    sleep(Duration::from_secs(40)).await;
    let found = profile(&api).unwrap();
    assert_eq!(found["status"]["samples"], 4);
    assert_eq!(found["status"]["stage"], "Normal");
    assert_eq!(found["status"]["conditions"][0]["status"], "True");
    assert_eq!(programs(&found), ["cat", "id", "ls"]);
    let count = writes(&api);
    assert!((2..=4).contains(&count), "{count}");
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(writes(&api), count);
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_written_at_most_once_in_half_a_minute() {
    let api = ApiServer::new();
    let replica = Replica::start(&api, "a");
    for second in 0..120 {
        replica.see(usual("alice", "ls", &second.to_string())).await;
        sleep(Duration::from_secs(1)).await;
    }
    let count = writes(&api);
    assert!((3..=5).contains(&count), "{count}");
    // The rest is written when the process stops.
    replica.stop().await;
    assert_eq!(profile(&api).unwrap()["status"]["samples"], 120);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_is_learned_once() {
    let api = ApiServer::new();
    let replica = Replica::start(&api, "a");
    for request in ["r-1", "r-1", "r-2", "r-1"] {
        replica.see(usual("alice", "ls", request)).await;
    }
    replica.stop().await;
    assert_eq!(profile(&api).unwrap()["status"]["samples"], 2);
}

#[tokio::test(start_paused = true)]
async fn what_people_change_meanwhile_is_kept() {
    let api = ApiServer::new();
    let spec = json!({"allowed": [{"users": ["carol"]}]});
    api.put(
        "interactionprofiles",
        json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile",
            "metadata": {"name": "deployment.web", "namespace": "shop", "uid": "u"}, "spec": {}}),
    );
    let (known, changed) = (api.clone(), spec.clone());
    let mut people = Some(changed);
    api.script(move |asked| {
        // Somebody changes it between the read and the first write.
        if asked.method == "PUT"
            && let Some(spec) = people.take()
        {
            let mut found = profile(&known).unwrap();
            found["spec"] = spec;
            known.put("interactionprofiles", found);
        }
        Answer::honest()
    });
    let replica = Replica::start(&api, "a");
    replica.see(usual("alice", "ls", "r")).await;
    replica.stop().await;
    let found = profile(&api).unwrap();
    assert_eq!(found["status"]["samples"], 1);
    assert_eq!(found["spec"], spec);
    assert_eq!(writes(&api), 2);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_is_deleted_begins_anew() {
    let api = ApiServer::new();
    let replica = Replica::start(&api, "a");
    replica.see(usual("alice", "ls", "r-1")).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(programs(&profile(&api).unwrap()), ["ls"]);
    api.remove(&Target::object(
        "interactionprofiles",
        "shop",
        "deployment.web",
    ));
    replica.see(usual("alice", "id", "r-2")).await;
    sleep(Duration::from_secs(40)).await;
    let found = profile(&api).unwrap();
    assert_eq!(
        (found["status"]["samples"].as_u64(), programs(&found)),
        (Some(1), vec!["id".to_owned()])
    );
    // Irregular interactions alone make no profile.
    api.remove(&Target::object(
        "interactionprofiles",
        "shop",
        "deployment.web",
    ));
    replica
        .see(Seen::Irregular {
            key: key("deployment.web"),
            user: Some("eve".to_owned()),
            reason: "x".to_owned(),
            time: Timestamp::now(),
            request: "r-3".to_owned(),
            thresholds: Thresholds::default(),
        })
        .await;
    let metrics = replica.stop().await;
    assert_eq!(profile(&api), None);
    let failed = [("result", "failed")];
    assert_eq!(
        metrics.count("curfew_webhook_profile_writes_total", &failed),
        0.0
    );
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_cannot_be_read_or_written_is_left_alone_and_counted() {
    for (status, code) in [(json!({"learned": "everything"}), 200), (json!({}), 413)] {
        let api = ApiServer::new();
        api.put(
            "interactionprofiles",
            json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile", "status": status,
                "metadata": {"name": "deployment.web", "namespace": "shop", "uid": "u"}, "spec": {}}),
        );
        api.script(move |asked| match (asked.method.as_str(), code) {
            ("PUT", 413) => Answer::status(413, "too large"),
            _ => Answer::honest(),
        });
        let replica = Replica::start(&api, "a");
        replica.see(usual("alice", "ls", "r")).await;
        sleep(Duration::from_secs(40)).await;
        assert_eq!(profile(&api).unwrap()["status"], status);
        replica.stop.cancel();
        let failed = [("result", "failed")];
        let failed = replica
            .metrics
            .count("curfew_webhook_profile_writes_total", &failed);
        assert!((1.0..=2.0).contains(&failed), "{failed}");
    }
}

fn watched(spec: Value, status: Value) -> WatchedProfile {
    serde_json::from_value(json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile", "spec": spec, "status": status,
        "metadata": {"name": "deployment.web", "namespace": "shop", "uid": "u", "generation": 1},
    }))
    .unwrap()
}

#[test]
fn what_cannot_be_read_has_no_effect() {
    let now = Timestamp::now().to_string();
    let learned = |criterion: Value| json!({"criterion": criterion, "firstSeen": now, "lastSeen": now, "samples": 1, "actors": "0:"});
    let status = json!({
        "stage": "Later", "samples": 7, "people": 7, "since": "soon", "distrusted": {"a": 1},
        "learned": [
            learned(json!({"users": ["alice"]})),
            learned(json!({"planets": ["mars"]})),
            7,
            learned(json!({"containers": ["app"]})),
        ],
    });
    let known = KnownProfile::from(watched(json!({}), status));
    let index = known.index.unwrap();
    assert_eq!(index.heap_size(), 2 * 4);
    assert_eq!(index.since(), None);
    assert!(!known.is_reported && known.problem.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unfit_profile_makes_nothing_irregular_and_is_reported() {
    let api = ApiServer::new();
    let profiles = Profiles::default();
    for (spec, problem) in [
        (json!({"planets": []}), "spec: unknown field `planets`"),
        (
            json!({"allowed": [{}]}),
            "spec.allowed[0]: is empty; it must name what is usual",
        ),
    ] {
        api.put(
            "interactionprofiles",
            json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile", "spec": spec,
                "metadata": {"name": "deployment.web", "namespace": "shop", "uid": "u", "generation": 1}}),
        );
        let replica = Replica::start(&api, "a");
        let events = stream::iter([
            Ok(Event::Init),
            Ok(Event::InitApply(watched(spec, json!({})))),
            Ok(Event::InitDone),
        ]);
        follow(events.boxed(), &profiles, &replica.seen).await;
        assert!(profiles.are_known());
        let known = profiles.get(&key("deployment.web")).unwrap();
        assert!(known.index.is_none());
        assert_eq!(profiles.count().unfit, 1);
        replica.stop().await;
        let condition = &profile(&api).unwrap()["status"]["conditions"][0];
        assert_eq!(condition["status"], "False");
        let message = condition["message"].as_str().unwrap();
        assert!(message.starts_with(problem), "{message}");
        // It says so now, and is not written again.
        let told = profile(&api).unwrap();
        let told: WatchedProfile = serde_json::from_value(told).unwrap();
        assert!(KnownProfile::from(told).is_reported);
    }
    // A profile that is gone from the list is not used any more.
    let (seen, _queue) = mpsc::channel(1);
    let events = stream::iter([Ok(Event::Init), Ok(Event::InitDone)]);
    follow(events.boxed(), &profiles, &seen).await;
    assert!(profiles.get(&key("deployment.web")).is_none());
}
