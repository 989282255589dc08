//! What is shown of which marks.

use super::*;
use curfew_core::{
    Interaction, Kind, WhenUnchanged, record::RecordedInteraction, terms::DefaultTerms,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn pod(name: &str, annotations: &[(&str, &str)]) -> ObjectMeta {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    ObjectMeta {
        namespace: Some("shop".into()),
        name: Some(name.into()),
        uid: Some(format!("uid-of-{name}")),
        annotations: Some(annotations.iter().map(owned).collect()),
        ..ObjectMeta::default()
    }
}

/// A pod with all marks of an interaction of this kind at noon, ten minutes to live and an hour
/// of extension at the most.
pub(crate) fn marked(name: &str, kind: Kind, exemption: Option<Exemption>) -> ObjectMeta {
    let mut pod = pod(name, &[]);
    let defaults = DefaultTerms {
        ttl: Duration::from_secs(600),
        max_extension: Duration::from_secs(3600),
        max_hold: Duration::from_secs(7200),
        enforcement: curfew_core::Enforcement::Enforce,
    };
    let mut terms = defaults.of(kind);
    if exemption.is_some() {
        terms = curfew_core::Terms {
            action: curfew_core::Action::Record,
            exemption,
            ..terms
        };
    }
    let known = RecordedInteraction {
        interaction: Interaction {
            time: at("2026-03-01T12:00:00Z"),
            kind,
            user: "alice".into(),
            container: Some("main".into()),
            command: curfew_core::Command::new(["sh"]),
            stdin: false,
            tty: false,
            request: "r-1".into(),
        },
        terms,
        policy: None,
        irregular: None,
    };
    let id = PodId {
        namespace: "shop".into(),
        name: name.into(),
        uid: pod.uid.clone().unwrap(),
    };
    let marks = metadata::annotations(&Record::new(id, known), &[]);
    let marks = marks
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    pod.annotations.get_or_insert_default().extend(marks);
    pod
}

fn state_of(pod: Sighting<'_>, now: &str) -> State {
    Row::new(pod, &Blocks::default(), at(now)).state
}

const BEFORE: &str = "2026-03-01T12:09:59.4Z";
const AFTER: &str = "2026-03-01T12:10:00Z";

#[test]
fn a_deadline_is_told_absolutely_and_relatively() {
    let pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
    for (now, text, state) in [
        ("2026-03-01T12:00:00.4Z", "in 9m59s", State::Scheduled),
        (BEFORE, "now", State::Scheduled),
        (AFTER, "now", State::Due),
        ("2026-03-01T13:40:03Z", "1h30m3s ago", State::Due),
    ] {
        let row = Row::new(Sighting::of(&pod), &Blocks::default(), at(now));
        let shown = format!("2026-03-01T12:10:00Z ({text})");
        assert_eq!(row.eviction_time(at(now)), Some(shown), "{now}");
        assert_eq!(row.state, state, "{now}");
    }
}

#[test]
fn a_pod_that_is_terminating_says_for_how_long() {
    let mut pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
    // A year of grace, from half a minute after the eviction time.
    pod.deletion_timestamp = Some(Time(at("2027-03-01T12:10:30Z")));
    pod.deletion_grace_period_seconds = Some(365 * 24 * 3600);
    let now = at("2026-03-01T12:13:00Z");
    let shown = |pod: &ObjectMeta| {
        let row = Row::new(Sighting::of(pod), &Blocks::default(), now);
        assert_eq!(row.state, State::Terminating);
        row.eviction_time(now).unwrap()
    };
    assert_eq!(
        shown(&pod),
        "2026-03-01T12:10:00Z (3m0s ago, terminating for 2m30s)"
    );
    // Another's clock.
    pod.deletion_timestamp = Some(Time(at("2027-03-01T12:13:01Z")));
    assert_eq!(shown(&pod), "2026-03-01T12:10:00Z (3m0s ago, terminating)");
    pod.annotations = None;
    pod.deletion_grace_period_seconds = Some(365 * 24 * 3600 + 60);
    assert_eq!(shown(&pod), "terminating for 59s");
}

#[test]
fn what_stands_in_the_way_is_named_while_it_does() {
    let pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
    let seen = at("2026-03-01T12:10:30Z");
    let mut blocks = Blocks::default();
    let uid = "uid-of-web-1".to_owned();
    let block = |budget: Option<&str>| Block {
        last_seen: seen,
        budget: budget.map(str::to_owned),
        message: "cannot be evicted yet: no room".into(),
        state: State::Blocked,
    };
    blocks.add(uid.clone(), block(Some("web")));
    let later = at("2026-03-01T12:13:00Z");
    let row = Row::new(Sighting::of(&pod), &blocks, later);
    assert_eq!(row.state, State::Blocked);
    assert_eq!(
        row.eviction_time(later).as_deref(),
        Some("2026-03-01T12:10:00Z (3m0s ago, blocked by PDB web)")
    );
    assert_eq!(
        row.reason.as_deref(),
        Some("cannot be evicted yet: no room")
    );

    let mut unnamed = Blocks::default();
    unnamed.add(uid, block(None));
    let row = Row::new(Sighting::of(&pod), &unnamed, later);
    assert!(row.eviction_time(later).unwrap().ends_with("ago, blocked)"));

    // It was extended since: what was in the way then is not in the way now.
    let extended = marked_until("2026-03-01T12:12:00Z");
    let row = Row::new(Sighting::of(&extended), &blocks, later);
    assert_eq!((row.state, row.reason), (State::Due, None));
    let ahead = marked_until("2026-03-01T12:20:00Z");
    let row = Row::new(Sighting::of(&ahead), &blocks, later);
    assert_eq!(row.state, State::Scheduled);
}

#[test]
fn a_dry_run_says_so_behind_the_time() {
    let id = || PodId {
        namespace: "shop".into(),
        name: "web-1".into(),
        uid: "uid-of-web-1".into(),
    };
    let shown = |would_go: Option<&str>, blocked: bool, now: &str| {
        let mut meta = marked("web-1", Kind::Exec, None);
        let mut record = super::record(&meta).unwrap();
        let mut known = record.decisive().unwrap().clone();
        known.terms.enforcement = Enforcement::DryRun;
        record = Record::new(id(), known);
        record.would_go = would_go.map(at);
        let marks = metadata::annotations(&record, &[]).into_iter();
        meta.annotations = Some(marks.map(|(key, value)| (key.to_owned(), value)).collect());
        let mut blocks = Blocks::default();
        if blocked {
            let block = Block {
                last_seen: at(now),
                budget: Some("web".into()),
                message: "no room".into(),
                state: State::Blocked,
            };
            blocks.add("uid-of-web-1".into(), block);
        }
        let row = Row::new(Sighting::of(&meta), &blocks, at(now));
        let time = row.eviction_time(at(now)).unwrap();
        let remark = time.split_once(' ').unwrap().1.to_owned();
        (row.state, remark)
    };
    let before = "2026-03-01T12:09:00Z";
    let after = "2026-03-01T12:11:00Z";
    for (would_go, blocked, now, state, remark) in [
        (None, false, before, State::Scheduled, "(in 1m0s, dry run)"),
        (None, false, after, State::Due, "(1m0s ago, dry run)"),
        (
            Some(after),
            false,
            after,
            State::WouldGo,
            "(1m0s ago, would go)",
        ),
        // It had room at last.
        (
            Some(after),
            true,
            after,
            State::WouldGo,
            "(1m0s ago, would go)",
        ),
        (
            None,
            true,
            after,
            State::Blocked,
            "(1m0s ago, would be blocked by PDB web)",
        ),
    ] {
        assert_eq!(
            shown(would_go, blocked, now),
            (state, remark.to_owned()),
            "{now} {remark}"
        );
    }
}

fn marked_until(time: &str) -> ObjectMeta {
    pod("web-1", &[(metadata::EVICTION_TIME, time)])
}

#[test]
fn a_hold_counts_until_it_ends() {
    let mut held = marked_until(AFTER);
    held.annotations
        .get_or_insert_default()
        .insert(metadata::HOLD.into(), "evidence".into());
    let row = Row::new(Sighting::of(&held), &Blocks::default(), at(BEFORE));
    assert_eq!(
        (row.state, row.reason.as_deref()),
        (State::Held, Some("evidence"))
    );
    assert_eq!(state_of(Sighting::of(&held), AFTER), State::Due);
}

#[test]
fn what_is_out_of_the_ordinary_stands_behind_the_time() {
    let now = at("2026-03-01T12:00:00Z");
    let shown = |pod: &ObjectMeta| {
        let row = Row::new(Sighting::of(pod), &Blocks::default(), now);
        row.eviction_time(now).unwrap()
    };
    let mut pod = marked_until(AFTER);
    pod.annotations
        .get_or_insert_default()
        .insert(metadata::HOLD.into(), "evidence".into());
    assert_eq!(shown(&pod), "2026-03-01T12:10:00Z (in 10m0s, held)");
    let label = ("app-detached".to_owned(), "web".to_owned());
    pod.labels = Some([label].into());
    assert_eq!(
        shown(&pod),
        "2026-03-01T12:10:00Z (in 10m0s, held, detached)"
    );
    // It is selected still.
    let labels = pod.labels.get_or_insert_default();
    labels.insert("app".to_owned(), "web".to_owned());
    pod.deletion_timestamp = Some(Time(now));
    assert_eq!(
        shown(&pod),
        "2026-03-01T12:10:00Z (in 10m0s, terminating for 0s)"
    );
    let mut recorded = marked("web-2", Kind::Portforward, None);
    recorded.deletion_timestamp = Some(Time(now));
    assert_eq!(shown(&recorded), "terminating for 0s");
}

#[test]
fn what_will_not_be_evicted_says_why() {
    let row = |pod: &ObjectMeta| Row::new(Sighting::of(pod), &Blocks::default(), at(BEFORE));
    let forwarded = row(&marked("web-1", Kind::Portforward, None));
    assert_eq!((forwarded.state, forwarded.reason), (State::Recorded, None));
    let harmless = row(&marked("web-1", Kind::Exec, Some(Exemption::Harmless)));
    assert_eq!(
        (harmless.state, harmless.reason.as_deref()),
        (State::Recorded, Some("harmless"))
    );
    let guarded = marked("web-1", Kind::Exec, Some(Exemption::Protected));
    assert_eq!(row(&guarded).state, State::Protected);
    let mut mirror = marked_until(AFTER);
    mirror
        .annotations
        .get_or_insert_default()
        .insert(metadata::MIRROR.into(), "hash".into());
    assert_eq!(row(&mirror).state, State::Protected);
}

#[test]
fn a_pod_that_was_released_says_so_until_the_next_interaction() {
    let annotated = |record: &Record| {
        let marks = metadata::annotations(record, &[]).into_iter();
        let mut pod = pod("web-1", &[]);
        pod.annotations = Some(marks.map(|(key, value)| (key.to_owned(), value)).collect());
        pod
    };
    let mut record = super::record(&marked("web-1", Kind::Exec, None)).unwrap();
    let mut known = record.decisive().unwrap().clone();
    known.terms.on_evidence.when_unchanged = WhenUnchanged::Release;
    record = Record::new(record.pod.clone(), known.clone());
    let shown = |record: &Record| {
        let row = Row::new(
            Sighting::of(&annotated(record)),
            &Blocks::default(),
            at(AFTER),
        );
        (row.state, row.eviction_time(at(AFTER)))
    };
    assert_eq!(shown(&record).0, State::Due);
    assert!(record.release());
    assert_eq!(shown(&record), (State::Released, Some("released".into())));
    known.interaction.time = at(AFTER);
    known.interaction.request = "r-2".into();
    record.learn(known);
    assert_eq!(shown(&record).0, State::Scheduled);
}

#[test]
fn a_pod_that_ended_or_is_ended_is_not_due() {
    let mut pod = marked_until(AFTER);
    for (phase, state) in [
        ("Running", State::Due),
        ("Succeeded", State::Finished),
        ("Failed", State::Finished),
    ] {
        let seen = Sighting {
            phase: Some(phase),
            ..Sighting::of(&pod)
        };
        assert_eq!(state_of(seen, AFTER), state);
    }
    pod.deletion_timestamp = Some(Time(at(AFTER)));
    assert_eq!(state_of(Sighting::of(&pod), AFTER), State::Terminating);
}

#[test]
fn what_is_not_there_is_not_made_up() {
    let now = at(BEFORE);
    let row = Row::new(Sighting::of(&pod("web-1", &[])), &Blocks::default(), now);
    assert_eq!((row.state, row.eviction_time(now)), (State::Recorded, None));
    for value in [row.interactor, row.ttl, row.command, row.reason] {
        assert_eq!(value, None);
    }
}

#[test]
fn a_time_that_is_none_is_shown_as_it_stands() {
    let pod = marked_until("tomorrow");
    let row = Row::new(Sighting::of(&pod), &Blocks::default(), at(BEFORE));
    assert_eq!(row.eviction_time(at(BEFORE)).as_deref(), Some("tomorrow"));
    assert_eq!(row.state, State::Recorded);
}

#[test]
fn the_next_to_go_comes_first() {
    let deadline = |name, time| pod(name, &[(metadata::EVICTION_TIME, time)]);
    let mut pods = [
        pod("b-none", &[]),
        deadline("c-late", "2026-03-01T12:30:00Z"),
        deadline("d-early", "2026-03-01T12:10:00Z"),
        pod("a-none", &[]),
        deadline("b-early", "2026-03-01T12:10:00Z"),
    ];
    pods.sort_by_cached_key(order);
    let names = pods.map(|pod| pod.name.unwrap_or_default());
    assert_eq!(names, ["b-early", "d-early", "c-late", "a-none", "b-none"]);
}
