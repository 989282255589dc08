//! Pods whose timers only say what would happen.

use super::*;
use crate::testing::dry_shell;

fn ask(uid: &str) -> AgentAction {
    let AgentAction::Evict(EvictionRequest { pod, id, seen, .. }) = evict(uid) else {
        unreachable!("it evicts");
    };
    AgentAction::Evict(EvictionRequest {
        pod,
        id,
        seen,
        dry_run: true,
    })
}

impl Bench {
    /// A pod that was touched at second 0 on the terms of a dry run, and shows it.
    fn touched_dry(&mut self, uid: &str) {
        self.actions(|node, now, out| {
            node.learned(pod_id(uid), dry_shell(0), now, out);
            node.seen(marked(&record(uid, dry_shell(0)), 2), now, out);
        });
    }

    /// Somebody interacts with the pod, and it is enforced.
    fn enforced(&mut self, uid: &str, second: i64) {
        self.now = at(second);
        self.actions(|node, now, out| {
            node.learned(pod_id(uid), shell(second), now, out);
            node.tick(now, out);
        });
    }
}

fn is_would_go(told: &[DomainEvent]) -> bool {
    matches!(
        told,
        [DomainEvent::Evicted(PodEviction { dry_run: true, .. })]
    )
}

#[test]
fn the_api_server_is_asked_once_and_the_answer_stands() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    assert_eq!(bench.tick_at(599), []);
    assert_eq!(bench.state("u"), "scheduled");
    assert_eq!(bench.tick_at(600), [ask("u")]);
    assert_eq!(bench.state("u"), "due");
    bench.node.take_dirty();
    let told = bench.answer("u", EvictionOutcome::Accepted);
    assert!(is_would_go(&told), "{told:?}");
    assert_eq!(bench.state("u"), "would-go");
    assert!(bench.node.is_dirty(), "it outlives the process");
    for second in [601, 700, 90_000] {
        assert_eq!(bench.tick_at(second), []);
    }
    assert_eq!(bench.state("u"), "would-go");
    assert_eq!(bench.node.next_deadline(), None);
    // Nor does the next process ask.
    let mut next = Bench::with(vec![bench.stored("u").clone()], 5);
    next.actions(|node, now, out| node.seen(marked(&record("u", dry_shell(0)), 2), now, out));
    assert_eq!(next.tick_at(90_001), []);
    assert_eq!(next.state("u"), "would-go");
}

#[test]
fn a_budget_that_blocks_is_asked_again_until_the_pod_would_be_stuck() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    assert_eq!(bench.tick_at(600), [ask("u")]);
    let told = bench.answer("u", no_room());
    let [DomainEvent::Blocked(block)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(block.dry_run);
    assert_eq!(bench.state("u"), "blocked");
    // No watch of the budget: its room is for those that are evicted.
    let (mut asked, mut stuck) = (0, 0);
    for second in 601..20_000 {
        let actions = bench.tick_at(second);
        if actions == [ask("u")] {
            asked += 1;
            let told = bench.answer("u", no_room());
            let is_stuck = |event: &&DomainEvent| matches!(event, DomainEvent::Stuck(_));
            stuck += told.iter().filter(is_stuck).count();
        } else {
            assert_eq!(actions, []);
        }
    }
    // An hour at 22 to 30 seconds each.
    assert!((100..180).contains(&asked), "{asked}");
    assert_eq!((stuck, bench.state("u")), (1, "stuck"));
    assert_eq!(bench.node.next_deadline(), None);
}

#[test]
fn a_budget_that_has_room_again_lets_it_go() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    bench.tick_at(600);
    bench.answer("u", no_room());
    let second = (601..700).find(|second| bench.tick_at(*second) == [ask("u")]);
    assert!(second.is_some());
    assert!(is_would_go(&bench.answer("u", EvictionOutcome::Accepted)));
    assert_eq!(bench.state("u"), "would-go");
}

#[test]
fn what_was_foretold_does_not_keep_the_pod_once_it_is_enforced() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    bench.tick_at(600);
    bench.answer("u", EvictionOutcome::Accepted);
    bench.enforced("u", 1000);
    assert_eq!(bench.state("u"), "scheduled");
    let evictions = |actions: Vec<AgentAction>| {
        let is_real = |action: &AgentAction| {
            matches!(
                action,
                AgentAction::Evict(EvictionRequest { dry_run: false, .. })
            )
        };
        actions.iter().filter(|action| is_real(action)).count()
    };
    assert_eq!(evictions(bench.tick_at(1599)), 0);
    assert_eq!(evictions(bench.tick_at(1600)), 1);
    let told = bench.answer("u", EvictionOutcome::Accepted);
    assert!(matches!(
        told[..],
        [DomainEvent::Evicted(PodEviction { dry_run: false, .. })]
    ));
    assert_eq!(bench.state("u"), "terminating");
}

#[test]
fn an_answer_to_a_dry_run_is_none_to_an_eviction() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    assert_eq!(bench.tick_at(600), [ask("u")]);
    bench.enforced("u", 601);
    let told = bench.answer("u", EvictionOutcome::Accepted);
    assert_eq!(told, []);
    assert_eq!(bench.state("u"), "scheduled");
    let actions = bench.tick_at(1201);
    assert!(
        matches!(
            &actions[..],
            [AgentAction::Evict(EvictionRequest { dry_run: false, .. })]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_pause_after_a_refused_dry_run_delays_no_eviction() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    let mut second = 600;
    for _ in 0..8 {
        while bench.tick_at(second) != [ask("u")] {
            second += 1;
        }
        bench.answer("u", no_room());
    }
    // The next would be asked in 22 seconds at the earliest, and this one ends before.
    let mut short = shell(second);
    short.terms.ttl = Duration::from_secs(1);
    bench.actions(|node, now, out| {
        node.learned(pod_id("u"), short, now, out);
        node.tick(now, out);
    });
    let actions = bench.tick_at(second + 1);
    let evicts = |action: &AgentAction| {
        matches!(
            action,
            AgentAction::Evict(EvictionRequest { dry_run: false, .. })
        )
    };
    assert!(actions.iter().any(evicts), "{actions:?}");
}

#[test]
fn evictions_come_before_dry_runs() {
    let mut bench = Bench::with(Vec::new(), 1);
    bench.touched_dry("a");
    bench.touched("b");
    let view = seen_as(marked(&record("b", shell(0)), 3), |pod| pod.priority = 7);
    bench.actions(|node, now, out| node.seen(view, now, out));
    assert_eq!(bench.tick_at(600), [evict("b")]);
    bench.answer("b", EvictionOutcome::Accepted);
    assert_eq!(bench.tick_at(600), [ask("a")]);
}

#[test]
fn a_pod_that_went_by_itself_was_not_evicted() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    bench.tick_at(600);
    bench.actions(|node, _, out| node.gone("u", out));
    assert_eq!(bench.answer("u", EvictionOutcome::Accepted), []);
    bench.touched("v");
    assert_eq!(bench.tick_at(601), [evict("v")], "its place is free");
}

#[test]
fn what_is_not_evicted_is_not_overdue() {
    let mut bench = Bench::new();
    bench.touched_dry("u");
    bench.tick_at(600);
    bench.answer("u", no_room());
    bench.tick_at(700);
    let summary = crate::Summary::of(&bench.node, bench.now);
    assert_eq!(
        (summary.next, summary.longest_overdue),
        (None, Duration::ZERO)
    );
    assert!(summary.blocked_by.is_empty() && summary.states.is_empty());
    assert_eq!(summary.dry_runs.values().sum::<i64>(), 1);
}
