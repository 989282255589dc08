//! An interaction that turns out to be irregular by what its session left behind.

use super::*;

/// The shell of second 0, with what a webhook says of it later.
fn irregular(ttl: u64) -> RecordedInteraction {
    let mut known = shell(0);
    known.terms.ttl = Duration::from_secs(ttl);
    known.irregular = Some("no session of a person ever left `nc` running there".into());
    known
}

fn tells_of_leftovers(events: &[DomainEvent], eviction_time: Timestamp) {
    let [DomainEvent::Interaction(new)] = events else {
        panic!("{events:?}");
    };
    assert_eq!(
        (new.source, new.eviction_time, &new.known.irregular),
        (
            Source::Leftovers,
            Some(eviction_time),
            &irregular(0).irregular
        )
    );
}

#[test]
fn it_goes_by_the_stricter_terms_and_counts_once() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.now = at(60);
    let says = |node: &mut NodeState, now, out: &mut Decisions| {
        node.learned(pod_id("u"), irregular(0), now, out);
        node.tick(now, out);
    };
    let decided = bench.decide(says);
    tells_of_leftovers(&decided.events, at(0));
    assert!(decided.actions.contains(&evict("u")), "{decided:?}");
    let patches = |action: &&AgentAction| matches!(action, AgentAction::Patch(_));
    assert_eq!(decided.actions.iter().filter(patches).count(), 1);
    // The other replica says so, too, and the watch still shows the pod as it was.
    assert_eq!(bench.decide(says), Decisions::default());
    let stale = marked(&record("u", shell(0)), 3);
    let decided = bench.decide(|node, now, out| node.seen(stale, now, out));
    assert_eq!(decided.events, []);
    let stored = bench.stored("u");
    assert_eq!(stored.interactions(), 1);
    assert_eq!(stored.eviction_time(), Some(at(0)));
}

#[test]
fn laxer_terms_only_tell_that_it_is_irregular() {
    let mut bench = Bench::new();
    bench.touched("u");
    let told = bench.told(|node, now, out| {
        node.learned(pod_id("u"), irregular(3600), now, out);
    });
    tells_of_leftovers(&told, at(600));
    assert_eq!(bench.stored("u").eviction_time(), Some(at(600)));
}

#[test]
fn it_may_stand_on_the_pod_where_the_agent_could_not_be_told() {
    let mut bench = Bench::new();
    bench.touched("u");
    let stricter = marked(&record("u", irregular(60)), 3);
    let told = bench.told(|node, now, out| node.seen(stricter, now, out));
    tells_of_leftovers(&told, at(60));
    let stored = bench.stored("u");
    assert_eq!(
        (stored.interactions(), stored.eviction_time()),
        (1, Some(at(60)))
    );
}
