//! A harness that finds nothing must be able to find something.

use super::*;
use crate::torture::book::{Attempt, Life};

const TTL: SignedDuration = SignedDuration::from_secs(20);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn life(created: i64, gone: Option<i64>) -> Life {
    Life {
        name: "slot-0".into(),
        slot: Some(0),
        created: at(created),
        ready: true,
        gone: gone.map(at),
        deleted: false,
        marked: false,
        told: 0,
    }
}

fn exec(began: i64, uid: &str) -> Attempt {
    Attempt {
        pod: "slot-0".into(),
        began: at(began),
        ended: at(began + 500),
        code: Some(0),
        reached: Some(uid.into()),
    }
}

fn eviction(asked: i64) -> Eviction {
    Eviction {
        pod: "slot-0".into(),
        asked: at(asked),
        user: agents::ACCOUNT.into(),
    }
}

fn found(lives: &[(&str, Life)], attempts: &[Attempt], granted: &[Eviction]) -> Vec<Violation> {
    let book = Book::default();
    {
        let mut pages = book.open();
        pages.lives = lives
            .iter()
            .map(|(uid, life)| ((*uid).to_owned(), life.clone()))
            .collect();
        pages.attempts = attempts.to_vec();
    }
    let verdict = reckon(&book, &Remembered::default(), granted, TTL, Duration::ZERO);
    verdict
        .violations
        .into_iter()
        .map(|(sort, _)| sort)
        .collect()
}

#[test]
fn an_eviction_on_time_is_right() {
    let lives = [("a", life(0, Some(25_300))), ("b", life(26_000, None))];
    assert!(found(&lives, &[exec(5_700, "a")], &[eviction(25_100)]).is_empty());
    // The audit log may lack the line.
    assert!(found(&lives, &[exec(5_700, "a")], &[]).is_empty());
}

#[test]
fn a_pod_that_stays_is_lost() {
    assert_eq!(
        found(&[("a", life(0, None))], &[exec(5_000, "a")], &[]),
        [Violation::Lost]
    );
    assert_eq!(found(&[], &[exec(5_000, "a")], &[]), [Violation::Lost]);
}

#[test]
fn an_exec_that_no_store_has_is_lost() {
    let book = Book::default();
    book.open().lives.insert("a".into(), life(0, Some(25_300)));
    book.open().attempts = vec![exec(5_000, "a"), exec(5_900, "a")];
    let mut remembered = Remembered {
        counts: BTreeMap::from([("a".to_owned(), 1)]),
        expected: vec!["a".to_owned()],
    };
    let verdict = |remembered: &Remembered| reckon(&book, remembered, &[], TTL, Duration::ZERO);
    assert_eq!(verdict(&remembered).count(Violation::Lost), 1);
    assert!(verdict(&remembered).passed().is_err());
    remembered.counts.insert("a".to_owned(), 2);
    assert!(verdict(&remembered).passed().is_ok());
}

#[test]
fn early_twice_and_the_wrong_one_are_told() {
    let lives = [("a", life(0, Some(25_300)))];
    let execs = [exec(5_700, "a")];
    assert_eq!(
        found(&lives, &execs, &[eviction(24_900)]),
        [Violation::Early]
    );
    assert_eq!(
        found(&lives, &execs, &[eviction(25_000), eviction(25_200)]),
        [Violation::Twice]
    );
    assert_eq!(
        found(&lives, &[], &[eviction(25_000)]),
        [Violation::WrongPod]
    );
    let foreign = Eviction {
        user: "someone".into(),
        ..eviction(25_000)
    };
    assert_eq!(found(&lives, &execs, &[foreign]), [Violation::WrongPod]);
    // The one that has the name afterwards, for what was done to the first.
    let lives = [
        ("a", life(0, Some(10_000))),
        ("b", life(11_000, Some(26_000))),
    ];
    let gone = found(&lives, &execs, &[eviction(25_500)]);
    assert!(gone.contains(&Violation::WrongPod), "{gone:?}");
}

#[test]
fn what_the_harness_deleted_was_not_evicted() {
    let mut deleted = life(0, Some(9_000));
    deleted.deleted = true;
    assert!(found(&[("a", deleted)], &[exec(5_700, "a")], &[]).is_empty());
}
