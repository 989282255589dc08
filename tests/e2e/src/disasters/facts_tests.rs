//! A judge that finds nothing must be able to find something: each test changes one fact.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A disaster that was over at 100, with a pod that was due at 20.
fn good() -> Facts {
    Facts {
        back: Some(at(100)),
        due: vec![Due {
            pod: "due".into(),
            deadline: at(20),
            evicted: vec![at(110)],
            gone: true,
            interaction_told: true,
            eviction_told: true,
            leaving: false,
        }],
        counted: vec![Counted {
            pod: "door".into(),
            admitted: 3,
            recorded: 3,
        }],
        fresh: vec![Fresh {
            pod: "fresh".into(),
            ttl: Some("27s".into()),
        }],
        fresh_ttl: "27s".into(),
        in_force: Some(Duration::from_millis(300)),
        told: vec![("a metric".into(), true)],
        noise: BTreeMap::from([(
            "agent",
            Noise {
                requests: 200,
                peak: MOST_REQUESTS,
                lines: 480,
                pods: 2,
            },
        )]),
        took: Duration::from_secs(120),
        ..Facts::default()
    }
}

fn found(change: impl FnOnce(&mut Facts)) -> Vec<Violation> {
    let mut facts = good();
    change(&mut facts);
    judge(&facts).into_iter().map(|(sort, _)| sort).collect()
}

#[test]
fn a_disaster_that_was_survived_is_right() {
    assert_eq!(judge(&good()), []);
    assert_eq!(latest(&good()), Some(SignedDuration::from_secs(10)));
    assert!(found(|facts| facts.due[0].evicted = vec![at(115)]).is_empty());
    // While the API server is away nobody can evict; what was evicted before it went was in time.
    assert!(found(|facts| facts.due[0].evicted = vec![at(20)]).is_empty());
    // Recorded but not admitted: it was denied later, or its answer was lost.
    assert!(found(|facts| facts.counted[0].recorded = 5).is_empty());
}

#[test]
fn a_pod_that_stays_or_vanishes_otherwise_is_lost() {
    let stays = |facts: &mut Facts| {
        facts.due[0].gone = false;
        facts.due[0].evicted.clear();
    };
    assert_eq!(found(stays), [Violation::Lost]);
    assert_eq!(
        found(|facts| facts.due[0].evicted.clear()),
        [Violation::Lost]
    );
}

#[test]
fn times_of_evictions_are_judged() {
    assert_eq!(
        found(|facts| facts.due[0].evicted = vec![at(116)]),
        [Violation::Late]
    );
    assert_eq!(
        found(|facts| facts.due[0].evicted = vec![at(19)]),
        [Violation::Early]
    );
    assert_eq!(
        found(|facts| facts.due[0].evicted = vec![at(101), at(102)]),
        [Violation::Twice]
    );
    // Without a return the deadline counts.
    assert_eq!(found(|facts| facts.back = None), [Violation::Late]);
}

#[test]
fn pods_that_others_take_away_need_not_be_evicted() {
    let leaves = |facts: &mut Facts| {
        facts.due[0].leaving = true;
        facts.due[0].evicted.clear();
        facts.due[0].interaction_told = false;
    };
    assert!(found(leaves).is_empty());
    let stays = |facts: &mut Facts| {
        leaves(facts);
        facts.due[0].gone = false;
    };
    assert_eq!(found(stays), [Violation::Lost]);
}

#[test]
fn an_exec_that_nobody_recorded_is_lost() {
    assert_eq!(
        found(|facts| facts.counted[0].recorded = 2),
        [Violation::Lost]
    );
}

#[test]
fn a_policy_that_is_not_in_force_is_told() {
    assert_eq!(
        found(|facts| facts.fresh[0].ttl = Some("20s".into())),
        [Violation::Policy]
    );
    assert_eq!(
        found(|facts| facts.fresh[0].ttl = None),
        [Violation::Policy]
    );
    assert_eq!(found(|facts| facts.in_force = None), [Violation::Policy]);
    assert_eq!(
        found(|facts| facts.in_force = Some(Duration::from_secs(3))),
        [Violation::Policy]
    );
}

#[test]
fn silence_is_told() {
    assert_eq!(found(|facts| facts.told[0].1 = false), [Violation::Untold]);
    assert_eq!(
        found(|facts| facts.due[0].eviction_told = false),
        [Violation::Untold]
    );
    assert_eq!(
        found(|facts| facts.due[0].interaction_told = false),
        [Violation::Untold]
    );
}

#[test]
fn storms_are_counted() {
    let requests = |facts: &mut Facts| {
        facts.noise.entry("agent").or_default().peak = MOST_REQUESTS + 1;
    };
    assert_eq!(found(requests), [Violation::Storm]);
    let lines = |facts: &mut Facts| {
        facts.noise.entry("agent").or_default().lines = 481;
    };
    assert_eq!(found(lines), [Violation::Storm]);
}

#[test]
fn a_wrong_pod_and_what_a_disaster_found_itself_are_told() {
    assert_eq!(
        found(|facts| facts.missing.push("bystander".into())),
        [Violation::WrongPod]
    );
    assert_eq!(
        found(|facts| facts.found.push("a Deny is back".into())),
        [Violation::Own]
    );
}
