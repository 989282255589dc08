//! Interactions that are exempt while the pod has no controller, or a Job as its controller.

use curfew_core::{Action, Exemption};

use super::*;

#[test]
fn a_controller_starts_the_timer_and_that_is_told_once() {
    let mut bench = Bench::new();
    let mut exempt = shell(0);
    exempt.terms.action = Action::Record;
    exempt.terms.exemption = Some(Exemption::Unmanaged);
    let seen = |version, bare| {
        let view = marked(&record("u", exempt.clone()), version);
        seen_as(view, |pod| pod.bare = bare)
    };
    bench.told(|node, now, out| {
        node.seen(seen(1, true), now, out);
        node.learned(pod_id("u"), exempt.clone(), now, out);
    });
    assert_eq!(bench.state("u"), "recorded");
    bench.tick_at(5000);
    let told = bench.told(|node, now, out| node.seen(seen(2, false), now, out));
    let [
        DomainEvent::Interaction(NewInteraction {
            known,
            source,
            eviction_time,
            ..
        }),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        (*source, *eviction_time),
        (Source::Controller, Some(at(5600)))
    );
    assert!(known.has_lost_its_exemption());
    assert_eq!(bench.node.take_dirty().len(), 1);
    // Whoever takes the controller away again changes nothing by that.
    let told = bench.told(|node, now, out| node.seen(seen(3, true), now, out));
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(bench.tick_at(5600), [evict("u")]);
}

#[test]
fn a_pod_that_its_job_leaves_behind_gets_its_timer() {
    let mut bench = Bench::new();
    let mut exempt = shell(0);
    exempt.terms.action = Action::Record;
    exempt.terms.exemption = Some(Exemption::Completing);
    let seen = |version, of_job: bool| {
        let view = marked(&record("u", exempt.clone()), version);
        seen_as(view, |pod| (pod.bare, pod.of_job) = (!of_job, of_job))
    };
    bench.told(|node, now, out| {
        node.seen(seen(1, true), now, out);
        node.learned(pod_id("u"), exempt.clone(), now, out);
    });
    assert_eq!(bench.state("u"), "recorded");
    bench.tick_at(5000);
    assert_eq!(bench.state("u"), "recorded");
    let told = bench.told(|node, now, out| node.seen(seen(2, false), now, out));
    assert!(
        matches!(&told[..], [DomainEvent::Interaction(NewInteraction { eviction_time, .. })] if *eviction_time == Some(at(5600))),
        "{told:?}"
    );
}
