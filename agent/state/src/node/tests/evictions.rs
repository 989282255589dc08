//! When a pod is asked to go, and in which order.

use curfew_core::Ending;

use super::*;

#[test]
fn evicts_at_the_deadline_and_not_before() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(599), []);
    assert_eq!(bench.tick_at(600), [evict("u")]);
    assert_eq!(bench.state("u"), "due");
    assert_eq!(bench.tick_at(700), [], "asked once");
    let told = bench.told(|node, now, out| node.evicted("u", EvictionOutcome::Accepted, now, out));
    assert!(matches!(told[..], [DomainEvent::Evicted(_)]));
    assert_eq!(bench.state("u"), "terminating");
    assert_eq!(bench.tick_at(9000), [], "a long grace period is no failure");
}

#[test]
fn a_clock_that_jumps_back_evicts_nothing_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(600), [evict("u")]);
    assert_eq!(bench.tick_at(100), []);
    assert_eq!(bench.tick_at(600), []);
}

#[test]
fn the_lowest_priority_goes_first_and_few_at_a_time() {
    let mut bench = Bench::with(Vec::new(), 2);
    for (uid, priority) in [("high", 100), ("low", -5), ("mid", 7)] {
        bench.touched(uid);
        let view = seen_as(marked(&record(uid, shell(0)), 3), |pod| {
            pod.priority = priority
        });
        bench.actions(|node, now, out| node.seen(view, now, out));
    }
    assert_eq!(bench.tick_at(600), [evict("low"), evict("mid")]);
    bench.answer("mid", EvictionOutcome::Accepted);
    assert_eq!(bench.tick_at(600), [evict("high")]);
    assert_eq!(bench.tick_at(601), [], "two are open");
}

#[test]
fn a_pod_that_is_gone_before_the_answer_is_told_all_the_same() {
    let mut bench = Bench::with(Vec::new(), 1);
    bench.touched("a");
    bench.touched("b");
    assert_eq!(bench.tick_at(600), [evict("a")]);
    let actions = bench.actions(|node, _, out| node.gone("a", out));
    assert_eq!(actions, [], "the request is still open");
    let told = bench.answer("a", EvictionOutcome::Accepted);
    assert!(matches!(&told[..], [DomainEvent::Evicted(_)]), "{told:?}");
    assert_eq!(bench.state("a"), "none");
    assert_eq!(bench.tick_at(600), [evict("b")]);
}

#[test]
fn a_pod_that_is_there_though_it_was_said_to_be_gone_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(600), [evict("u")]);
    let actions =
        bench.actions(|node, now, out| node.evicted("u", EvictionOutcome::Gone, now, out));
    assert_eq!(actions, [AgentAction::LookUp(pod_id("u"))]);
    bench.actions(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 2), now, out);
    });
    assert_eq!(bench.tick_at(605), []);
    assert_eq!(bench.tick_at(610), [evict("u")]);
}

#[test]
fn a_pod_that_cannot_usefully_be_evicted_is_left() {
    for (view, state) in [
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| pod.mirror = true),
            "protected",
        ),
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| pod.finished = true),
            "finished",
        ),
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| {
                pod.terminating = true
            }),
            "terminating",
        ),
    ] {
        let mut bench = Bench::new();
        bench.actions(|node, now, out| {
            node.learned(pod_id("u"), shell(0), now, out);
            node.seen(view, now, out);
        });
        assert_eq!(bench.tick_at(600), [], "{state}");
        assert_eq!(bench.state("u"), state);
    }
}

#[test]
fn while_one_request_tries_the_server_there_is_nothing_to_look_at() {
    let mut bench = Bench::new();
    for uid in ["a", "b", "c"] {
        bench.touched(uid);
    }
    assert_eq!(bench.tick_at(600).len(), 3);
    for uid in ["a", "b", "c"] {
        bench.answer(uid, EvictionOutcome::unavailable("broken".into()));
    }
    // They wait for their turn, then for the breaker, which opens for one of them.
    assert_eq!(bench.tick_at(660).len(), 1);
    assert_eq!(bench.node.next_deadline(), None);
    bench.answer("a", EvictionOutcome::unavailable("broken".into()));
    assert!(bench.node.next_deadline().is_some());
}

#[test]
fn of_a_pod_that_ends_it_is_told_that_it_does() {
    for expected in [Ending::Terminating, Ending::Finished] {
        let mut bench = Bench::new();
        let view = seen_as(marked(&record("u", shell(0)), 2), |pod| {
            pod.terminating = expected == Ending::Terminating;
            pod.finished = expected == Ending::Finished;
        });
        bench.told(|node, now, out| node.seen(view, now, out));
        let told = bench.told(|node, now, out| {
            node.learned(pod_id("u"), shell(30), now, out);
        });
        assert!(
            matches!(&told[..], [DomainEvent::Interaction(NewInteraction { ending: Some(ending), .. })] if *ending == expected),
            "{told:?}"
        );
    }
}
