//! What sessions left behind, as the pod tells it.

use super::*;
use crate::{
    drift::{Drift, Verdict},
    left,
    metadata::LEFT,
};

#[test]
fn what_sessions_left_stands_on_the_pod() {
    let mut told = record(&[shell(0, "alice", "a")]);
    let left = left::parse("running nc, dropped /tmp/xmrig");
    told.found(Drift {
        left: left.clone(),
        added: 2,
        ..Drift::new(at(10))
    });
    let mut marks = marks_of(&told);
    assert_eq!(marks[LEFT], "running nc, dropped /tmp/xmrig");
    let again = Record::from_marks(pod(), metadata::read(&pod(), &marks).unwrap());
    assert_eq!(again.unwrap().drift.unwrap().left, left);
    for garbage in ["", "nc", "running nc, running nc", "\u{1b}[2J"] {
        marks.insert(LEFT.into(), garbage.into());
        let marks = metadata::read(&pod(), &marks).unwrap();
        let drift = marks.evidence.drift.unwrap();
        assert_eq!((drift.left.len(), drift.verdict), (0, Verdict::Changed));
    }
    told.found(Drift::new(at(20)));
    assert!(!marks_of(&told).contains_key(LEFT));
}

/// It may be what somebody wants to be overlooked.
#[test]
fn the_exec_is_told_by_its_request_whatever_came_after_it() {
    for kind in [Kind::Portforward, Kind::Attach, Kind::Bypass] {
        let mut other = known(9, "bob", Action::Record, 600, "b");
        other.interaction.kind = kind;
        let mut told = record(&[shell(0, "alice", "a"), other]);
        let requests = |told: &Record| {
            let marks = metadata::read(&pod(), &marks_of(told)).unwrap();
            let known = marks.known.iter();
            let requests = known.map(|known| known.interaction.request.clone());
            (requests.collect::<Vec<_>>(), marks.interactions())
        };
        assert_eq!(requests(&told), (vec![String::new(), "b".to_owned()], 2));
        told.found(Drift {
            left: left::parse("running nc"),
            ..Drift::new(at(10))
        });
        let all = ["a", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(requests(&told), (all, 2), "{kind}");
    }
}
