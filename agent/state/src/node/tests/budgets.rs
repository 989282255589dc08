//! Disruption budgets that stand in the way.

use super::*;

#[test]
fn a_refusal_is_told_once_its_budget_is_known_and_then_as_a_series() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.tick_at(600);
    let decided = bench.decide(|node, now, out| node.evicted("u", no_room(), now, out));
    assert_eq!(decided.actions, [AgentAction::WatchBudget(web())]);
    assert_eq!(decided.events, []);
    assert_eq!(bench.state("u"), "blocked");
    let Decisions {
        actions,
        events: told,
    } = bench.budget(room(0));
    assert_eq!(actions, []);
    assert!(
        matches!(&told[..], [DomainEvent::Blocked(block)]
            if block.why == no_room() && block.times == 1 && !block.policy_would_free),
        "{told:?}"
    );
    assert_eq!(bench.tick_at(603), [evict("u")]);
    let told = bench.answer("u", no_room());
    assert!(matches!(&told[..], [DomainEvent::StillBlocked(block)] if block.times == 2));
    assert_eq!(bench.tick_at(610), [evict("u")]);
    assert_eq!(bench.answer("u", no_room()), [], "people know");
    assert_eq!(bench.tick_at(910), [evict("u")]);
    let told = bench.answer("u", no_room());
    assert!(matches!(&told[..], [DomainEvent::StillBlocked(block)] if block.times == 4));
}

#[test]
fn a_refusal_is_told_though_the_budget_cannot_be_watched() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.tick_at(600);
    assert_eq!(bench.answer("u", no_room()), []);
    bench.tick_at(603);
    let told = bench.answer("u", no_room());
    assert!(matches!(&told[..], [DomainEvent::Blocked(_)]), "{told:?}");
    let nameless = EvictionOutcome::Budget {
        name: None,
        why: String::new(),
    };
    bench.tick_at(610);
    let told = bench.answer("u", nameless);
    assert!(matches!(&told[..], [DomainEvent::Blocked(_)]), "{told:?}");
}

#[test]
fn what_only_passes_in_between_is_not_told_anew() {
    let mut bench = Bench::blocked(&["u"]);
    bench.tick_at(603);
    assert_eq!(
        bench.answer("u", EvictionOutcome::unavailable("broken".into())),
        []
    );
    assert_eq!(bench.state("u"), "retrying");
    bench.tick_at(620);
    let told = bench.answer("u", no_room());
    assert!(
        matches!(&told[..], [DomainEvent::StillBlocked(_)]),
        "{told:?}"
    );
}

#[test]
fn as_many_ask_as_have_room_and_the_lowest_priority_first() {
    let mut bench = Bench::new();
    for (uid, priority) in [("a", 3), ("b", 1), ("c", 2)] {
        bench.touched(uid);
        let view = seen_as(marked(&record(uid, shell(0)), 3), |pod| {
            pod.priority = priority
        });
        bench.actions(|node, now, out| node.seen(view, now, out));
    }
    assert_eq!(bench.tick_at(600).len(), 3);
    for uid in ["a", "b", "c"] {
        bench.answer(uid, no_room());
    }
    bench.budget(room(0));
    assert_eq!(bench.budget(room(1)).actions, [evict("b")]);
    bench.answer("b", EvictionOutcome::Accepted);
    assert_eq!(bench.budget(room(2)).actions, [evict("c"), evict("a")]);
}

#[test]
fn a_budget_that_people_changed_or_removed_lets_all_ask() {
    for changed in [
        None,
        Some(BudgetView {
            generation: 2,
            ..room(0).unwrap()
        }),
    ] {
        let mut bench = Bench::blocked(&["a", "b"]);
        assert_eq!(bench.budget(changed).actions, [evict("a"), evict("b")]);
    }
}

#[test]
fn a_stale_budget_is_not_believed() {
    let mut bench = Bench::blocked(&["u"]);
    let stale = room(1).map(|view| BudgetView {
        current: false,
        ..view
    });
    assert_eq!(bench.budget(stale), Decisions::default());
}

#[test]
fn a_pod_that_is_not_ready_gets_advice_and_goes_when_the_policy_lets_it() {
    let mut bench = Bench::new();
    bench.touched("u");
    let unready = seen_as(marked(&record("u", shell(0)), 3), |pod| pod.ready = false);
    bench.actions(|node, now, out| node.seen(unready, now, out));
    bench.tick_at(600);
    bench.answer("u", no_room());
    let Decisions {
        actions,
        events: told,
    } = bench.budget(room(0));
    assert_eq!(actions, []);
    assert!(
        matches!(&told[..], [DomainEvent::Blocked(block)] if block.policy_would_free),
        "{told:?}"
    );
    let healthy = room(0).map(|view| BudgetView { healthy: 2, ..view });
    assert_eq!(bench.budget(healthy).actions, [evict("u")]);
}

#[test]
fn a_watch_ends_with_the_last_who_waits() {
    let mut bench = Bench::new();
    bench.touched("a");
    bench.touched("b");
    bench.tick_at(600);
    bench.answer("a", no_room());
    bench.answer("b", no_room());
    let actions = bench.actions(|node, _, out| node.gone("a", out));
    assert_eq!(actions, []);
    assert_eq!(bench.tick_at(603), [evict("b")]);
    let actions =
        bench.actions(|node, now, out| node.evicted("b", EvictionOutcome::Accepted, now, out));
    assert_eq!(actions, [AgentAction::UnwatchBudget(web())]);
}

#[test]
fn a_budget_that_never_yields_is_a_matter_of_its_own_and_told_once() {
    let mut bench = Bench::blocked(&["u"]);
    bench.tick_at(4199);
    let stuck = |told: Vec<DomainEvent>| {
        told.iter()
            .filter(|one| matches!(one, DomainEvent::Stuck(_)))
            .count()
    };
    assert_eq!(stuck(bench.answer("u", no_room())), 0);
    assert_eq!(bench.state("u"), "blocked");
    bench.tick_at(4300);
    assert_eq!(stuck(bench.answer("u", no_room())), 1);
    assert_eq!(bench.state("u"), "stuck");
    bench.tick_at(4400);
    assert_eq!(stuck(bench.answer("u", no_room())), 0);
}
