//! Small builders for tests.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{
    Action, Command, Enforcement, Interaction, Kind, OnEvidence, PodId, Record,
    RecordedInteraction, Terms, metadata,
};
use jiff::Timestamp;

use crate::pod_view::{PodSnapshot, PodView, digest};

/// So many seconds after the time at which tests begin.
///
/// # Panics
/// When that is no time.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

/// The pod of this UID.
pub fn pod_id(uid: &str) -> PodId {
    PodId {
        namespace: "shop".into(),
        name: "cart-1".into(),
        uid: uid.into(),
    }
}

/// An exec at that second that gives the pod ten minutes.
pub fn shell(second: i64) -> RecordedInteraction {
    RecordedInteraction {
        interaction: Interaction {
            time: at(second),
            kind: Kind::Exec,
            user: "alice".into(),
            container: Some("app".into()),
            command: Command::new(["sh", "-c", "id"]),
            stdin: false,
            tty: false,
            request: format!("request-{second}"),
        },
        terms: Terms {
            action: Action::Evict,
            ttl: Duration::from_secs(600),
            max_extension: Duration::from_secs(3600),
            max_hold: Duration::from_secs(7200),
            exemption: None,
            enforcement: Enforcement::Enforce,
            on_evidence: OnEvidence::default(),
        },
        policy: None,
        irregular: None,
    }
}

/// The same on terms that only say what would happen.
pub fn dry_shell(second: i64) -> RecordedInteraction {
    let mut known = shell(second);
    known.terms.enforcement = Enforcement::DryRun;
    known
}

/// The record of a pod with this one interaction.
pub fn record(uid: &str, known: RecordedInteraction) -> Record {
    Record::new(pod_id(uid), known)
}

/// A running pod that nobody touched.
pub fn pod(uid: &str, version: u32) -> PodView {
    annotated(uid, version, &BTreeMap::new())
}

/// The pod as it is once its metadata tell the record.
pub fn marked(record: &Record, version: u32) -> PodView {
    marked_with(record, version, &[])
}

/// The same with annotations that people set.
pub fn marked_with(record: &Record, version: u32, overrides: &[(&str, &str)]) -> PodView {
    let told = metadata::annotations(record, &[]);
    let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
    let overrides = overrides
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let view = annotated(&record.pod.uid, version, &told.chain(overrides).collect());
    seen_as(view, |pod| pod.labelled = true)
}

/// The same where others' annotations leave so much room.
pub fn shortened(record: &Record, version: u32, room: u32) -> PodView {
    let told = metadata::fitting(record, &[], room as usize);
    let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
    let view = annotated(&record.pod.uid, version, &told.collect());
    seen_as(view, |pod| (pod.labelled, pod.room) = (true, room))
}

/// The same pod with another state.
pub fn seen_as(mut view: PodView, change: impl FnOnce(&mut PodSnapshot)) -> PodView {
    change(&mut view.state);
    view
}

fn annotated(uid: &str, version: u32, annotations: &BTreeMap<String, String>) -> PodView {
    let id = pod_id(uid);
    PodView {
        marks: metadata::read(&id, annotations).expect("metadata that can be read"),
        state: PodSnapshot {
            version: version.to_string(),
            labelled: false,
            annotations_digest: digest(|key| annotations.get(key).map(String::as_str)),
            room: metadata::MAX_ANNOTATIONS as u32,
            priority: 0,
            ready: true,
            terminating: false,
            termination: None,
            evicted: false,
            finished: false,
            mirror: false,
            bare: false,
            of_job: false,
        },
        id,
    }
}
