//! What is decided, and why.

use super::*;
use proptest::prelude::*;

/// Decides with what was learned from [`history`].
fn decided(case: &Case) -> Decision {
    with_spec(&ProfileSpec::default(), case)
}

fn with_spec(spec: &ProfileSpec, case: &Case) -> Decision {
    let index = index(spec, &learned(&history()));
    let now = begin() + hours(24 * 11);
    decide(
        &case.features(),
        &index,
        &thresholds(),
        now,
        "deployment web",
    )
}

/// What a policy may ask for a small workload.
fn thresholds() -> Thresholds {
    Thresholds {
        days: 7,
        samples: 30,
        tolerated: 1,
    }
}

/// The reasons, where they are irregular.
fn reasons(case: &Case) -> Vec<String> {
    match decided(case) {
        Decision::Irregular { reasons } => reasons.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn allowed(criteria: serde_json::Value) -> ProfileSpec {
    let spec: ProfileSpec =
        serde_json::from_value(serde_json::json!({"allowed": criteria})).unwrap();
    spec.check().unwrap();
    spec
}

#[test]
fn what_was_done_before_is_usual() {
    for case in history() {
        assert_eq!(
            decided(&case),
            Decision::Usual { noticed: vec![] },
            "{case:?}"
        );
    }
    // People take turns.
    assert_eq!(
        decided(&case("bob", "psql -c 'select 2'")),
        Decision::Usual { noticed: vec![] }
    );
}

#[test]
fn reasons_are_told_to_people() {
    assert_eq!(
        reasons(&case("mallory", "cat /app/config.yaml")),
        ["mallory was never seen in deployment web"]
    );
    assert_eq!(
        reasons(&case("alice", "nc -l 4444")),
        ["`nc` was never run there by a person"]
    );
    assert_eq!(
        reasons(&case(
            "alice",
            "cat /var/run/secrets/kubernetes.io/serviceaccount/token"
        )),
        ["no person ever ran `cat` with a path of credentials there"]
    );
    let mut masters = case("alice", "psql -c 'select 1'");
    masters.groups.push("system:masters".to_owned());
    assert_eq!(
        reasons(&masters),
        ["alice was never in the group system:masters there"]
    );
    let debug = Case {
        kind: Kind::Debug,
        ..case("alice", "sh")
    };
    assert_eq!(reasons(&debug), ["no person ever used debug there"]);
    let machine = Case {
        groups: vec![],
        ..case("system:serviceaccount:ops:backup", "sh")
    };
    assert_eq!(
        reasons(&machine),
        [
            "system:serviceaccount:ops:backup never used exec with a terminal and standard input there",
            "system:serviceaccount:ops:backup never ran `sh` there"
        ]
    );
    let other = Case {
        groups: vec![],
        ..case("system:serviceaccount:ops:other", "sh")
    };
    assert_eq!(
        reasons(&other),
        ["system:serviceaccount:ops:other was never seen in deployment web"]
    );
    assert_eq!(
        reasons(&case("bob", "sh -c 'cat /app/log | sh'")),
        ["the output of `cat` never went into `sh` there"]
    );
}

#[test]
fn one_weak_reason_is_tolerated_and_two_are_not() {
    let one = case("alice", "head /app/log");
    assert_eq!(decided(&one).to_string(), "usual");
    let Decision::Usual { noticed } = decided(&one) else {
        panic!()
    };
    assert_eq!(
        noticed[0].to_string(),
        "`head` was never run there by a person"
    );
    assert_eq!(
        (noticed[0].novelty, noticed[0].weight),
        (Novelty::Program, Weight::Weak)
    );
    let two = Case {
        container: Some("sidecar"),
        ..one
    };
    assert_eq!(
        decided(&two).to_string(),
        "irregular: container sidecar was never touched there; `head` was never run there by a person"
    );
}

#[test]
fn what_is_not_known_enough_is_not_irregular() {
    let index = |status: &ProfileStatus| index(&ProfileSpec::default(), status);
    let hostile = case("mallory", "nc -l 4444").features();
    let decide = |status: &ProfileStatus, days: i64| {
        let now = begin() + hours(24 * days);
        decide(
            &hostile,
            &index(status),
            &thresholds(),
            now,
            "deployment web",
        )
    };
    let needed = thresholds();
    // An operator that comes each minute says nothing of people.
    let machine = history().remove(4);
    let machines = vec![machine; 100];
    let few = learned(&[&history()[..36], &machines].concat());
    assert_eq!(
        decide(&few, 30),
        Decision::NotEnough {
            samples: 29,
            days: 30,
            needed
        }
    );
    let enough = learned(&history());
    assert_eq!(
        decide(&enough, 6),
        Decision::NotEnough {
            samples: 36,
            days: 6,
            needed
        }
    );
    assert_eq!(
        decide(&enough, 6).to_string(),
        "not enough is known: 36 of 30 interactions, 6 of 7 days"
    );
    assert!(matches!(decide(&enough, 7), Decision::Irregular { .. }));
    let none = ProfileStatus::default();
    assert_eq!(
        decide(&none, 7),
        Decision::NotEnough {
            samples: 0,
            days: 0,
            needed
        }
    );
    assert!(decide(&none, 7).is_learned() && !decide(&enough, 7).is_learned());
}

#[test]
fn a_person_allows_what_was_not_learned() {
    let nc = case("alice", "nc -l 4444");
    let spec = allowed(serde_json::json!([{"programs": ["nc"]}]));
    assert_eq!(with_spec(&spec, &nc), Decision::Usual { noticed: vec![] });
    let others = allowed(serde_json::json!([{"programs": ["nc"], "users": ["bob"]}]));
    assert!(matches!(
        with_spec(&others, &nc),
        Decision::Irregular { .. }
    ));
    let flags = allowed(serde_json::json!([{"programs": ["nc"], "arguments": ["flag"]}]));
    let Decision::Irregular { reasons } = with_spec(
        &flags,
        &Case {
            container: Some("x"),
            ..nc.clone()
        },
    ) else {
        panic!()
    };
    assert_eq!(reasons.len(), 2, "the container and the number");
    // A user who is allowed may still not run anything.
    let carol = allowed(serde_json::json!([{"groups": ["sr*"]}]));
    assert_eq!(
        with_spec(&carol, &case("carol", "sh")),
        Decision::Usual { noticed: vec![] }
    );
    assert!(matches!(
        with_spec(&carol, &case("carol", "nc")),
        Decision::Irregular { .. }
    ));
}

#[test]
fn a_profile_that_a_person_wrote_needs_no_samples() {
    let spec = allowed(serde_json::json!([
        {"users": ["alice"]},
        {"kinds": ["exec"]},
        {"containers": ["web"]},
        {"programs": ["psql"]},
    ]));
    let index = index(&spec, &ProfileStatus::default());
    let decide = |case: &Case| decide(&case.features(), &index, &thresholds(), begin(), "x");
    assert_eq!(
        decide(&case("alice", "psql -l")),
        Decision::Usual { noticed: vec![] }
    );
    assert!(matches!(
        decide(&case("bob", "psql -l")),
        Decision::NotEnough { .. }
    ));
}

#[test]
fn hours_and_rates_are_weak() {
    let many: Vec<_> = (0..3)
        .flat_map(|week| {
            history().into_iter().map(move |case| Case {
                time: case.time + hours(24 * 14 * week),
                ..case
            })
        })
        .collect();
    let index = index(&ProfileSpec::default(), &learned(&many));
    let decide = |case: &Case| decide(&case.features(), &index, &thresholds(), case.time, "x");
    let later = begin() + hours(24 * 70);
    let noticed = |case: Case| match decide(&case) {
        Decision::Usual { noticed } => noticed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        noticed(Case {
            time: later + hours(1),
            ..case("alice", "sh")
        }),
        [""; 0]
    );
    assert_eq!(
        noticed(Case {
            time: later + hours(16),
            ..case("alice", "sh")
        }),
        ["no person ever came around Tue 02:00 UTC"]
    );
    assert_eq!(
        noticed(Case {
            time: later,
            rate: 2,
            ..case("alice", "sh")
        }),
        [""; 0]
    );
    assert_eq!(
        noticed(Case {
            time: later,
            rate: 3,
            ..case("alice", "sh")
        }),
        ["no person ever came as often as 3 times within ten minutes"]
    );
    assert!(matches!(
        decide(&Case {
            time: later + hours(16),
            rate: 64,
            ..case("alice", "sh")
        }),
        Decision::Irregular { .. }
    ));
}

#[test]
fn what_has_vanished_is_not_usual() {
    let status = learned(&history());
    let later = begin() + hours(24 * 11);
    let index =
        |begin| ProfileIndex::new(&ProfileSpec::default(), &status, begin, RandomState::new());
    let usual = case("alice", "cat /app/config.yaml").features();
    let decide = |begin| decide(&usual, &index(begin), &thresholds(), later, "x");
    assert!(matches!(decide(begin()), Decision::Usual { .. }));
    assert!(matches!(decide(later), Decision::Irregular { .. }));
}

#[test]
fn what_users_choose_cannot_control_the_terminal() {
    let user = "eve\u{1b}[2J\u{202e}";
    let texts = reasons(&Case {
        user,
        ..case("alice", "'\u{1b}]0;x\u{7}' a")
    });
    assert_eq!(
        texts,
        [
            "eve\\u{1b}[2J\\u{202e} was never seen in deployment web",
            "`\\u{1b}]0;x\\u{7}` was never run there by a person"
        ]
    );
}

proptest! {
    #[test]
    fn whatever_comes_is_decided_with_few_and_short_reasons(
        words in prop::collection::vec("\\PC{0,80}|[a-z/|;&$()<>'\" -]{0,300}", 0..12),
        groups in prop::collection::vec("\\PC{0,300}", 0..50),
        container in prop::option::of("\\PC{0,300}"),
        kind in prop::sample::select(Kind::ALL),
        rate in any::<u32>(),
    ) {
        let container = container.as_deref();
        let argv = [vec!["sh".to_owned(), "-c".to_owned()], words].concat();
        let features = Features::of(&SeenInteraction {
            user: &groups.concat(), groups: &groups, kind, container, argv: &argv, tty: true, stdin: true, time: begin(), rate,
        });
        prop_assert!(features.groups.len() <= MAX_GROUPS && features.user.len() <= 512);
        let index = index(&ProfileSpec::default(), &learned(&history()));
        let decision = decide(&features, &index, &thresholds(), begin() + hours(240), &groups.concat());
        let Decision::Irregular { reasons } = &decision else { panic!("{decision:?}") };
        prop_assert!((1..=MAX_REASONS).contains(&reasons.len()));
        for reason in reasons {
            let text = reason.to_string();
            prop_assert!(text.len() <= 420 && !text.is_empty());
            prop_assert!(!text.contains(crate::text::is_unsafe));
        }
        // What is learned is usual from then on.
        let mut learner = Learner::new("x");
        let mut status = learned(&history());
        learner.gathered().learn(&features, begin());
        status.merge(learner.next_delta().unwrap(), &Retention::default(), begin() + hours(240));
        let after = ProfileIndex::new(&ProfileSpec::default(), &status, Timestamp::MIN, RandomState::new());
        let after = decide(&features, &after, &thresholds(), begin() + hours(240), "x");
        prop_assert_eq!(after, Decision::Usual { noticed: vec![] });
    }
}
