//! What follows from what sessions left behind, as the watch of touched pods shows it.

use std::{collections::BTreeMap, slice::from_ref};

use curfew_core::{
    Drift, Kind, PodId, Record, RecordedInteraction, left, metadata, record::Marks, terms::Action,
};
use serde_json::{Value, json};

use super::{
    behaviour::{by, owned, profile, script as scripted},
    script::{Agent, Api, Script},
};

fn id() -> PodId {
    PodId {
        namespace: "wh-test".to_owned(),
        name: "one".to_owned(),
        uid: "u-1".to_owned(),
    }
}

/// The annotations of the pod after this was done and that was left behind.
fn annotations(done: &[RecordedInteraction], behind: &str) -> BTreeMap<&'static str, String> {
    let mut record = Record::new(id(), done[0].clone());
    for known in &done[1..] {
        record.learn(known.clone());
    }
    let left = left::parse(behind);
    assert!(!left.is_empty());
    record.found(Drift {
        added: 1,
        left,
        ..Drift::new(done[0].interaction.time)
    });
    metadata::annotations(&record, &[])
}

/// A policy that has usual interactions learned, and one for what is irregular.
fn policies(irregular: Value) -> [(&'static str, Value); 2] {
    let mut spec = json!({"priority": 9, "behaviour": "Irregular", "minimumDays": 0});
    let all = spec.as_object_mut().unwrap();
    all.extend(irregular.as_object().unwrap().clone());
    let learning = json!({"learn": true, "minimumDays": 0, "ttl": "1h"});
    [("irregular", spec), ("learning", learning)]
}

/// Alice has run `ls`, which is usual; returns what was recorded of it.
async fn usual(irregular: Value, people: u64) -> (Script, RecordedInteraction) {
    let mut script = scripted(&policies(irregular), vec![profile(people)]).await;
    script.admit(by("alice", "ls")).await;
    let known = script.notices()[0].known.clone();
    assert_eq!(
        (known.irregular.as_deref(), known.terms.ttl.as_secs()),
        (None, 3600)
    );
    script.behaviour.told();
    (script, known)
}

const NC: &str = "no session of a person ever left `nc` running there";

#[tokio::test]
async fn what_is_irregular_tightens_the_terms_of_the_interaction_that_was_let_through() {
    let (mut script, known) = usual(json!({"ttl": "0s"}), 30).await;
    let shown = annotations(from_ref(&known), "running nc");
    assert_eq!(script.touched(&shown).await, 0);
    let notices = script.notices();
    let told = &notices[1].known;
    assert_eq!(told.interaction, known.interaction, "the same one");
    assert_eq!(told.irregular.as_deref(), Some(NC));
    assert_eq!(told.policy.as_deref(), Some("irregular"));
    assert_eq!(
        (told.terms.action, told.terms.ttl.as_secs()),
        (Action::Evict, 0)
    );
    assert_eq!(told.terms.max_extension, known.terms.max_extension);
    notices[1].check("node-1").unwrap();
    // It is one interaction, and its profile is told of one that is irregular.
    assert_eq!(script.total("recorded_total"), 1.0);
    assert_eq!(
        script.counted("leftovers_total", "behaviour", "irregular"),
        1.0
    );
    assert_eq!(script.counted("irregular_total", "reason", "left"), 1.0);
    let seen = script.behaviour.told();
    assert!(seen.starts_with("Irregular") && seen.contains(NC), "{seen}");

    // Once the pod shows it, nothing follows any more, not even for a replica that has just started.
    let shown = annotations(from_ref(told), "running nc, dropped /tmp/xmrig");
    script.touched(&shown).await;
    assert_eq!(
        (script.notices().len(), script.behaviour.told()),
        (2, String::new())
    );
    let (mut other, _) = usual(json!({"ttl": "0s"}), 30).await;
    other.touched(&shown).await;
    assert_eq!(
        (other.notices().len(), other.behaviour.told()),
        (1, String::new())
    );
}

#[tokio::test]
async fn nothing_that_follows_is_laxer_and_nothing_can_be_denied_any_more() {
    for (irregular, ttl) in [
        (json!({"ttl": "8h"}), 3600),
        (json!({"action": "Record"}), 3600),
        (json!({"enforcement": "DryRun", "ttl": "0s"}), 3600),
        // As one that is let through: by the default.
        (json!({"action": "Deny"}), 600),
        (json!({"action": "Deny", "ttl": "5m"}), 300),
    ] {
        let (mut script, known) = usual(irregular.clone(), 30).await;
        let shown = annotations(from_ref(&known), "dropped /tmp/xmrig");
        script.touched(&shown).await;
        let told = &script.notices()[1].known;
        assert!(told.irregular.is_some(), "people are told all the same");
        assert_eq!(told.terms.ttl.as_secs(), ttl, "{irregular}");
        assert_eq!(told.terms, known.terms.strictest(told.terms), "{irregular}");
    }
}

#[tokio::test]
async fn what_is_usual_or_not_known_enough_is_learned() {
    let mut known_there = profile(30);
    let mut nc = known_there["status"]["learned"][2].clone();
    nc["criterion"] = json!({"leftRunning": ["nc"], "actors": ["User"]});
    known_there["status"]["learned"]
        .as_array_mut()
        .unwrap()
        .push(nc);
    for profiles in [vec![], vec![profile(29)], vec![known_there]] {
        let mut script = scripted(&policies(json!({"ttl": "0s"})), profiles).await;
        script.admit(by("alice", "ls")).await;
        let known = script.notices()[0].known.clone();
        script.behaviour.told();
        let shown = annotations(from_ref(&known), "running nc");
        let asked = script.paths().len();
        script.touched(&shown).await;
        let told = script.behaviour.told();
        assert!(
            told.starts_with("Left {") && told.contains("\"nc\""),
            "{told}"
        );
        assert_eq!(told.matches("Left {").count(), 1, "{told}");
        assert_eq!((script.notices().len(), script.paths().len()), (1, asked));
        // It is told once.
        script.touched(&shown).await;
        assert_eq!(script.behaviour.told(), "");
    }
}

#[tokio::test]
async fn what_may_be_of_another_session_teaches_nothing_and_accuses_nobody() {
    // Of a session that nobody admitted.
    let (mut script, known) = usual(json!({"ttl": "0s"}), 29).await;
    let mut bypass = known.clone();
    bypass.interaction.kind = Kind::Bypass;
    bypass.interaction.user = "unknown".to_owned();
    bypass.interaction.request = "bypass".to_owned();
    script
        .touched(&annotations(&[known.clone(), bypass], "running nc"))
        .await;
    assert_eq!(script.behaviour.told(), "");
    // Of a person, where a machine came last.
    let mut with_machines = profile(30);
    with_machines["status"]["samples"] = json!(60);
    let mut script = scripted(&policies(json!({"ttl": "0s"})), vec![with_machines]).await;
    script.admit(by("alice", "ls")).await;
    let mut machine = known.clone();
    machine.interaction.user = "system:serviceaccount:ops:backup".to_owned();
    machine.interaction.request = "machine".to_owned();
    machine.interaction.time = known.interaction.time + std::time::Duration::from_secs(9);
    script
        .touched(&annotations(from_ref(&machine), "running cat"))
        .await;
    assert_eq!(
        script.counted("leftovers_total", "behaviour", "irregular"),
        1.0
    );
    script
        .touched(&annotations(&[known, machine], "running sleep"))
        .await;
    assert_eq!(
        script.counted("leftovers_total", "behaviour", "irregular"),
        1.0
    );
    assert_eq!(script.counted("leftovers_total", "behaviour", "usual"), 1.0);
    assert_eq!(script.notices().len(), 2);
}

#[tokio::test]
async fn what_depends_on_groups_is_not_guessed() {
    let (mut script, known) = usual(json!({"ttl": "0s"}), 30).await;
    let [irregular, learning] = policies(json!({"ttl": "0s"}));
    let spares = json!({"priority": 10, "behaviour": "Irregular", "minimumDays": 0, "groups": ["sre"],
        "action": "Record"});
    script.policies(&[("spares", spares), irregular, learning], &[]);
    script.touched(&annotations(&[known], "running nc")).await;
    assert_eq!(
        (script.notices().len(), script.behaviour.told()),
        (1, String::new())
    );
}

#[tokio::test]
async fn where_no_policy_asks_what_is_left_is_not_compared() {
    let mut script = scripted(&[("all", json!({"ttl": "1m"}))], vec![profile(30)]).await;
    script.admit(by("alice", "ls")).await;
    let known = script.notices()[0].known.clone();
    script.touched(&annotations(&[known], "running nc")).await;
    assert_eq!(
        (script.notices().len(), script.behaviour.told()),
        (1, String::new())
    );
    assert_eq!(script.total("leftovers_total"), 0.0);
}

/// What the pod was made to tell last.
fn on_the_pod(script: &Script) -> Marks {
    let patch = script.patches().pop().unwrap();
    let annotations = patch["metadata"]["annotations"].as_object().unwrap();
    let told = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    metadata::read(&id(), &told.collect()).unwrap()
}

#[tokio::test]
async fn without_an_agent_it_stands_on_the_pod() {
    let mut script = Script::start(Agent::Down, owned()).await;
    script.policies(&policies(json!({"ttl": "0s"})), &[]);
    script.behaviour.set(vec![profile(30)]).await;
    script.admit(by("alice", "ls")).await;
    let known = on_the_pod(&script).latest().unwrap().clone();
    let shown = annotations(from_ref(&known), "running nc");
    assert_eq!(script.touched(&shown).await, 0);
    let marks = on_the_pod(&script);
    let told = marks.latest().unwrap();
    assert_eq!(
        (told.irregular.as_deref(), told.terms.ttl.as_secs()),
        (Some(NC), 0)
    );
    assert_eq!(marks.interactions(), 1);
    assert_eq!(script.counted("recorded_total", "where", "metadata"), 1.0);
}

#[tokio::test]
async fn what_cannot_be_told_is_tried_again_and_noted_once() {
    let api = Api {
        patch: 500,
        ..owned()
    };
    let mut script = Script::start(Agent::Fails, api).await;
    script.policies(&policies(json!({"ttl": "0s"})), &[]);
    script.behaviour.set(vec![profile(30)]).await;
    let (_, known) = usual(json!({"ttl": "0s"}), 30).await;
    assert_eq!(
        script.touched(&annotations(&[known], "running nc")).await,
        1
    );
    assert_eq!(script.behaviour.told().matches("Irregular").count(), 1);
    assert_eq!(script.total("leftovers_total"), 1.0);
}
