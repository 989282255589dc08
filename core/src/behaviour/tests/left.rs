//! What sessions left behind: learned, judged and allowed.

use super::*;
use crate::left;

fn leaves(user: &'static str, left: &str) -> Features {
    let left = left::parse(left);
    assert!(!left.is_empty());
    case(user, "sh").features().leaving(left)
}

/// What was learned from [`history`], and that this was left behind.
fn learned_with(all: &[(&'static str, &str)]) -> ProfileStatus {
    let mut status = learned(&history());
    let mut learner = Learner::new("left");
    for (user, left) in all {
        learner.gathered().learn_left(&leaves(user, left), begin());
    }
    let now = begin() + hours(24 * 11);
    if let Some(delta) = learner.next_delta() {
        assert!(!delta.has_samples());
        status.merge(delta, &Retention::default(), now);
    }
    status
}

fn judged(spec: &ProfileSpec, status: &ProfileStatus, features: &Features) -> Decision {
    let thresholds = Thresholds {
        days: 7,
        samples: 30,
        tolerated: 1,
    };
    let now = begin() + hours(24 * 11);
    assess_left(features, &index(spec, status), now, "deployment web").decide(&thresholds)
}

fn told(status: &ProfileStatus, user: &'static str, left: &str) -> String {
    judged(&ProfileSpec::default(), status, &leaves(user, left)).to_string()
}

const BACKUP: &str = "system:serviceaccount:ops:backup";

#[test]
fn what_was_never_left_is_irregular_in_these_words() {
    let status = learned_with(&[]);
    for (user, left, expected) in [
        (
            "alice",
            "running nc",
            "irregular: no session of a person ever left `nc` running there",
        ),
        (
            "alice",
            "dropped /tmp/xmrig",
            "irregular: no session of a person ever dropped `/tmp/xmrig` there",
        ),
        (
            "alice",
            "running nc, dropped nc",
            "irregular: no session of a person ever left `nc` running there; no session of a person ever dropped `nc` there",
        ),
        // What shows something or waits is forgotten now and then, and several of it are one reason.
        ("alice", "running sleep", "usual"),
        ("alice", "running cat, running sleep, running tail", "usual"),
        (
            BACKUP,
            "running sleep",
            "irregular: system:serviceaccount:ops:backup never left `sleep` running there",
        ),
        // Of the user of the interaction, that was said when it happened.
        ("mallory", "running sleep", "usual"),
        (
            "system:serviceaccount:a:new",
            "dropped x",
            "irregular: system:serviceaccount:a:new never dropped `x` there",
        ),
    ] {
        assert_eq!(told(&status, user, left), expected, "{user} {left}");
    }
    let few = ProfileStatus::default();
    assert!(told(&few, "alice", "running nc").starts_with("not enough is known"));
}

#[test]
fn what_was_left_before_is_usual() {
    let status = learned_with(&[("alice", "running nc"), (BACKUP, "dropped /tmp/dump")]);
    assert_eq!(
        told(&status, "bob", "running nc"),
        "usual",
        "people take turns"
    );
    assert_eq!(told(&status, BACKUP, "dropped /tmp/dump"), "usual");
    for (user, left) in [
        ("bob", "dropped nc"),
        ("bob", "running /tmp/nc"),
        ("bob", "dropped /tmp/dump"),
        (BACKUP, "running nc"),
    ] {
        let told = told(&status, user, left);
        assert!(told.starts_with("irregular"), "{user} {left}: {told}");
    }
    // It says nothing of programs that are run, nor is it a sample.
    let before = learned(&history());
    assert_eq!(
        (status.samples, status.people),
        (before.samples, before.people)
    );
    let nc = decide(
        &case("bob", "nc").features(),
        &index(&ProfileSpec::default(), &status),
        &Thresholds {
            days: 7,
            ..Thresholds::default()
        },
        begin() + hours(24 * 11),
        "x",
    );
    assert!(matches!(nc, Decision::Irregular { .. }), "{nc}");
}

#[test]
fn learning_it_twice_does_no_harm() {
    let once = learned_with(&[("alice", "running nc")]);
    let twice = learned_with(&[("alice", "running nc"), ("alice", "running nc")]);
    let of = |status: &ProfileStatus| {
        let mut learned = status.learned.iter();
        let nc = learned.find(|learned| learned.criterion.left_running == ["nc"]);
        nc.unwrap().sighting.clone()
    };
    let (one, two) = (of(&once), of(&twice));
    assert_eq!(
        (one.first_seen, one.last_seen),
        (two.first_seen, two.last_seen)
    );
    assert_eq!((&one.actors, one.samples + 1), (&two.actors, two.samples));
}

#[test]
fn people_allow_what_sessions_leave() {
    let spec = |json: serde_json::Value| -> ProfileSpec {
        let spec: ProfileSpec =
            serde_json::from_value(serde_json::json!({"allowed": json})).unwrap();
        spec.check().unwrap();
        spec
    };
    let allowed = spec(serde_json::json!([
        {"users": ["alice"], "leftRunning": ["nc", "/tmp/job-*"]},
        {"dropped": ["report.sh"]},
    ]));
    let status = learned_with(&[]);
    for (user, left, is_usual) in [
        ("alice", "running nc", true),
        ("alice", "running /tmp/job-7, running nc", true),
        ("bob", "running nc", false),
        ("bob", "dropped report.sh", true),
        ("alice", "dropped nc", false),
    ] {
        let decision = judged(&allowed, &status, &leaves(user, left));
        let usual = matches!(decision, Decision::Usual { .. });
        assert_eq!(usual, is_usual, "{user} {left}: {decision}");
    }
    // From the first day.
    let decision = judged(
        &allowed,
        &ProfileStatus::default(),
        &leaves("alice", "running nc"),
    );
    assert_eq!(decision, Decision::Usual { noticed: vec![] });
}

#[test]
fn each_criterion_of_what_was_left_has_its_facet_and_can_be_adopted() {
    let status = learned_with(&[
        ("alice", "running nc, running sh -c, dropped /tmp/x"),
        (BACKUP, "dropped dump"),
    ]);
    let all: Vec<_> = status
        .learned
        .iter()
        .filter(|learned| {
            let Criterion {
                left_running,
                dropped,
                ..
            } = &learned.criterion;
            !left_running.is_empty() || !dropped.is_empty()
        })
        .collect();
    assert_eq!(all.len(), 4);
    let adopted = adopted(status.learned.iter());
    for learned in &all {
        let criterion = &learned.criterion;
        criterion.check().unwrap();
        let facet = criterion.facet().unwrap();
        assert_eq!(Criterion::learned(&facet).as_ref(), Some(criterion));
        assert!(
            adopted
                .iter()
                .any(|allowed| allowed.names_learned(criterion)),
            "{criterion}"
        );
    }
    let first = serde_json::to_string(&all[0].criterion).unwrap();
    assert!(
        [
            r#"{"actors":["User"],"leftRunning":["nc"]}"#,
            r#"{"actors":["User"],"dropped":["/tmp/x"]}"#,
            r#"{"users":["system:serviceaccount:ops:backup"],"dropped":["dump"]}"#
        ]
        .contains(&first.as_str()),
        "{first}"
    );
    let spec = ProfileSpec {
        allowed: adopted,
        ..ProfileSpec::default()
    };
    spec.check().unwrap();
    for (user, left, is_usual) in [
        ("alice", "running nc, dropped /tmp/x", true),
        (BACKUP, "dropped dump", true),
        (BACKUP, "dropped /tmp/x", false),
        ("mallory", "running nc", false),
    ] {
        let decision = judged(&spec, &ProfileStatus::default(), &leaves(user, left));
        assert_eq!(
            matches!(decision, Decision::Usual { .. }),
            is_usual,
            "{user} {left}"
        );
    }
    // A name that is none of those that are learned counts for nothing.
    let mixed: Criterion =
        serde_json::from_str(r#"{"actors":["User"],"leftRunning":["nc"],"dropped":["x"]}"#)
            .unwrap();
    assert_eq!(mixed.facet(), None);
}
