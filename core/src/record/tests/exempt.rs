//! Interactions that are exempt while the pod has no controller, or a Job as its controller.

use super::*;
use crate::terms::Exemption;

/// One that is exempt while nothing would replace the pod.
fn exempt(second: i64, ttl: u64, request: &str) -> RecordedInteraction {
    let mut known = known(second, "alice", Action::Record, ttl, request);
    known.terms.exemption = Some(Exemption::Unmanaged);
    known
}

/// One that is exempt while a Job controls the pod.
fn completing(second: i64, ttl: u64, request: &str) -> RecordedInteraction {
    let mut known = exempt(second, ttl, request);
    known.terms.exemption = Some(Exemption::Completing);
    known
}

/// The pod is of a Deployment, which ends every exemption that can end.
fn adopt(record: &mut Record, now: Timestamp) -> Vec<RecordedInteraction> {
    record.end_exemption(false, false, now)
}

fn rebuilt(record: &Record) -> Record {
    let marks = metadata::read(&pod(), &marks_of(record)).unwrap();
    Record::from_marks(pod(), marks).unwrap()
}

#[test]
fn their_time_begins_when_the_pod_gets_a_controller() {
    let mut record = record(&[exempt(0, 600, "a")]);
    assert_eq!(
        (record.deadline(), record.exemption()),
        (None, Some(Exemption::Unmanaged))
    );
    let before = record.clone();
    assert_eq!(adopt(&mut record, at(86_400)).len(), 1);
    assert_eq!(record.deadline(), Some(at(87_000)));
    // That it has one is seen again, and the store or the pod tells of what was.
    assert!(adopt(&mut record, at(90_000)).is_empty());
    record.join(before.clone());
    record.absorb(metadata::read(&pod(), &marks_of(&before)).unwrap());
    assert_eq!(
        (record.deadline(), record.interactions()),
        (Some(at(87_000)), 1)
    );
    assert!(adopt(&mut record, at(90_000)).is_empty());
    // Nor is it lost with the store.
    assert_eq!(rebuilt(&record).deadline(), Some(at(87_000)));
}

#[test]
fn each_exemption_ends_with_what_it_depends_on() {
    // Bare, and of a Job.
    for (bare, of_job, expected) in [
        (true, false, vec![Exemption::Completing]),
        (false, true, vec![Exemption::Unmanaged]),
        (
            false,
            false,
            vec![Exemption::Unmanaged, Exemption::Completing],
        ),
    ] {
        let mut record = record(&[exempt(0, 600, "a"), completing(1, 600, "b")]);
        assert_eq!(record.exemption(), Some(Exemption::Completing));
        let started = record.end_exemption(bare, of_job, at(100));
        let ended: Vec<_> = started
            .iter()
            .filter_map(|known| known.terms.exemption)
            .collect();
        assert_eq!(ended, expected);
        assert!(
            started
                .iter()
                .all(RecordedInteraction::has_lost_its_exemption)
        );
        assert_eq!(record.deadline(), Some(at(700)));
    }
}

#[test]
fn what_is_recorded_for_another_reason_starts_no_timer() {
    let mut harmless = known(0, "alice", Action::Record, 600, "a");
    harmless.terms.exemption = Some(Exemption::Harmless);
    let recorded = known(1, "bob", Action::Record, 600, "b");
    let mut record = record(&[harmless, recorded]);
    assert!(adopt(&mut record, at(60)).is_empty());
    assert_eq!(record.deadline(), None);
}

#[test]
fn a_running_timer_is_not_moved_later() {
    let mut record = record(&[shell(0, "bob", "b"), exempt(1, 60, "a")]);
    let before = record.deadline();
    adopt(&mut record, at(300));
    assert_eq!(record.deadline(), Some(at(360)).min(before));
}

proptest! {
    /// After a loss of the store the pod's marks are enough to start the same timer.
    #[test]
    fn marks_tell_what_a_controller_would_change(
        seconds in prop::collection::vec((0i64..100, 1u64..900, 0u8..5), 1..30),
        adopted in 0i64..500,
        (bare, of_job) in prop::sample::select(vec![(true, false), (false, true), (false, false)]),
    ) {
        let all: Vec<_> = seconds
            .iter()
            .enumerate()
            .map(|(n, (second, ttl, sort))| match sort {
                0 => exempt(*second, *ttl, &n.to_string()),
                4 => {
                    let mut known = exempt(*second, *ttl, &n.to_string());
                    known.terms.enforcement = Enforcement::DryRun;
                    known
                }
                1 => completing(*second, *ttl, &n.to_string()),
                2 => known(*second, "bob", Action::Record, *ttl, &n.to_string()),
                _ => {
                    let mut known = known(*second, "carol", Action::Record, *ttl, &n.to_string());
                    known.terms.exemption = Some(Exemption::Harmless);
                    known
                }
            })
            .collect();
        let mut kept = record(&all);
        let mut rebuilt = rebuilt(&kept);
        kept.end_exemption(bare, of_job, at(100 + adopted));
        rebuilt.end_exemption(bare, of_job, at(100 + adopted));
        prop_assert_eq!(rebuilt.deadline(), kept.deadline());
        prop_assert_eq!(rebuilt.is_dry_run(), kept.is_dry_run());
        let enforced = all.iter().any(|known| {
            let ends = match known.terms.exemption {
                Some(Exemption::Unmanaged) => !bare,
                Some(Exemption::Completing) => !of_job,
                _ => false,
            };
            ends && known.terms.enforcement == Enforcement::Enforce
        });
        prop_assert_eq!(kept.is_dry_run(), kept.deadline().is_some() && !enforced);
        let marks = metadata::read(&pod(), &marks_of(&kept)).unwrap();
        kept.absorb(marks);
        prop_assert_eq!(rebuilt.deadline(), kept.deadline());
    }
}
