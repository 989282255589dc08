//! Small builders for tests.

pub(crate) mod answer;
pub(crate) mod api;
mod model;
pub(crate) mod stage;

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{Action, Command, Interaction, Kind, Known, PodId, Record, Terms, metadata};
use jiff::Timestamp;

use crate::pods::PodView;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(crate) fn pod_id(uid: &str) -> PodId {
    PodId {
        namespace: "shop".into(),
        name: "cart-1".into(),
        uid: uid.into(),
    }
}

/// An exec at that second that gives the pod ten minutes.
pub(crate) fn shell(second: i64) -> Known {
    Known {
        interaction: Interaction {
            time: at(second),
            kind: Kind::Exec,
            user: "alice".into(),
            container: Some("app".into()),
            command: Command::new(["sh", "-c", "id"]),
            request: format!("request-{second}"),
        },
        terms: Terms {
            action: Action::Evict,
            ttl: Duration::from_secs(600),
            max_extension: Duration::from_secs(3600),
            max_hold: Duration::from_secs(7200),
            exemption: None,
        },
    }
}

pub(crate) fn record(uid: &str, known: Known) -> Record {
    Record::new(pod_id(uid), known)
}

/// A running pod that nobody touched.
pub(crate) fn pod(uid: &str, version: u32) -> PodView {
    PodView {
        id: pod_id(uid),
        version: version.to_string(),
        labelled: false,
        annotations: BTreeMap::new(),
        priority: 0,
        ready: true,
        terminating: false,
        finished: false,
        mirror: false,
    }
}

/// The pod as it is once its metadata tell the record.
pub(crate) fn marked(record: &Record, version: u32) -> PodView {
    PodView {
        labelled: true,
        annotations: metadata::annotations(record)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        ..pod(&record.pod.uid, version)
    }
}
