//! What is counted how, and what is suggested.

use curfew_core::{Action, Command, Enforcement, PodId, RecordedInteraction, State, metadata};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::*;
use crate::print::row::tests::marked as marked_pod;

const RUNNER: &str = "system:serviceaccount:ci:runner";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// An interaction on terms that are a dry run, of a kind of its own.
fn known(second: i64, user: &str, command: &str) -> RecordedInteraction {
    let meta = marked_pod("web-1", curfew_core::Kind::Exec, None);
    let mut known = row::record(&meta).unwrap().decisive().unwrap().clone();
    known.interaction.time = at(second);
    known.interaction.user = user.to_owned();
    known.interaction.command = Command::new([command]);
    known.interaction.request = format!("{user}-{second}");
    known.terms.enforcement = Enforcement::DryRun;
    known
}

fn pod(uid: &str, all: &[RecordedInteraction]) -> Touched {
    let id = PodId {
        namespace: "ci".into(),
        name: uid.into(),
        uid: uid.into(),
    };
    let mut record = Record::new(id, all[0].clone());
    for known in &all[1..] {
        record.learn(known.clone());
    }
    Touched {
        namespace: "ci".into(),
        workload: "ci/job/build".into(),
        record,
        state: None,
    }
}

fn count(by: By, pods: &[Touched]) -> Vec<(String, u64, u64)> {
    tally::groups(by, pods.iter(), &[], Timestamp::MIN)
        .into_iter()
        .map(|group| (group.key, group.interactions, group.pods))
        .collect()
}

#[test]
fn interactions_are_counted_by_what_they_have_in_common() {
    let mut with_policy = known(20, "alice", "sh");
    with_policy.policy = Some("staging".into());
    let pods = [
        pod("a", &[known(0, "alice", "sh"), known(10, RUNNER, "make")]),
        pod("b", &[with_policy, known(30, "alice", "ls")]),
    ];
    let expect = |all: &[(&str, u64, u64)]| -> Vec<(String, u64, u64)> {
        let owned = |(key, interactions, pods): &(&str, u64, u64)| {
            ((*key).to_owned(), *interactions, *pods)
        };
        all.iter().map(owned).collect()
    };
    assert_eq!(
        count(By::User, &pods),
        expect(&[("alice", 3, 2), (RUNNER, 1, 1)])
    );
    assert_eq!(
        count(By::Workload, &pods),
        expect(&[("ci/job/build", 4, 2)])
    );
    assert_eq!(
        count(By::Command, &pods),
        expect(&[("sh", 2, 2), ("ls", 1, 1), ("make", 1, 1)])
    );
    assert_eq!(
        count(By::Policy, &pods),
        expect(&[("<none>", 3, 2), ("staging", 1, 1)])
    );
}

#[test]
fn those_that_are_not_kept_are_counted_with_the_only_one_they_can_be_of() {
    let many: Vec<_> = (0..200).map(|n| known(n * 10, RUNNER, "make")).collect();
    let mut mixed = many.clone();
    mixed.push(known(5000, "alice", "sh"));
    let (alone, mixed) = ([pod("a", &many)], [pod("b", &mixed)]);
    assert_eq!(count(By::User, &alone), [(RUNNER.to_owned(), 200, 1)]);
    let mixed_counts = count(By::User, &mixed);
    let sum: u64 = mixed_counts
        .iter()
        .map(|(_, interactions, _)| interactions)
        .sum();
    assert_eq!((sum, mixed_counts[0].0.as_str()), (201, "<unknown>"));
    // By what they have in common, nothing is unknown.
    assert_eq!(
        count(By::Workload, &mixed),
        [("ci/job/build".to_owned(), 201, 1)]
    );
    // Whether those that are not kept were within the time is not known where one before it is.
    let late = tally::groups(By::User, alone.iter(), &[], at(1985));
    assert_eq!(late[0].interactions, 1);
    let all = tally::groups(By::User, alone.iter(), &[], at(0));
    assert_eq!(all[0].interactions, 200);
    assert!(tally::groups(By::User, alone.iter(), &[], at(5000)).is_empty());
}

#[test]
fn what_came_of_the_pods_is_told() {
    let mut enforced = known(0, "alice", "sh");
    enforced.terms.enforcement = Enforcement::Enforce;
    let mut recorded = known(0, "alice", "sh");
    recorded.terms.action = Action::Record;
    let mut pods: Vec<_> = [
        known(0, "alice", "sh"),
        known(1, "alice", "sh"),
        known(2, "alice", "sh"),
    ]
    .into_iter()
    .chain([enforced.clone(), enforced, recorded])
    .enumerate()
    .map(|(n, known)| pod(&format!("pod-{n}"), &[known]))
    .collect();
    pods[0].record.would_go = Some(at(600));
    pods[1].state = Some(State::Blocked);
    pods[3].state = Some(State::Stuck);
    let gone = |user: &str| Evicted {
        namespace: "ci".into(),
        uid: "gone".into(),
        user: user.into(),
        result: "accepted".into(),
        time: at(900),
    };
    let groups = tally::groups(
        By::User,
        pods.iter(),
        &[gone("alice"), gone("bob")],
        Timestamp::MIN,
    );
    let [alice, bob] = &groups[..] else {
        panic!("{groups:?}");
    };
    assert_eq!(
        (alice.pods, alice.would_go, alice.would_be_blocked),
        (7, 1, 1)
    );
    assert_eq!(
        (alice.waiting, alice.blocked, alice.recorded, alice.evicted),
        (2, 1, 1, 1)
    );
    assert_eq!(alice.last, at(900));
    assert_eq!((bob.pods, bob.evicted, bob.interactions), (1, 1, 1));
}

#[test]
fn agents_add_what_they_know() {
    let all = [
        known(0, "alice", "sh"),
        known(10, "bob", "sh"),
        known(20, "carol", "sh"),
    ];
    let full = pod("a", &all).record;
    let marks: BTreeMap<String, String> = metadata::annotations(&full, &[])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let marks = metadata::read(&full.pod, &marks).unwrap();
    let mut shown = pod("a", &all[..1]);
    shown.record = Record::from_marks(full.pod.clone(), marks).unwrap();
    let mut known = Knowledge::default();
    known.pods.insert("a".into(), shown);
    // The one in the middle is only counted.
    assert!(
        !count(By::User, &[known.pods["a"].clone()])
            .iter()
            .any(|(user, ..)| user == "bob")
    );
    let holdings = serde_json::from_value(json!({
        "open": true, "records": [json!(full), {"pod": "of another release"}], "setAside": [],
    }))
    .unwrap();
    let eviction = |uid: &str, result: &str| {
        json!({
            "namespace": "ci", "name": uid, "uid": uid, "user": "dave", "kind": "exec", "result": result,
            "since": at(0), "time": at(0), "times": 1,
        })
    };
    let schedule = serde_json::from_value(json!({
        "records": [{"uid": "a", "state": "blocked"}, {"uid": "b", "state": "of another release"}],
        "recentEvictions": [eviction("x", "accepted"), eviction("y", "disruption_budget"),
            eviction("z", "dry_run_accepted"), eviction("a", "accepted")],
    }))
    .unwrap();
    known.learn(holdings, schedule);
    assert_eq!(known.pods["a"].standing(), tally::Standing::WouldBeBlocked);
    let counts = count(By::User, &[known.pods["a"].clone()]);
    assert_eq!(counts.len(), 3);
    assert!(
        counts.iter().all(|(_, interactions, _)| *interactions == 1),
        "{counts:?}"
    );
    assert_eq!(known.gone.len(), 1);
    assert_eq!(known.gone[0].uid, "x");
}

#[test]
fn a_deployment_is_the_workload_of_its_pods() {
    let owned = |kind: &str, name: &str, hash: Option<&str>| {
        let mut meta = marked_pod("web-1", curfew_core::Kind::Exec, None);
        meta.owner_references = Some(vec![OwnerReference {
            kind: kind.into(),
            name: name.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        let labels = hash.map(|hash| (TEMPLATE_HASH.to_owned(), hash.to_owned()));
        meta.labels = Some(labels.into_iter().collect());
        workload(&meta)
    };
    assert_eq!(
        owned("ReplicaSet", "web-5f7", Some("5f7")),
        "shop/deployment/web"
    );
    assert_eq!(owned("ReplicaSet", "web", None), "shop/replicaset/web");
    assert_eq!(
        owned("StatefulSet", "db-5f7", Some("5f7")),
        "shop/statefulset/db-5f7"
    );
    let bare = marked_pod("web-1", curfew_core::Kind::Exec, None);
    assert_eq!(workload(&bare), "shop/pod/web-1");
}

#[test]
fn a_policy_is_suggested_for_accounts_that_come_again_and_again() {
    let again: Vec<_> = (0..3).map(|n| known(n * 10, RUNNER, "make")).collect();
    let suggested = |pods: &[Touched]| suggest::policy(pods.iter(), Timestamp::MIN);
    let text = suggested(&[pod("a", &again)]).unwrap();
    assert_eq!(
        text,
        "\
# kubectl pi report --suggest: the ServiceAccounts that started timers again and again.
# Interactions of these users are only recorded then. Whoever may use such an account is one of them.
# system:serviceaccount:ci:runner: 3 interactions with 1 pods, in ci
apiVersion: curfew.dev/v1alpha1
kind: InteractionPolicy
metadata:
  name: suggested-service-accounts
spec:
  action: Record
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: In
      values:
      - ci
  priority: 1000
  users:
  - \"system:serviceaccount:ci:runner\"
"
    );
    // Nobody but those, and only where a timer would start.
    assert_eq!(suggested(&[pod("a", &again[..2])]), None);
    let people: Vec<_> = (0..9).map(|n| known(n * 10, "alice", "sh")).collect();
    assert_eq!(suggested(&[pod("a", &people)]), None);
    let mut recorded = again.clone();
    for known in &mut recorded {
        known.terms.action = Action::Record;
    }
    assert_eq!(suggested(&[pod("a", &recorded)]), None);
    // It is one that the webhook follows.
    let spec: serde_json::Value = serde_json::from_str(
        r#"{"priority": 1000, "users": ["system:serviceaccount:ci:runner"], "action": "Record",
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["ci"]}]}}"#,
    )
    .unwrap();
    let spec: curfew_core::policy::Spec = serde_json::from_value(spec).unwrap();
    assert!(spec.check().is_ok());
}
