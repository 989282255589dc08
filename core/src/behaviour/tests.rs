//! Tests of the whole module: what is learned, and what is decided with it.

mod adoption;
mod criteria;
mod decisions;
mod learning;
mod left;

use std::hash::RandomState;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::interaction::Kind;

/// An interaction of a test.
#[derive(Debug, Clone)]
struct Case {
    user: &'static str,
    groups: Vec<String>,
    kind: Kind,
    container: Option<&'static str>,
    argv: Vec<String>,
    streams: (bool, bool),
    time: Timestamp,
    rate: u32,
}

/// A Monday, 10:00.
fn begin() -> Timestamp {
    "2026-11-02T10:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// One `kubectl exec -it` by a person, of this command.
fn case(user: &'static str, command: &str) -> Case {
    Case {
        user,
        groups: vec!["system:authenticated".to_owned(), "sre".to_owned()],
        kind: Kind::Exec,
        container: Some("web"),
        argv: shlex::split(command).unwrap(),
        streams: (true, true),
        time: begin(),
        rate: 1,
    }
}

impl Case {
    fn features(&self) -> Features {
        Features::of(&SeenInteraction {
            user: self.user,
            groups: &self.groups,
            kind: self.kind,
            container: self.container,
            argv: &self.argv,
            tty: self.streams.0,
            stdin: self.streams.1,
            time: self.time,
            rate: self.rate,
        })
    }
}

/// What was learned of these interactions.
fn learned(cases: &[Case]) -> ProfileStatus {
    let mut learner = Learner::new("one");
    for case in cases {
        learner.gathered().learn(&case.features(), case.time);
    }
    let mut status = ProfileStatus::default();
    let now = cases
        .iter()
        .map(|case| case.time)
        .max()
        .unwrap_or_else(begin);
    let delta = learner.next_delta().unwrap();
    assert_eq!(
        status.merge(delta, &Retention::default(), now),
        Merged::Added
    );
    status
}

fn index(spec: &ProfileSpec, status: &ProfileStatus) -> ProfileIndex<RandomState> {
    ProfileIndex::new(spec, status, Timestamp::MIN, RandomState::new())
}

/// Two people and a machine over ten days, on weekdays at ten.
fn history() -> Vec<Case> {
    let mut cases = Vec::new();
    for day in [0, 1, 2, 3, 4, 7, 8, 9, 10] {
        let at = |case: Case| Case {
            time: begin() + hours(24 * day),
            ..case
        };
        cases.push(at(case("alice", "psql -c 'select 1'")));
        cases.push(at(case("alice", "cat /app/config.yaml")));
        cases.push(at(case("bob", "sh")));
        cases.push(at(case("bob", "sh -c 'cat /app/log | grep ERROR'")));
        cases.push(at(Case {
            groups: Vec::new(),
            streams: (false, false),
            ..case(
                "system:serviceaccount:ops:backup",
                "pg_dump -h localhost shop",
            )
        }));
    }
    // The machine comes at other times, too.
    let machine = cases[4].clone();
    cases.extend((0..21).map(|hour| Case {
        time: begin() + hours(hour),
        ..machine.clone()
    }));
    cases
}
