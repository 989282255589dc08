//! Orders to evict a pod now.

use super::*;
use crate::{pod_view::PodView, testing::dry_shell};
use curfew_core::metadata::{EVICT_NOW, EVICT_NOW_REQUESTER, EXTENSION, HOLD};

const ORDER: [(&str, &str); 2] = [(EVICT_NOW, "misused"), (EVICT_NOW_REQUESTER, "ann")];

/// The pod of this record, with an order and other overrides.
fn ordered(record: &Record, version: u32, overrides: &[(&str, &str)]) -> PodView {
    marked_with(record, version, &[&ORDER, overrides].concat())
}

/// A pod that nobody touched, with an order and other annotations.
fn untouched(version: u32, others: &[(&str, &str)]) -> PodView {
    let marks = ORDER.iter().chain(others);
    let marks = marks.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut view = pod("u", version);
    view.marks = metadata::read(&view.id, &marks.collect()).unwrap();
    view
}

/// The request for it, which nothing that people say later stops.
fn evict_now(request: &str) -> AgentAction {
    AgentAction::Evict(EvictionRequest {
        pod: pod_id("u"),
        id: request.into(),
        seen: None,
        dry_run: false,
    })
}

fn is_told(told: &[DomainEvent]) -> bool {
    matches!(
        told,
        [DomainEvent::EvictNow(EvictionOrder { order, consequence: Consequence::EvictionAt(_), .. })]
            if order.reason == "misused" && order.requester == "ann"
    )
}

fn evictions(actions: Vec<AgentAction>) -> Vec<AgentAction> {
    let is_eviction = |action: &AgentAction| matches!(action, AgentAction::Evict(_));
    actions.into_iter().filter(is_eviction).collect()
}

#[test]
fn a_touched_pod_is_evicted_at_once_and_that_is_told_once() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.now = at(60);
    let view = ordered(
        &record("u", shell(0)),
        3,
        &[(EXTENSION, "30m"), (HOLD, "evidence")],
    );
    let decided = bench.decide(|node, now, out| node.seen(view.clone(), now, out));
    let told = decided.events;
    assert!(
        told.iter()
            .any(|event| is_told(std::slice::from_ref(event))),
        "{told:?}"
    );
    assert!(bench.node.is_dirty(), "it outlives the process");
    assert_eq!(evictions(bench.tick_at(60)), [evict_now("request-0")]);
    assert_eq!(bench.state("u"), "due");
    assert_eq!(bench.stored("u").eviction_time(), Some(at(60)));
    let told = bench.told(|node, now, out| node.seen(view, now, out));
    assert_eq!(told, []);
    let told = bench.answer("u", EvictionOutcome::Accepted);
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Evicted(PodEviction {
                evict_now: Some(_),
                decisive: Some(_),
                ..
            })]
        ),
        "{told:?}"
    );
}

#[test]
fn a_pod_that_nobody_touched_is_marked_and_evicted() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| node.seen(pod("u", 1), now, out));
    bench.now = at(60);
    let decided = bench.decide(|node, now, out| node.seen(untouched(2, &[]), now, out));
    assert!(is_told(&decided.events), "{:?}", decided.events);
    let [AgentAction::Patch(patch)] = &decided.actions[..] else {
        panic!("{:?}", decided.actions);
    };
    let metadata = &patch.json()["metadata"];
    assert_eq!(metadata["labels"][metadata::LABEL], "true");
    let time = at(60).to_string();
    assert_eq!(metadata["annotations"][metadata::EVICTION_TIME], *time);
    assert!(metadata["annotations"][metadata::INTERACTOR].is_null());
    assert_eq!(evictions(bench.tick_at(60)), [evict_now("")]);
    // The order stands on the pod, where nobody can remove it, and not in the store.
    let batch = bench.node.take_dirty();
    assert_eq!(batch.into_values().collect::<Vec<_>>(), [None]);
    let told = bench.answer("u", EvictionOutcome::Accepted);
    assert!(
        matches!(
            &told[..],
            [DomainEvent::Evicted(PodEviction {
                evict_now: Some(_),
                decisive: None,
                ..
            })]
        ),
        "{told:?}"
    );
    bench.actions(|node, _, out| node.gone("u", out));
    assert_eq!(bench.node.rows(at(61)).count(), 0);
}

#[test]
fn another_agent_process_goes_on_and_tells_nothing_again() {
    let mut bench = Bench::new();
    bench.now = at(90);
    let marked = untouched(3, &[(metadata::EVICTION_TIME, &at(60).to_string())]);
    let told = bench.told(|node, now, out| node.seen(marked, now, out));
    assert_eq!(told, []);
    assert_eq!(evictions(bench.tick_at(90)), [evict_now("")]);
    assert_eq!(bench.stored_time("u"), Some(at(60)));
}

#[test]
fn a_budget_blocks_it_and_it_goes_when_there_is_room() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.now = at(60);
    bench.actions(|node, now, out| node.seen(ordered(&record("u", shell(0)), 3, &[]), now, out));
    assert_eq!(evictions(bench.tick_at(60)), [evict_now("request-0")]);
    bench.answer("u", no_room());
    bench.budget(room(0));
    assert_eq!(bench.state("u"), "blocked");
    // Neither an extension nor a hold takes it back.
    let view = ordered(
        &record("u", shell(0)),
        4,
        &[(EXTENSION, "1h"), (HOLD, "evidence")],
    );
    bench.actions(|node, now, out| node.seen(view, now, out));
    assert_eq!(bench.state("u"), "blocked");
    let decided = bench.budget(room(1));
    assert_eq!(evictions(decided.actions), [evict_now("request-0")]);
}

#[test]
fn a_clock_that_goes_back_puts_no_order_off() {
    let mut bench = Bench::new();
    bench.now = at(3600);
    bench.actions(|node, now, out| {
        node.tick(now, out);
        node.seen(untouched(2, &[]), now, out);
    });
    assert_eq!(evictions(bench.tick_at(60)), [evict_now("")]);
    assert_eq!(bench.stored_time("u"), Some(at(60)));
}

#[test]
fn an_order_ends_a_dry_run_and_is_enforced() {
    for second in [60, 700] {
        let mut bench = Bench::new();
        let record = record("u", dry_shell(0));
        bench.actions(|node, now, out| {
            node.learned(pod_id("u"), dry_shell(0), now, out);
            node.seen(marked(&record, 2), now, out);
        });
        bench.tick_at(600.min(second));
        if second > 600 {
            bench.answer("u", EvictionOutcome::Accepted);
            assert_eq!(bench.state("u"), "would-go");
        }
        bench.now = at(second);
        bench.actions(|node, now, out| node.seen(ordered(&record, 3, &[]), now, out));
        assert_eq!(
            evictions(bench.tick_at(second)),
            [evict_now("request-0")],
            "{second}"
        );
        assert_eq!(bench.stored_time("u"), Some(at(second)));
    }
}

#[test]
fn what_was_only_recorded_goes_when_that_is_ordered() {
    let mut recorded = shell(0);
    recorded.terms.action = curfew_core::Action::Record;
    recorded.terms.exemption = Some(curfew_core::Exemption::Protected);
    let record = record("u", recorded.clone());
    let mut bench = Bench::new();
    bench.actions(|node, now, out| {
        node.learned(pod_id("u"), recorded, now, out);
        node.seen(marked(&record, 2), now, out);
    });
    assert_eq!(bench.state("u"), "protected");
    bench.now = at(60);
    bench.actions(|node, now, out| node.seen(ordered(&record, 3, &[]), now, out));
    assert_eq!(evictions(bench.tick_at(60)), [evict_now("request-0")]);
}

impl Bench {
    fn stored_time(&self, uid: &str) -> Option<Timestamp> {
        self.stored(uid).eviction_time()
    }
}
