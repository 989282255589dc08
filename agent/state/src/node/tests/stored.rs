//! What the store knows and what stands on the pods, through restarts and losses.

use super::*;

#[test]
fn the_pods_metadata_alone_are_enough_after_a_loss_of_the_store() {
    let mut bench = Bench::new();
    let told = bench.told(|node, now, out| {
        node.seen(marked(&record("u", shell(0)), 2), now, out);
    });
    assert_eq!(told.len(), 1);
    assert_eq!(bench.node.take_dirty().len(), 1);
    assert_eq!(bench.tick_at(600), [evict("u")]);
}

#[test]
fn what_stands_on_the_pod_alone_stays_there_until_it_is_stored() {
    let mut all = record("u", shell(0));
    all.learn(shell(60));
    all.learn(shell(120));
    let told = metadata::annotations(&all, &[shell(60)]);
    let last = (
        metadata::LAST_INTERACTION,
        &*told[metadata::LAST_INTERACTION],
    );
    let mut bench = Bench::with(vec![record("u", shell(0))], 5);
    let pod = marked_with(&all, 2, &[last]);
    let state = pod.state.clone();
    let actions = bench.actions(|node, now, out| node.seen(pod, now, out));
    assert_eq!(actions, [], "the pod tells all there is");
    let written = bench.node.take_dirty();
    let stored = written["u"].as_ref().unwrap();
    assert!([0, 60, 120].iter().all(|at| stored.has(&shell(*at))));

    let actions = bench.actions(|node, _, _| node.not_written(written));
    assert_eq!(actions, []);
    bench.node.take_dirty();
    let actions = bench.actions(|node, now, out| node.written(now, out));
    let without = patch::wanted(bench.stored("u"), &[], &state).unwrap();
    assert_eq!(actions, [AgentAction::Patch(without)]);
}

#[test]
fn what_is_too_old_to_be_kept_does_not_keep_the_pod_telling_it() {
    let mut all = record("u", shell(0));
    all.learn(shell(60));
    all.learn(shell(90));
    let told = metadata::annotations(&all, &[shell(60)]);
    let last = (
        metadata::LAST_INTERACTION,
        &*told[metadata::LAST_INTERACTION],
    );
    let behind = marked_with(&all, 2, &[last]);
    let state = behind.state.clone();
    for at in 100..120 {
        all.learn(shell(at));
    }
    assert!(!all.has(&shell(60)));

    let mut bench = Bench::with(vec![all], 5);
    for times in 0..3 {
        let seen = behind.clone();
        let actions = bench.actions(|node, now, out| node.seen(seen, now, out));
        if times == 0 {
            let without = patch::wanted(bench.stored("u"), &[], &state).unwrap();
            assert_eq!(actions, [AgentAction::Patch(without)]);
            bench.node.take_dirty();
            bench.actions(|node, now, out| node.written(now, out));
        }
        assert!(bench.node.entries["u"].unsynced.is_empty());
        assert!(!bench.node.is_dirty(), "seen {times} times before");
    }
}

#[test]
fn what_was_stored_but_not_told_before_a_crash_is_told_after_it() {
    let mut known = record("u", shell(0));
    known.learn(shell(60));
    let mut bench = Bench::with(vec![known.clone()], 5);
    let half_told = marked(&record("u", shell(0)), 2);
    let told = bench.told(|node, now, out| node.seen(half_told, now, out));
    assert!(
        matches!(&told[..], [DomainEvent::Interaction(NewInteraction { known, .. })] if *known == shell(60)),
        "{told:?}"
    );

    let mut bench = Bench::with(vec![known.clone()], 5);
    let told = bench.told(|node, now, out| {
        node.seen(marked(&known, 2), now, out);
        node.seen(pod("u", 3), now, out);
    });
    assert_eq!(told, [], "all of it stood on the pod once");
}

#[test]
fn a_pod_that_went_while_the_agent_was_down_is_looked_up_and_dropped() {
    let mut bench = Bench::with(vec![record("old", shell(0)), record("there", shell(0))], 5);
    bench.actions(|node, now, out| node.seen(marked(&record("there", shell(0)), 2), now, out));
    let there = BTreeSet::from(["there".to_owned()]);
    let actions = bench.actions(|node, now, out| node.listed(&there, now, out));
    assert_eq!(actions, [AgentAction::LookUp(pod_id("old"))]);
    bench.actions(|node, _, out| node.gone("old", out));
    assert_eq!(bench.state("old"), "none");
    assert_eq!(bench.state("there"), "scheduled");
}

#[test]
fn a_record_ends_with_its_pod_and_not_with_another_of_its_name() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.node.take_dirty();
    bench.actions(|node, now, out| node.seen(pod("another", 9), now, out));
    assert_eq!(bench.tick_at(600), [evict("u")]);
    bench.actions(|node, _, out| node.gone("u", out));
    assert_eq!(bench.state("u"), "none");
    assert_eq!(bench.node.take_dirty(), Batch::from([("u".into(), None)]));
    assert_eq!(bench.tick_at(9000), []);
}
