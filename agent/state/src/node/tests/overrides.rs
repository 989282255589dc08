//! Extensions and holds that people set on their pods.

use super::*;
use crate::node::reconcile::MAX_EARLY;
use curfew_core::metadata::{EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER};
use serde_json::json;

fn with_overrides(version: u32, overrides: &[(&str, &str)]) -> PodView {
    marked_with(&record("u", shell(0)), version, overrides)
}

/// The eviction of a pod with these overrides.
fn evict_with(seen: serde_json::Value) -> AgentAction {
    AgentAction::Evict(EvictionRequest {
        pod: pod_id("u"),
        id: "request-0".into(),
        seen: Some(serde_json::from_value(seen).unwrap()),
        dry_run: false,
    })
}

#[test]
fn an_extension_moves_the_timer_and_is_told() {
    let mut bench = Bench::new();
    bench.touched("u");
    let extended = with_overrides(3, &[(EXTENSION, "30m"), (EXTENSION_REQUESTER, "bob")]);
    let told = bench.told(|node, now, out| node.seen(extended, now, out));
    assert!(
        matches!(&told[..], [DomainEvent::Extended(ExtensionChange { consequence: Consequence::EvictionAt(then), .. })]
            if *then == at(2400)),
        "{told:?}"
    );
    assert_eq!(bench.node.next_deadline(), Some(at(2400)));
    assert_eq!(bench.node.take_dirty().len(), 1, "remembered");
}

#[test]
fn an_extension_that_uses_up_all_there_is_says_so() {
    let mut bench = Bench::new();
    bench.touched("u");
    for (version, length, uses_up) in [(3, "59m", false), (4, "1h", true), (5, "2h", false)] {
        let extended = with_overrides(version, &[(EXTENSION, length)]);
        let told = bench.told(|node, now, out| node.seen(extended, now, out));
        assert!(
            matches!(&told[..], [DomainEvent::Extended(ExtensionChange { maximum, .. })] if *maximum == uses_up),
            "{length}: {told:?}"
        );
    }
}

#[test]
fn an_extension_counts_as_far_as_it_is_allowed_and_not_when_it_is_too_late() {
    let mut bench = Bench::new();
    bench.touched("u");
    let too_long = with_overrides(3, &[(EXTENSION, "2h")]);
    let told = bench.told(|node, now, out| node.seen(too_long, now, out));
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Extended(ExtensionChange {
                consequence: Consequence::TooLong { at: then, .. },
                ..
            })] if *then == at(4200)
        ),
        "{told:?}"
    );
    assert_eq!(
        bench.tick_at(4200),
        [evict_with(json!({"extension": "2h"}))]
    );
    bench.answer("u", EvictionOutcome::Accepted);
    let late = with_overrides(4, &[(EXTENSION, "30m")]);
    let told = bench.told(|node, now, out| node.seen(late, now, out));
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Extended(ExtensionChange {
                consequence: Consequence::TooLate,
                ..
            })]
        ),
        "{told:?}"
    );
}

#[test]
fn a_strict_interaction_cuts_an_extension_that_stands_and_that_is_told() {
    let mut bench = Bench::new();
    bench.touched("u");
    let extended = with_overrides(3, &[(EXTENSION, "30m"), (EXTENSION_REQUESTER, "bob")]);
    bench.told(|node, now, out| node.seen(extended, now, out));
    let mut strict = shell(10);
    strict.terms.max_extension = Duration::ZERO;
    let told = bench.told(|node, now, out| {
        node.learned(pod_id("u"), strict, now, out);
    });
    assert!(
        matches!(
            &told[..],
            [
                DomainEvent::Interaction(NewInteraction { eviction_time: Some(end), .. }),
                DomainEvent::Extended(ExtensionChange {
                    consequence: Consequence::TooLong { longest, at: then },
                    ..
                })
            ] if (*end, *then, longest.as_secs()) == (at(610), at(610), 10)
        ),
        "{told:?}"
    );
    assert_eq!(
        bench.tick_at(610),
        [evict_with(json!({"extension": "30m"}))]
    );
}

#[test]
fn an_extension_frees_a_blocked_pod_from_its_queue() {
    let mut bench = Bench::blocked(&["u"]);
    let extended = with_overrides(3, &[(EXTENSION, "30m")]);
    let actions = bench.actions(|node, now, out| node.seen(extended, now, out));
    assert!(
        actions.contains(&AgentAction::UnwatchBudget(web())),
        "{actions:?}"
    );
    assert_eq!(bench.state("u"), "scheduled");
    assert_eq!(
        bench.tick_at(2400),
        [evict_with(json!({"extension": "30m"}))]
    );
}

#[test]
fn a_held_pod_is_kept_until_it_is_released_or_its_hold_ends() {
    let mut bench = Bench::new();
    bench.touched("u");
    let held = with_overrides(3, &[(HOLD, "evidence"), (HOLD_REQUESTER, "bob")]);
    let told = bench.told(|node, now, out| node.seen(held, now, out));
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Held(HoldChange { hold: Some(_), .. })]
        ),
        "{told:?}"
    );
    bench.actions(|node, now, out| node.patched("u", PatchOutcome::Done, now, out));
    assert!(
        bench
            .tick_at(601)
            .iter()
            .all(|action| matches!(action, AgentAction::Patch(_)))
    );
    assert_eq!(bench.state("u"), "held");

    let told = bench.told(|node, now, out| node.seen(with_overrides(4, &[]), now, out));
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Held(HoldChange { hold: None, .. })]
        ),
        "{told:?}"
    );
    assert_eq!(
        bench.tick_at(601),
        [evict("u")],
        "its deadline counts again at once"
    );

    let mut bench = Bench::new();
    bench.touched("u");
    bench.actions(|node, now, out| node.seen(with_overrides(3, &[(HOLD, "evidence")]), now, out));
    assert_eq!(bench.tick_at(600 + 7199).len(), 0);
    assert_eq!(
        bench.tick_at(600 + 7200),
        [evict_with(json!({"hold": "evidence"}))]
    );
}

#[test]
fn a_release_that_nobody_watched_counts_though_the_store_opens_late() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| node.seen(with_overrides(3, &[]), now, out));
    let mut stored = record("u", shell(0));
    stored.hold = Some(curfew_core::record::Hold {
        reason: "evidence".into(),
        requester: "bob".into(),
    });
    bench.actions(|node, now, out| node.restore(vec![stored], now, out));
    assert_eq!(bench.tick_at(600), [evict("u")]);
}

fn early() -> EvictionOutcome {
    EvictionOutcome::DeadlineMoved("the eviction of pod shop/cart-1 was moved".into())
}

#[test]
fn what_is_asked_for_too_early_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(600), [evict("u")]);
    let actions = bench.actions(|node, now, out| node.evicted("u", early(), now, out));
    assert_eq!(actions, [AgentAction::LookUp(pod_id("u"))]);
    assert_eq!(bench.tick_at(610), []);
    let extended = with_overrides(3, &[(EXTENSION, "30m")]);
    let told = bench.told(|node, now, out| node.answered(extended, now, out));
    assert!(matches!(&told[..], [DomainEvent::Extended(_)]), "{told:?}");
    assert_eq!(bench.state("u"), "scheduled");
    assert_eq!(
        bench.tick_at(2400),
        [evict_with(json!({"extension": "30m"}))]
    );
}

#[test]
fn who_changes_the_time_again_and_again_keeps_no_pod_for_ever() {
    let mut bench = Bench::new();
    bench.touched("u");
    let mut asked = 0;
    for second in 600..700 {
        let actions = bench.tick_at(second);
        let [AgentAction::Evict(EvictionRequest { seen, .. })] = &actions[..] else {
            continue;
        };
        asked += 1;
        if seen.is_none() {
            break;
        }
        bench.answer("u", early());
        // Whatever it was, it is taken back before the look.
        let pod = with_overrides(second as u32, &[]);
        bench.actions(|node, now, out| node.answered(pod, now, out));
    }
    assert_eq!(asked, MAX_EARLY + 1);
}
