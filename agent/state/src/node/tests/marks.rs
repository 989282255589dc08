//! Metadata that cannot be written, or not all of them.

use super::*;

fn refused() -> PatchOutcome {
    PatchOutcome::Refused {
        code: 403,
        why: "denied the request".to_owned(),
    }
}

#[test]
fn a_patch_that_is_refused_waits_for_another_version_of_the_pod() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| {
        node.seen(pod("u", 1), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
        node.patched("u", refused(), now, out);
    });
    assert_eq!(bench.tick_at(100), []);
    let actions = bench.actions(|node, now, out| node.seen(pod("u", 2), now, out));
    assert!(matches!(actions[..], [AgentAction::Patch(_)]));
    assert_eq!(bench.tick_at(600), [evict("u")], "evicted all the same");
}

#[test]
fn that_it_is_refused_is_told_until_it_is_not() {
    let mut bench = Bench::new();
    let told = bench.told(|node, now, out| {
        node.seen(pod("u", 1), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
        node.patched("u", refused(), now, out);
        node.seen(pod("u", 2), now, out);
        node.patched("u", refused(), now, out);
    });
    let [
        DomainEvent::Interaction(_),
        DomainEvent::Unmarked(MarkRefusal {
            why, eviction_time, ..
        }),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        (why.as_str(), *eviction_time),
        ("denied the request", Some(at(600)))
    );
    let told = bench.told(|node, now, out| {
        node.patched("u", PatchOutcome::Done, now, out);
        node.seen(pod("u", 3), now, out);
        node.patched("u", refused(), now, out);
    });
    assert!(matches!(told[..], [DomainEvent::Unmarked(_)]), "{told:?}");
}

#[test]
fn a_pod_without_room_tells_what_it_can_and_is_left_alone_then() {
    let all = metadata::annotations(&record("u", shell(0)), &[]);
    for room in [0, 60, 150, 300] {
        let mut bench = Bench::new();
        let full = |version| seen_as(pod("u", version), |pod| pod.room = room);
        let actions = bench.actions(|node, now, out| {
            node.seen(full(1), now, out);
            node.learned(pod_id("u"), shell(0), now, out);
        });
        assert!(
            matches!(actions[..], [AgentAction::Patch(_)]),
            "{actions:?}"
        );
        let told = metadata::fitting(&record("u", shell(0)), &[], room as usize);
        assert!(told.len() < all.len());
        let marked = seen_as(full(2), |pod| {
            pod.labelled = true;
            pod.annotations_digest =
                crate::pod_view::digest(|key| told.get(key).map(String::as_str));
        });
        let actions = bench.actions(|node, now, out| {
            node.seen(marked, now, out);
            node.patched("u", PatchOutcome::Done, now, out);
        });
        assert!(actions.is_empty(), "{actions:?}");
        assert_eq!(bench.tick_at(600), [evict("u")]);
    }
}

#[test]
fn a_pod_that_tells_in_short_is_its_record() {
    let mut all = record("u", shell(0));
    all.learn(shell(60));
    let room = 300;
    let told_in_short = || shortened(&all, 1, room);
    assert!(told_in_short().marks.short.is_some());

    // After a restart: all of it was told before.
    let mut bench = Bench::with(vec![all.clone()], 5);
    let told = bench.told(|node, now, out| node.seen(told_in_short(), now, out));
    assert_eq!(told, []);
    assert!(!bench.node.is_dirty());

    // A webhook wrote it while no agent was there, or the store was lost.
    let mut bench = Bench::new();
    let actions = bench.actions(|node, now, out| node.seen(told_in_short(), now, out));
    assert_eq!(actions, [], "there is no room for more");
    assert!(bench.node.is_dirty(), "it is stored");
    assert_eq!(bench.stored("u").interactions(), 2);
    assert!(matches!(bench.tick_at(600)[..], [AgentAction::Evict(_)]));
}
