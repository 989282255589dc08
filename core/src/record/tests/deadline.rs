//! Interactions on different terms: the earliest of their deadlines counts.

use super::*;

/// A shell with so long to live, and so much of an extension and of a hold at the most.
fn on_terms(
    second: i64,
    request: &str,
    ttl: u64,
    max_extension: u64,
    max_hold: u64,
) -> RecordedInteraction {
    let mut known = known(second, request, Action::Evict, ttl, request);
    known.terms.max_extension = Duration::from_secs(max_extension);
    known.terms.max_hold = Duration::from_secs(max_hold);
    known
}

#[test]
fn lax_terms_shield_no_strict_ones() {
    // An attach that may be extended by eight hours, and then a shell that may not.
    let mut record = record(&[on_terms(0, "attach", 20, 28_800, 0)]);
    record.extension = extended(28_800);
    assert_eq!(record.deadline(), Some(at(28_820)));
    record.learn(on_terms(10, "shell", 30, 0, 0));
    assert_eq!(record.deadline(), Some(at(40)));
    assert_eq!(record.extension(), Duration::from_secs(20));
    assert_eq!(record.longest_extension(), Duration::from_secs(20));
    record.extension = None;
    assert_eq!(record.deadline(), Some(at(20)));
    assert_eq!(record.decisive().unwrap().interaction.user, "attach");
}

#[test]
fn the_metadata_tell_the_extension_that_every_interaction_allows() {
    let record = record(&[
        on_terms(0, "attach", 20, 28_800, 0),
        on_terms(10, "shell", 30, 0, 0),
    ]);
    assert_eq!(marks_of(&record)[metadata::MAX_EXTENSION], "20s");
}

#[test]
fn an_extension_counts_as_far_as_each_allows_it() {
    let mut record = record(&[on_terms(0, "a", 100, 50, 0), on_terms(0, "b", 100, 30, 0)]);
    for (by, end) in [(10, 110), (30, 130), (31, 130), (50, 130), (500, 130)] {
        record.extension = extended(by);
        assert_eq!(record.deadline(), Some(at(end)), "{by}");
        assert_eq!(record.is_extended_to_the_last(), by == 30, "{by}");
    }
}

#[test]
fn a_hold_ends_where_the_strictest_says() {
    let mut record = record(&[
        on_terms(0, "a", 100, 1000, 1000),
        on_terms(0, "b", 300, 0, 0),
    ]);
    assert_eq!(record.eviction_time(), Some(at(100)));
    record.hold = held("evidence");
    assert_eq!(record.deadline(), Some(at(100)));
    assert_eq!(record.eviction_time(), Some(at(300)));
    assert_eq!(record.longest_hold(), Duration::from_secs(200));
}

#[test]
fn what_was_touched_on_one_terms_tells_nothing_twice() {
    let record = record(&[shell(0, "alice", "a"), shell(50, "bob", "b")]);
    let last = &marks_of(&record)[metadata::LAST_INTERACTION];
    assert!(!last.contains("bounds"), "{last}");
}

#[test]
fn metadata_of_the_release_before_are_understood() {
    let mut marks = marks_of(&record(&[shell(0, "alice", "a"), shell(50, "bob", "b")]));
    let last = marks.get_mut(metadata::LAST_INTERACTION).unwrap();
    *last = r#"{"uid":"u-1","maxHold":"2h0m0s","interaction":{"time":"2027-01-15T08:00:50Z","kind":"exec",
        "user":"bob","container":"app","command":"sh","request":"b"},"terms":{"action":"Evict","ttl":"10m0s",
        "maxExtension":"1h0m0s","maxHold":"2h0m0s"}}"#
        .to_owned();
    let told = metadata::read(&pod(), &marks).unwrap();
    let mut rebuilt = Record::from_marks(pod(), told).unwrap();
    assert_eq!(rebuilt.deadline(), Some(at(600)));
    rebuilt.extension = extended(3600);
    rebuilt.hold = held("evidence");
    assert_eq!(rebuilt.eviction_time(), Some(at(600 + 3600 + 7200)));
}

/// By the definition, without any shortcut.
fn ends(all: &[RecordedInteraction], extension: u64, held: bool) -> Option<Timestamp> {
    let end = |known: &RecordedInteraction| {
        let by = Duration::from_secs(extension).min(known.terms.max_extension);
        let hold = if held {
            known.terms.max_hold
        } else {
            Duration::ZERO
        };
        later(known.interaction.time, known.terms.ttl + by + hold)
    };
    timed(all).into_iter().map(end).min()
}

/// Those whose timers count: where one is enforced, only those that are.
fn timed(all: &[RecordedInteraction]) -> Vec<&RecordedInteraction> {
    let (enforced, dry): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|known| known.terms.action == Action::Evict)
        .partition(|known| known.terms.enforcement == Enforcement::Enforce);
    if enforced.is_empty() { dry } else { enforced }
}

fn with(record: &Record, extension: u64, hold: bool) -> Record {
    Record {
        extension: extended(extension).filter(|_| extension > 0),
        hold: held("evidence").filter(|_| hold),
        ..record.clone()
    }
}

/// As things happen: by time, each with a request of its own.
fn in_order(mut all: Vec<RecordedInteraction>) -> Vec<RecordedInteraction> {
    all.sort_by_key(|known| known.interaction.time);
    for (at, known) in all.iter_mut().enumerate() {
        known.interaction.request = at.to_string();
    }
    all
}

proptest! {
    /// However many there were, what is kept decides as all of them would, whatever people wish.
    #[test]
    fn the_earliest_of_all_deadlines_counts(
        all in prop::collection::vec(any_known(), 1..60),
        extension in 0u64..90,
        hold: bool,
    ) {
        let all = in_order(all);
        let record = with(&record(&all), extension, hold);
        prop_assert_eq!(record.deadline(), ends(&all, extension, false));
        prop_assert_eq!(record.eviction_time(), ends(&all, extension, hold));
    }

    #[test]
    fn another_interaction_moves_nothing_later(
        all in prop::collection::vec(any_known(), 2..60),
        extension in 0u64..90,
        hold: bool,
    ) {
        let mut record = with(&Record::new(pod(), all[0].clone()), extension, hold);
        for known in &all[1..] {
            let dry = |record: &Record| record.deadline().map(|_| record.is_dry_run());
            let before = (dry(&record), record.deadline(), record.eviction_time());
            record.learn(known.clone());
            // The first that is enforced ends the dry run, and what it said no longer counts.
            if dry(&record) == before.0 {
                prop_assert!(record.deadline() <= before.1 || before.1.is_none());
                prop_assert!(record.eviction_time() <= before.2 || before.2.is_none());
            } else {
                prop_assert_eq!((before.0.unwrap_or(true), record.is_dry_run()), (true, known.terms.enforcement == Enforcement::DryRun));
            }
        }
    }

    #[test]
    fn no_extension_outlives_what_any_one_allows(
        all in prop::collection::vec(any_known(), 1..60),
        extension in 0u64..90,
    ) {
        let record = with(&record(&all), extension, false);
        for known in timed(&record.known) {
            let terms = known.terms;
            let allowed = later(known.interaction.time, terms.ttl + terms.max_extension);
            prop_assert!(record.deadline() <= Some(allowed));
        }
    }

    /// What people may set moves the deadline by all of it, and more by no more.
    #[test]
    fn the_longest_extension_is_what_counts_at_the_most(
        all in prop::collection::vec(any_known(), 1..60),
        extension in 0u64..90,
    ) {
        let bare = record(&all);
        let longest = bare.longest_extension().as_secs();
        let moved = bare.deadline().map(|end| later(end, Duration::from_secs(extension.min(longest))));
        let extended = with(&bare, extension, false);
        prop_assert_eq!(extended.deadline(), moved);
        prop_assert_eq!(extended.extension().as_secs(), extension.min(longest));
    }

    /// Store and metadata are each enough to decide whatever people wish.
    #[test]
    fn either_home_alone_decides_the_same(
        all in prop::collection::vec(any_known(), 1..40),
        nameless: bool,
        overrides in prop::collection::vec((0u64..90, any::<bool>()), 4),
    ) {
        let mut told = record(&all);
        if nameless {
            for known in &mut told.known {
                known.interaction.request.clear();
            }
            told.settle();
        }
        let marks = metadata::read(&pod(), &marks_of(&told)).unwrap();
        let rebuilt = Record::from_marks(pod(), marks).unwrap();
        let stored: Record = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
        prop_assert_eq!(&stored, &told);
        prop_assert_eq!(marks_of(&rebuilt), marks_of(&told));
        for (extension, hold) in overrides {
            let (told, rebuilt) = (with(&told, extension, hold), with(&rebuilt, extension, hold));
            prop_assert_eq!(rebuilt.deadline(), told.deadline());
            prop_assert_eq!(rebuilt.eviction_time(), told.eviction_time());
        }
    }
}
