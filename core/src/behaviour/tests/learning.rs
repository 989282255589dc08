//! What is learned, in which order whatsoever it comes.

use super::*;
use proptest::prelude::*;

fn now() -> Timestamp {
    begin() + hours(24 * 60)
}

/// An interaction of a few users and commands, within the first month.
fn any_case() -> impl Strategy<Value = Case> {
    let user = prop::sample::select(vec!["alice", "bob", "carol", "system:serviceaccount:a:b"]);
    let command = prop::sample::select(vec![
        "ls",
        "cat /x",
        "sh",
        "sh -c 'ls | grep x'",
        "psql -l",
        "nc x",
    ]);
    (user, command, 0..720i64, 1u32..9).prop_map(|(user, command, hour, rate)| Case {
        time: begin() + hours(hour),
        rate,
        ..case(user, command)
    })
}

/// What a replica does next.
#[derive(Debug, Clone)]
enum Act {
    /// It sees this.
    See(Case),
    /// It sees something irregular.
    Irregular(u8),
    /// It writes, and learns that it did.
    Write,
    /// It writes, and the answer is lost.
    LoseAnswer,
    /// Somebody else wrote in between, and it has to try again later.
    Conflict,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any_case().prop_map(Act::See),
        1 => any::<u8>().prop_map(Act::Irregular),
        2 => Just(Act::Write),
        1 => Just(Act::LoseAnswer),
        1 => Just(Act::Conflict),
    ]
}

fn write(learner: &mut Learner, status: &mut ProfileStatus, lose: bool) {
    if let Some(delta) = learner.next_delta() {
        status.merge(delta, &Retention::default(), now());
        if !lose {
            learner.written();
        }
    }
}

/// The status without what says who wrote it.
fn content(status: &ProfileStatus) -> ProfileStatus {
    ProfileStatus {
        writers: Vec::new(),
        ..status.clone()
    }
}

proptest! {
    #[test]
    fn replicas_converge_whatever_is_lost(acts in prop::collection::vec((0usize..3, any_act()), 0..60)) {
        let mut replicas = ["a", "b", "c"].map(Learner::new);
        let mut status = ProfileStatus::default();
        let mut all = Learner::new("all");
        for (replica, act) in acts {
            let replica = &mut replicas[replica];
            match act {
                Act::See(case) => for learner in [replica, &mut all] {
                    learner.gathered().learn(&case.features(), case.time);
                },
                Act::Irregular(at) => for learner in [replica, &mut all] {
                    learner.gathered().irregular("eve", "x", begin() + hours(at.into()));
                },
                Act::Write => write(replica, &mut status, false),
                Act::LoseAnswer => write(replica, &mut status, true),
                Act::Conflict => {
                    // What it merged is not what is kept.
                    write(replica, &mut status.clone(), true);
                }
            }
        }
        for replica in &mut replicas {
            // The first may be the one whose answer was lost.
            write(replica, &mut status, false);
            write(replica, &mut status, false);
        }
        let mut once = ProfileStatus::default();
        write(&mut all, &mut once, false);
        prop_assert_eq!(content(&status), content(&once));
    }

    #[test]
    fn the_order_of_deltas_makes_no_difference_at_the_limit_either(
        (cases, order) in prop::collection::vec(any_case(), 1..20).prop_flat_map(|cases| {
            let order: Vec<_> = (0..cases.len()).collect();
            (Just(cases), Just(order).prop_shuffle())
        }),
        criteria in 1usize..30,
    ) {
        let retention = Retention { criteria, ..Retention::default() };
        let merge = |order: &mut dyn Iterator<Item = usize>| {
            let mut status = ProfileStatus::default();
            for at in order {
                let mut learner = Learner::new(&at.to_string());
                learner.gathered().learn(&cases[at].features(), cases[at].time);
                status.merge(learner.next_delta().unwrap(), &retention, now());
            }
            status
        };
        let (one, other) = (merge(&mut (0..cases.len())), merge(&mut order.into_iter()));
        let kept = |status: &ProfileStatus| -> Vec<_> {
            let of = |learned: &Learned| (learned.criterion.clone(), learned.sighting.last_seen);
            status.learned.iter().map(of).collect()
        };
        prop_assert_eq!(kept(&one), kept(&other));
        prop_assert!(one.learned.len() <= criteria);
        prop_assert_eq!((one.samples, one.since), (other.samples, other.since));
    }

    #[test]
    fn a_delta_is_merged_once(cases in prop::collection::vec(any_case(), 1..10), times in 2usize..5) {
        let mut learner = Learner::new("a");
        for case in &cases {
            learner.gathered().learn(&case.features(), case.time);
        }
        let mut status = ProfileStatus::default();
        let delta = learner.next_delta().unwrap();
        prop_assert_eq!(status.merge(delta, &Retention::default(), now()), Merged::Added);
        let before = status.clone();
        for _ in 0..times {
            prop_assert_eq!(status.merge(delta, &Retention::default(), now()), Merged::Before);
        }
        prop_assert_eq!(status, before);
    }
}

#[test]
fn it_says_when_and_by_how_many_each_criterion_was_learned() {
    let at = |user, hour| Case {
        time: begin() + hours(hour),
        ..case(user, "psql -l")
    };
    let status = learned(&[at("bob", 5), at("alice", 0), at("alice", 48)]);
    let psql = status
        .learned
        .iter()
        .find(|learned| learned.criterion.programs == ["psql"])
        .unwrap();
    assert_eq!(psql.sighting.first_seen, begin());
    assert_eq!(psql.sighting.last_seen, begin() + hours(48));
    assert_eq!(
        (psql.sighting.samples, psql.sighting.actors.count()),
        (3, 2)
    );
    assert_eq!((status.samples, status.since), (3, Some(begin())));
}

#[test]
fn what_was_not_seen_for_long_vanishes() {
    let mut status = learned(&[case("alice", "psql -l")]);
    let retention = Retention {
        days: 30,
        ..Retention::default()
    };
    let mut learner = Learner::new("later");
    let later = Case {
        time: begin() + hours(24 * 31),
        ..case("alice", "cat x")
    };
    learner.gathered().learn(&later.features(), later.time);
    status.merge(learner.next_delta().unwrap(), &retention, later.time);
    assert!(
        status
            .learned
            .iter()
            .any(|learned| learned.criterion.users == ["alice"])
    );
    assert!(
        !status
            .learned
            .iter()
            .any(|learned| learned.criterion.programs == ["psql"])
    );
    assert_eq!(status.dropped, 0, "that is for want of room");
}

#[test]
fn what_has_no_room_is_dropped_and_counted() {
    let mut learner = Learner::new("a");
    let long = "g".repeat(200);
    for user in 0..300 {
        let groups: Vec<_> = (0..32).map(|group| format!("{long}{group}")).collect();
        let user = format!("user-{user}");
        let seen = SeenInteraction {
            user: &user,
            groups: &groups,
            kind: Kind::Exec,
            container: None,
            argv: &[],
            tty: false,
            stdin: false,
            time: begin(),
            rate: 1,
        };
        learner.gathered().learn(&Features::of(&seen), begin());
    }
    let mut status = ProfileStatus::default();
    status.merge(learner.next_delta().unwrap(), &Retention::default(), now());
    assert!(status.learned.len() < MAX_LEARNED);
    assert!(status.dropped > 0);
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(
        (MAX_LEARNED_BYTES / 2..MAX_LEARNED_BYTES + 4096).contains(&bytes),
        "{bytes}"
    );
}

#[test]
fn what_is_learned_from_a_misused_pod_is_taken_back() {
    let mut status = learned(&history());
    let found = begin() + hours(24 * 10);
    let evil = Case {
        time: found - hours(2),
        ..case("alice", "nc x")
    };
    let mut learner = Learner::new("a");
    learner.gathered().learn(&evil.features(), evil.time);
    write(&mut learner, &mut status, false);
    let has_nc = |status: &ProfileStatus| {
        status
            .learned
            .iter()
            .any(|learned| learned.criterion.programs == ["nc"])
    };
    assert!(has_nc(&status));
    learner.gathered().distrust(Period {
        from: found - hours(3),
        until: found,
    });
    write(&mut learner, &mut status, false);
    assert!(!has_nc(&status));
    assert!(
        status
            .learned
            .iter()
            .any(|learned| learned.criterion.programs == ["psql"])
    );
    // Another replica saw it, too, and comes late.
    let mut other = Learner::new("b");
    other.gathered().learn(&evil.features(), evil.time);
    write(&mut other, &mut status, false);
    assert!(!has_nc(&status));
}

#[test]
fn old_replicas_are_forgotten() {
    let mut status = ProfileStatus::default();
    for at in 0..40 {
        let mut learner = Learner::new(&format!("replica-{at:02}"));
        let case = case("alice", "ls");
        learner.gathered().learn(&case.features(), case.time);
        status.merge(
            learner.next_delta().unwrap(),
            &Retention::default(),
            begin() + hours(at),
        );
    }
    assert_eq!(status.writers.len(), MAX_WRITERS);
    assert_eq!(status.writers.last().unwrap().name, "replica-39");
    assert_eq!(status.samples, 40);
}

#[test]
fn what_is_said_of_the_last_irregular_interaction_is_bounded() {
    let mut learner = Learner::new("a");
    assert!(learner.next_delta().is_none());
    learner
        .gathered()
        .irregular(&"\u{1b}".repeat(4000), &"x".repeat(9000), begin());
    learner.gathered().irregular("old", "y", begin() - hours(1));
    let mut status = ProfileStatus::default();
    write(&mut learner, &mut status, false);
    let last = status.last_irregular.unwrap();
    assert!(last.user.len() <= 512 && last.reason.len() <= 1024 && last.time == begin());
    assert_eq!((status.irregular, status.samples), (2, 0));
}

#[test]
fn a_report_says_since_when_it_holds() {
    let at = |second| begin() + SignedDuration::from_secs(second);
    let mut status = learned(&history());
    let enough = Thresholds::default();
    status.report(None, None, 1, &enough, at(0));
    assert_eq!(status.stage, Stage::Learning);
    status.report(None, None, 1, &enough, at(0) + hours(24 * 14));
    assert_eq!(status.stage, Stage::Normal);
    status.report(Some(Stage::Vulnerable), None, 2, &enough, at(2));
    let accepted = status.accepted().unwrap();
    assert_eq!(status.stage, Stage::Vulnerable);
    assert_eq!(
        (
            accepted.observed_generation,
            accepted.last_transition_time.clone()
        ),
        (2, at(0).to_string())
    );
    status.report(None, Some("spec: no"), 3, &enough, at(3));
    let accepted = status.accepted().unwrap();
    assert_eq!(
        [
            &accepted.status,
            &accepted.message,
            &accepted.last_transition_time
        ],
        ["False", "spec: no", &at(3).to_string()]
    );
}

#[test]
fn a_misused_pod_makes_a_young_profile_begin_anew() {
    let mut status = learned(&history());
    let mut learner = Learner::new("a");
    let period = Period {
        from: begin() - hours(1),
        until: begin() + hours(24 * 10),
    };
    learner.gathered().distrust(period);
    write(&mut learner, &mut status, false);
    // With the samples alone, everything would be irregular from now on.
    assert_eq!((status.samples, status.people, status.since), (0, 0, None));
    assert!(status.learned.is_empty());
    let stage = |at| status.derived_stage(None, &Thresholds::default(), at);
    assert_eq!(stage(period.until), Stage::Misused);
    assert_eq!(stage(period.until + MISUSED), Stage::Learning);
}

#[test]
fn two_misused_pods_do_not_take_back_what_was_learned_between_them() {
    let mut status = ProfileStatus::default();
    let mut learner = Learner::new("a");
    for hour in [0, 100, 200, 300] {
        let case = Case {
            time: begin() + hours(hour),
            ..case(
                "alice",
                ["ls", "nc x", "cat x", "curl x"][hour as usize / 100],
            )
        };
        learner.gathered().learn(&case.features(), case.time);
    }
    for hour in [100, 300] {
        let at = begin() + hours(hour);
        learner.gathered().distrust(Period {
            from: at - hours(1),
            until: at + hours(1),
        });
    }
    write(&mut learner, &mut status, false);
    let programs: Vec<_> = status
        .learned
        .iter()
        .filter(|learned| learned.criterion.arguments.is_empty())
        .flat_map(|learned| learned.criterion.programs.clone())
        .collect();
    assert_eq!(programs, ["cat", "ls"]);
    assert_eq!(status.samples, 4);
}
