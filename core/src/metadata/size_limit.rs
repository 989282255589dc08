//! What is written on a pod whose annotations are nearly full, and what is read there.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    COMMAND, CONTAINER, DRIFT, ENFORCEMENT, EVICT_NOW, EVICTION_TIME, INTERACTION,
    INTERACTION_TIME, INTERACTIONS, INTERACTOR, LAST_INTERACTION, LEFT, WRITTEN, annotations,
    enforcement,
};
use crate::{
    duration,
    interaction::{Command, Interaction},
    record::{Record, RecordedInteraction, Short},
    terms::{Action, OnEvidence, Terms},
};

/// The most bytes that the keys and values of a pod's annotations may have together, by the API server's rule.
pub const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What is written where there is no room for a record, the most important first. No extension can be set
/// beside it, because nothing says how much of it is allowed. That it is a dry run comes first: where it does not
/// fit, nothing does that a record is read from.
const SHORT: [&str; 8] = [
    ENFORCEMENT,
    EVICTION_TIME,
    INTERACTOR,
    INTERACTION,
    INTERACTION_TIME,
    INTERACTIONS,
    CONTAINER,
    COMMAND,
];

/// Without these of [`SHORT`] nothing is read. Where they fit, so does the eviction time, which comes first and
/// is shorter.
const ENOUGH: [&str; 3] = [INTERACTOR, INTERACTION, INTERACTION_TIME];

/// How many bytes others leave for the annotations that Curfew writes.
pub fn room(annotations: &BTreeMap<String, String>) -> usize {
    let others = annotations
        .iter()
        .filter(|(key, _)| !WRITTEN.contains(&key.as_str()));
    let taken: usize = others.map(|(key, value)| key.len() + value.len()).sum();
    MAX_ANNOTATIONS.saturating_sub(taken)
}

/// As many of a record's [`annotations`] as this many bytes have room for: all of them; else all but what was found in
/// the pod; else, in addition, fewer of the interactions that may stand nowhere else, the latest of them; else the most important ones.
pub fn fitting(
    record: &Record,
    unsynced: &[RecordedInteraction],
    room: usize,
) -> BTreeMap<&'static str, String> {
    let fits = |all: &BTreeMap<&'static str, String>| {
        let size: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
        size <= room
    };
    for left_out in 0..=unsynced.len() {
        let mut all = annotations(record, &unsynced[left_out..]);
        if fits(&all) {
            return all;
        }
        all.remove(LEFT);
        if all.remove(DRIFT).is_some() && fits(&all) {
            return all;
        }
    }
    short_of(annotations(record, &[]), room)
}

fn short_of(
    mut all: BTreeMap<&'static str, String>,
    room: usize,
) -> BTreeMap<&'static str, String> {
    let mut left = room;
    let mut fitting = BTreeMap::new();
    for key in SHORT {
        let value = all.remove(key);
        let rest = value
            .as_ref()
            .and_then(|value| left.checked_sub(key.len() + value.len()));
        if let (Some(value), Some(rest)) = (value, rest) {
            left = rest;
            fitting.insert(key, value);
        }
    }
    fitting
}

/// Whether these annotations of a record are all that is needed to go on with it: none but the decisive
/// interaction and their number are told by the most important ones.
pub fn tells(
    written: &BTreeMap<&'static str, String>,
    record: &Record,
    known: &RecordedInteraction,
) -> bool {
    written.contains_key(LAST_INTERACTION)
        || (record.decisive() == Some(known) && ENOUGH.iter().all(|key| written.contains_key(key)))
}

/// Whether a marked pod's annotations had no room for a record. A pod with which nobody interacted, and which
/// somebody ordered to evict, has none.
pub fn is_short(annotations: &BTreeMap<String, String>) -> bool {
    let is_untouched =
        annotations.contains_key(EVICT_NOW) && !annotations.contains_key(INTERACTION);
    !annotations.contains_key(LAST_INTERACTION) && !is_untouched
}

/// What a pod tells in short. That it is the pod's own and not another's is for the policy on marks to see to,
/// which lets no pod be made with them.
pub(super) fn short(annotations: &BTreeMap<String, String>) -> Option<Short> {
    let get = |key: &str| annotations.get(key).map(String::as_str);
    let time: Timestamp = get(INTERACTION_TIME)?.parse().ok()?;
    // Beside an order it is the time of that, and says nothing of the interaction.
    let eviction_time = get(EVICTION_TIME).filter(|_| !annotations.contains_key(EVICT_NOW));
    let eviction_time: Option<Timestamp> = eviction_time.map(str::parse).transpose().ok()?;
    let interaction = Interaction {
        time,
        kind: get(INTERACTION)?.parse().ok()?,
        user: get(INTERACTOR)?.to_owned(),
        container: get(CONTAINER).map(str::to_owned),
        command: Command::from_text(get(COMMAND).unwrap_or_default()),
        stdin: false,
        tty: false,
        request: String::new(),
    };
    let ttl = match eviction_time {
        Some(at) => Some(length(time, at)?),
        None => None,
    };
    let terms = Terms {
        action: match ttl {
            Some(_) => Action::Evict,
            None => Action::Record,
        },
        ttl: ttl.unwrap_or_default(),
        max_extension: Duration::ZERO,
        max_hold: Duration::ZERO,
        exemption: None,
        enforcement: enforcement(annotations),
        on_evidence: OnEvidence::default(),
    };
    Some(Short {
        known: RecordedInteraction {
            interaction,
            terms,
            policy: None,
            irregular: None,
        },
        interactions: get(INTERACTIONS).and_then(|n| n.parse().ok()).unwrap_or(1),
    })
}

/// The time to live between these, where it is one that can be written.
fn length(time: Timestamp, eviction_time: Timestamp) -> Option<Duration> {
    let ttl = Duration::try_from(eviction_time.duration_since(time)).ok()?;
    let written = duration::parse(&duration::format(ttl)).ok()?;
    (duration::whole(written) == ttl).then_some(ttl)
}
