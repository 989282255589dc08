//! When pods are looked at, what waits for that, and what is released.

use curfew_core::{
    Drift, Enforcement, Exemption, Kind, OnEvidence, RecordedInteraction, State, Verdict,
    WhenChanged, WhenUnchanged,
};

use super::*;
use crate::event::{DriftFound, PodReleased};

fn looking(records: Vec<Record>) -> Bench {
    let settings = NodeSettings {
        evidence: Evidence::On,
        ..Bench::settings(5)
    };
    Bench::of(records, settings)
}

/// A shell that leaves the pod in peace if nothing has changed.
fn released(second: i64) -> RecordedInteraction {
    let mut known = shell(second);
    known.terms.on_evidence.when_unchanged = WhenUnchanged::Release;
    known
}

fn look(since: i64) -> AgentAction {
    AgentAction::Look {
        pod: pod_id("u"),
        since: at(since),
    }
}

impl Bench {
    /// A pod on which this was done, which shows it.
    fn did(known: RecordedInteraction) -> Self {
        let mut bench = looking(Vec::new());
        bench.now = known.interaction.time;
        bench.does(known);
        bench
    }

    /// It is done now.
    fn does(&mut self, known: RecordedInteraction) -> Vec<AgentAction> {
        self.actions(|node, now, out| {
            let record = node.learned(pod_id("u"), known, now, out);
            node.seen(marked(&record, 2), now, out);
        })
    }

    fn looked(&mut self, drift: Drift) -> Decisions {
        self.decide(|node, now, out| {
            node.looked("u", drift, now, out);
            node.tick(now, out);
        })
    }
}

/// That an eviction is asked for, with whatever it says.
fn evicts(actions: &[AgentAction]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, AgentAction::Evict(_)))
}

fn clean(second: i64) -> Drift {
    Drift::new(at(second))
}

fn changed(second: i64) -> Drift {
    Drift {
        added: 1,
        ..clean(second)
    }
    .bounded()
}

#[test]
fn a_pod_is_looked_at_once_before_its_eviction_which_waits_for_the_answer() {
    let mut bench = Bench::did(shell(0));
    assert_eq!(bench.node.next_deadline(), Some(at(595)));
    assert_eq!(bench.tick_at(595), [look(0)]);
    assert_eq!(bench.tick_at(599), []);
    // Asked late, it is waited for all the same, but only where a release may follow.
    let mut never = Bench::did(shell(0));
    assert_eq!(never.tick_at(700), [look(0), evict("u")]);
    let mut late = Bench::did(released(0));
    assert_eq!(late.tick_at(700), [look(0)]);
    assert_eq!(late.tick_at(704), []);
    assert_eq!(late.state("u"), "due");
    assert_eq!(late.tick_at(705), [evict("u")], "nobody answered");
    // And asked in time for no longer than until then.
    assert_eq!(bench.tick_at(600), [evict("u")]);
    let told = bench.looked(clean(596)).events;
    assert!(matches!(told[..], [DomainEvent::Drifted(_)]), "{told:?}");
    bench.answer("u", no_room());
    assert_eq!(bench.state("u"), "blocked", "it is too late for a release");
}

#[test]
fn without_evidence_nobody_looks() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| {
        node.learned(pod_id("u"), released(0), now, out);
        node.seen(marked(&record("u", released(0)), 2), now, out);
    });
    assert_eq!(bench.tick_at(599), []);
    assert!(evicts(&bench.tick_at(600)));
}

#[test]
fn a_pod_that_has_not_changed_is_released_at_its_deadline() {
    let mut bench = Bench::did(released(0));
    assert_eq!(bench.tick_at(595), [look(0)]);
    let decided = bench.looked(clean(595));
    let [AgentAction::Patch(change)] = &decided.actions[..] else {
        panic!("{decided:?}");
    };
    assert_eq!(
        change.json()["metadata"]["annotations"][metadata::DRIFT],
        "Unchanged"
    );
    assert_eq!(
        decided.events,
        [DomainEvent::Drifted(DriftFound {
            pod: pod_id("u"),
            id: "request-0".into(),
            drift: clean(595),
            before: None,
            eviction_time: Some(at(600)),
            dry_run: false,
        })]
    );
    assert_eq!(bench.state("u"), "scheduled", "its time has not come");
    assert_eq!(bench.node.next_deadline(), Some(at(600)));
    bench.node.take_dirty();
    bench.now = at(600);
    let decided = bench.decide(|node, now, out| node.tick(now, out));
    assert_eq!(
        decided.events,
        [DomainEvent::Released(PodReleased {
            pod: pod_id("u"),
            decisive: Some(released(0)),
            ids: "request-0".into(),
            drift: clean(595),
            eviction_time: at(600),
            dry_run: false,
        })]
    );
    assert_eq!(decided.actions, [], "its patch is under way");
    assert_eq!(bench.state("u"), State::Released.as_str());
    assert_eq!(bench.stored("u").released, Some(at(0)));
    assert!(bench.node.is_dirty());
    assert_eq!(bench.tick_at(10_000), []);
    // The next one starts a timer as always.
    bench.does(released(10_000));
    assert_eq!(bench.stored("u").eviction_time(), Some(at(10_600)));
    assert_eq!(bench.state("u"), "scheduled");
    assert_eq!(bench.tick_at(10_595), [look(0)], "since the first of all");
}

#[test]
fn a_dry_run_is_released_as_one() {
    let mut known = released(0);
    known.terms.enforcement = Enforcement::DryRun;
    let mut bench = Bench::did(known);
    bench.tick_at(595);
    bench.looked(clean(595));
    bench.now = at(600);
    let told = bench.told(|node, now, out| node.tick(now, out));
    let [DomainEvent::Released(PodReleased { dry_run: true, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(bench.state("u"), "released");
}

#[test]
fn a_change_is_told_once_and_evicts_at_once_where_a_policy_says_so() {
    let mut known = released(0);
    known.terms.on_evidence.when_changed = WhenChanged::Now;
    let mut bench = Bench::did(known);
    bench.now = at(100);
    let decided = bench.looked(clean(99));
    assert!(matches!(decided.events[..], [DomainEvent::Drifted(_)]));
    let decided = bench.looked(clean(100));
    assert_eq!(decided.events, [], "nothing else than before");
    let decided = bench.looked(changed(100));
    let [DomainEvent::Drifted(found)] = &decided.events[..] else {
        panic!("{decided:?}");
    };
    assert_eq!(
        (found.before, found.eviction_time),
        (Some(Verdict::Unchanged), Some(at(100)))
    );
    // Nobody has to look again before it.
    assert!(evicts(&decided.actions), "{decided:?}");
    let again = bench.looked(changed(101));
    assert_eq!(again.events, []);
}

#[test]
fn a_hold_keeps_a_changed_pod() {
    let mut known = shell(0);
    known.terms.on_evidence.when_changed = WhenChanged::Now;
    let mut bench = Bench::did(known.clone());
    let wished = &[
        (metadata::HOLD, "evidence"),
        (metadata::HOLD_REQUESTER, "bob"),
    ];
    let held = marked_with(&record("u", known), 3, wished);
    bench.actions(|node, now, out| node.seen(held, now, out));
    bench.now = at(100);
    assert!(!evicts(&bench.looked(changed(100)).actions));
    assert_eq!(bench.stored("u").eviction_time(), Some(at(7300)));
    assert_eq!(bench.state("u"), "held");
}

#[test]
fn an_order_waits_for_no_look() {
    let mut bench = Bench::did(released(0));
    bench.tick_at(595);
    bench.looked(clean(595));
    bench.now = at(599);
    let wished = &[
        (metadata::EVICT_NOW, "incident"),
        (metadata::EVICT_NOW_REQUESTER, "bob"),
    ];
    let ordered = marked_with(&record("u", released(0)), 3, wished);
    let actions = bench.actions(|node, now, out| {
        node.seen(ordered, now, out);
        node.tick(now, out);
    });
    assert!(evicts(&actions), "{actions:?}");
    assert_eq!(bench.stored("u").released, None);
}

#[test]
fn another_eviction_time_is_another_look() {
    let mut bench = Bench::did(released(0));
    bench.tick_at(595);
    bench.looked(clean(595));
    let wished = &[
        (metadata::EXTENSION, "5m"),
        (metadata::EXTENSION_REQUESTER, "bob"),
    ];
    let extended = marked_with(&record("u", released(0)), 3, wished);
    bench.actions(|node, now, out| node.seen(extended, now, out));
    assert_eq!(bench.tick_at(600), []);
    assert_eq!(bench.tick_at(895), [look(0)]);
    // The look before does not count any more.
    assert_eq!(bench.tick_at(899), []);
    assert!(evicts(&bench.tick_at(900)));
}

#[test]
fn an_answer_from_before_the_clock_went_back_is_none() {
    let mut bench = Bench::did(released(0));
    bench.tick_at(595);
    bench.looked(clean(595));
    bench.tick_at(500);
    assert_eq!(bench.tick_at(595), [look(0)]);
    // Another one of the same kind: it began later than now.
    bench.looked(clean(700));
    assert!(evicts(&bench.tick_at(600)));
    assert_eq!(bench.stored("u").released, None);
}

#[test]
fn changes_count_from_before_a_clock_that_is_ahead() {
    let mut bench = looking(Vec::new());
    bench.does(released(3));
    let stored = bench.stored("u").clone();
    let mut again = looking(vec![stored.clone()]);
    // A restarted agent knows enough to release it.
    again.actions(|node, now, out| node.seen(marked(&stored, 2), now, out));
    assert_eq!(again.tick_at(598), [look(0)]);
    again.looked(clean(598));
    again.tick_at(603);
    assert_eq!(again.state("u"), "released");
}

#[test]
fn where_there_is_no_room_for_a_record_nothing_is_released() {
    let mut bench = looking(Vec::new());
    bench.actions(|node, now, out| {
        let record = node.learned(pod_id("u"), released(0), now, out);
        node.seen(shortened(&record, 2, 400), now, out);
    });
    bench.tick_at(595);
    bench.looked(clean(595));
    assert!(evicts(&bench.tick_at(600)));
}

/// One thing that speaks against a release.
type Doubt = (&'static str, fn(&mut Case));

/// All that a release depends on.
struct Case {
    first: RecordedInteraction,
    /// Done at its own time, if at all.
    second: Option<RecordedInteraction>,
    looks: Vec<Drift>,
    /// What the node's clock is ahead of the webhook's.
    ahead: i64,
}

impl Case {
    fn each(&mut self, change: fn(&mut Drift)) {
        self.looks.iter_mut().for_each(change);
    }
}

const DOUBTS: [Doubt; 20] = [
    ("changed", |case| case.looks.push(changed(596))),
    ("unknown", |case| {
        case.each(|look| look.verdict = Verdict::Unknown)
    }),
    ("an open session", |case| {
        case.each(|look| look.sessions = 1)
    }),
    ("something runs", |case| case.each(|look| look.running = 1)),
    ("something is gone", |case| {
        case.each(|look| look.deleted = 1)
    }),
    ("not all was seen", |case| {
        case.each(|look| look.unseen.push("volumes".into()));
    }),
    ("it had changed before", |case| {
        case.looks.insert(0, changed(300))
    }),
    ("an earlier look", |case| case.looks = vec![clean(594)]),
    ("no look", |case| case.looks.clear()),
    ("a look in the future", |case| {
        case.looks = vec![clean(1000)]
    }),
    ("the terms", |case| {
        case.first.terms.on_evidence = OnEvidence::default();
    }),
    ("other terms", |case| {
        case.second = Some(shell(100));
    }),
    ("an attach", |case| {
        case.first.interaction.kind = Kind::Attach
    }),
    ("a debug container", |case| {
        let mut debug = released(100);
        debug.interaction.kind = Kind::Debug;
        case.second = Some(debug);
    }),
    ("a port-forward with a timer", |case| {
        let mut forward = released(100);
        forward.interaction.kind = Kind::Portforward;
        case.second = Some(forward);
    }),
    ("a later interaction", |case| {
        case.second = Some(released(597))
    }),
    ("a session that may yet begin", |case| {
        case.second = Some(released(570));
    }),
    ("a harmless one while it was looked", |case| {
        let mut harmless = shell(594);
        harmless.terms.action = curfew_core::Action::Record;
        case.second = Some(harmless);
    }),
    ("one that lacks only a controller", |case| {
        let mut exempt = released(100);
        exempt.terms.action = curfew_core::Action::Record;
        exempt.terms.exemption = Some(Exemption::Unmanaged);
        case.second = Some(exempt);
    }),
    ("a clock that is behind", |case| {
        case.second = Some(released(100));
        case.ahead = 480;
    }),
];

/// Whether the pod is released; else it is evicted.
fn is_released(doubts: &[&Doubt]) -> bool {
    let mut case = Case {
        first: released(0),
        second: None,
        looks: vec![clean(595)],
        ahead: 0,
    };
    for (_, doubt) in doubts {
        doubt(&mut case);
    }
    let mut bench = looking(Vec::new());
    let bare = |view| seen_as(view, |pod| pod.bare = true);
    let does = |bench: &mut Bench, known: RecordedInteraction| {
        bench.actions(|node, now, out| {
            let record = node.learned(pod_id("u"), known, now, out);
            node.seen(bare(marked(&record, 2)), now, out);
        });
    };
    does(&mut bench, case.first);
    let mut evicted = false;
    for second in 1..=610 {
        evicted |= evicts(&bench.tick_at(second));
        let is_now =
            |known: &mut RecordedInteraction| known.interaction.time == at(second - case.ahead);
        if let Some(known) = case.second.take_if(is_now) {
            does(&mut bench, known);
        }
        for drift in case.looks.extract_if(.., |drift| {
            drift.time == at(second) || (drift.time > at(700) && second == 596)
        }) {
            let decided = bench.looked(drift);
            evicted |= evicts(&decided.actions);
        }
    }
    let released = bench.stored("u").is_released();
    assert_ne!(released, evicted, "one of both");
    released
}

#[test]
fn in_any_doubt_a_pod_is_evicted() {
    assert!(is_released(&[]));
    for doubt in &DOUBTS {
        assert!(!is_released(&[doubt]), "{}", doubt.0);
    }
    // With another clock, the others would happen at another time.
    let (_, pairs) = DOUBTS.split_last().unwrap();
    for doubt in pairs {
        for other in pairs {
            assert!(!is_released(&[doubt, other]), "{}, {}", doubt.0, other.0);
        }
    }
}
