//! What Curfew writes on a pod: one label to find it by, annotations for everything else.
//!
//! The annotations show people what happened and when the pod will be evicted. They are also a second copy of the
//! record: together with the pod's UID they are enough to rebuild it.

mod size_limit;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    drift::Drift,
    duration,
    interaction::{Command, Interaction, Kind},
    left,
    pod_id::PodId,
    record::{
        Counted, EvictNow, EvidenceMarks, Extension, Hold, MAX_KNOWN, MAX_REASON, Marks, Record,
        RecordedInteraction,
    },
    terms::{Action, Enforcement, OnEvidence, Terms},
    text::{cut, is_blank},
};

pub use size_limit::{MAX_ANNOTATIONS, fitting, is_short, room, tells};

/// The prefix of every key that is Curfew's.
pub const PREFIX: &str = "curfew.dev/";
/// The label of every pod that was interacted with; its value is [`INTERACTED`].
pub const LABEL: &str = "curfew.dev/interacted";
/// The value of [`LABEL`].
pub const INTERACTED: &str = "true";
/// When the interaction happened that set the deadline (RFC 3339, UTC).
pub const INTERACTION_TIME: &str = "curfew.dev/interaction-time";
/// Who did it: the user name as the API server authenticated it.
pub const INTERACTOR: &str = "curfew.dev/interactor";
/// How: `exec`, `attach`, `portforward`, `debug` or `bypass`.
pub const INTERACTION: &str = "curfew.dev/interaction";
/// In which container; absent for port-forward.
pub const CONTAINER: &str = "curfew.dev/container";
/// The command as a shell would take it; absent where there is none.
pub const COMMAND: &str = "curfew.dev/command";
/// How many interactions there were.
pub const INTERACTIONS: &str = "curfew.dev/interactions";
/// The latest interaction, as JSON.
pub const LAST_INTERACTION: &str = "curfew.dev/last-interaction";
/// The time to live after the interaction (Go duration); absent when no timer runs.
pub const TTL: &str = "curfew.dev/ttl";
/// The longest extension that all that was done to the pod allows (Go duration); absent when no timer runs.
pub const MAX_EXTENSION: &str = "curfew.dev/max-extension";
/// When the pod will be evicted, extension and hold included; absent when no timer runs.
pub const EVICTION_TIME: &str = "curfew.dev/eviction-time";
/// `DryRun` where the pod is only said to be evicted: all its timers are a dry run. Absent otherwise.
pub const ENFORCEMENT: &str = "curfew.dev/enforcement";
/// What was found in the pod ([`Drift::summary`]); absent where nobody looked.
pub const DRIFT: &str = "curfew.dev/drift";
/// What sessions left behind in the pod ([`left::text`]); absent where nothing was found.
pub const LEFT: &str = "curfew.dev/left";
/// By how much somebody extended the time to live (Go duration, as it was typed).
pub const EXTENSION: &str = "curfew.dev/extension";
/// Who extended it.
pub const EXTENSION_REQUESTER: &str = "curfew.dev/extension-requester";

/// Why the pod is kept beyond its deadline, in the words of who wants it kept.
pub const HOLD: &str = "curfew.dev/hold";
/// Who keeps it.
pub const HOLD_REQUESTER: &str = "curfew.dev/hold-requester";

/// That the pod is evicted now, and why, in the words of who ordered it.
pub const EVICT_NOW: &str = "curfew.dev/evict-now";
/// Who ordered it.
pub const EVICT_NOW_REQUESTER: &str = "curfew.dev/evict-now-requester";

/// The kubelet's annotation of a mirror pod: the object stands for a file on the node (a static pod).
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// How many interactions a pod tells that the agent may not know, the latest aside: as many as a record
/// keeps. Those before them are only counted.
const MAX_UNSYNCED: usize = MAX_KNOWN - 2;

/// The annotations that Curfew itself writes, and removes where the record has no value for them.
pub const WRITTEN: [&str; 13] = [
    INTERACTION_TIME,
    INTERACTOR,
    INTERACTION,
    CONTAINER,
    COMMAND,
    INTERACTIONS,
    LAST_INTERACTION,
    TTL,
    MAX_EXTENSION,
    EVICTION_TIME,
    ENFORCEMENT,
    DRIFT,
    LEFT,
];

/// An annotation that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {value:?}: {problem}")]
pub struct InvalidMark {
    /// The key of the annotation.
    pub key: &'static str,
    /// Its value, cut.
    pub value: String,
    /// What would be right.
    pub problem: String,
}

/// The value of [`LAST_INTERACTION`]. The UID tells marks that were copied from another pod (by a
/// template, or by `kubectl debug --copy-to`) from the pod's own.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Last {
    uid: String,
    /// The longest hold, which has no annotation of its own.
    #[serde(with = "duration", default)]
    max_hold: Duration,
    /// The streams of the decisive interaction, which have no annotations of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stdin: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tty: bool,
    /// When the API server answered a dry run that it would evict the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    would_go: Option<Timestamp>,
    /// Whether the timers are a dry run, though the eviction is not, because somebody ordered it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// [`Record::changed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<Timestamp>,
    /// [`Record::released`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released: Option<Timestamp>,
    /// [`Record::since`], where the decisive interaction is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(flatten)]
    known: RecordedInteraction,
    /// The [bounds](Record::bounds) but for the latest, where the annotations do not have all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bounds: Vec<RecordedInteraction>,
    /// What [`Marks::unsynced`] has; a pod whose agent is there has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "alone")]
    unsynced: Vec<RecordedInteraction>,
}

/// The annotations that a pod with this record must have: exactly these of [`WRITTEN`]. A pod with which nobody
/// interacted has only the time at which it is evicted, because somebody ordered that. Interactions that are
/// recorded nowhere else are listed one by one, in addition to the latest. So an agent that knows the others finds
/// the ones that it does not know.
pub fn annotations(
    record: &Record,
    unsynced: &[RecordedInteraction],
) -> BTreeMap<&'static str, String> {
    let mut marks = BTreeMap::new();
    if let Some(eviction_time) = record.eviction_time() {
        marks.insert(EVICTION_TIME, eviction_time.to_string());
    }
    let (Some(decisive), Some(known)) = (record.decisive(), record.last()) else {
        return marks;
    };
    let RecordedInteraction {
        interaction, terms, ..
    } = decisive;
    let is_dry = record.enforcement_of_timers() == Some(Enforcement::DryRun);
    let last = Last {
        uid: record.pod.uid.clone(),
        max_hold: record.longest_hold(),
        stdin: interaction.stdin,
        tty: interaction.tty,
        would_go: record.would_go.filter(|_| record.is_dry_run()),
        dry_run: is_dry && !record.is_dry_run(),
        changed: record.changed,
        released: record.released,
        since: since(record, decisive),
        known: known.clone(),
        bounds: untold_bounds(record, known),
        unsynced: latest(unsynced.iter().filter(|other| *other != known)),
    };
    marks.extend([
        (INTERACTION_TIME, interaction.time.to_string()),
        (INTERACTOR, interaction.user.clone()),
        (INTERACTION, interaction.kind.to_string()),
        (INTERACTIONS, record.interactions().to_string()),
        (
            LAST_INTERACTION,
            serde_json::to_string(&last).unwrap_or_default(),
        ),
    ]);
    if let Some(container) = &interaction.container {
        marks.insert(CONTAINER, container.clone());
    }
    if !interaction.command.is_empty() {
        marks.insert(COMMAND, interaction.command.to_string());
    }
    if let Some(drift) = &record.drift {
        marks.insert(DRIFT, drift.summary());
        if !drift.left.is_empty() {
            marks.insert(LEFT, left::text(&drift.left));
        }
    }
    if record.deadline().is_some() {
        marks.insert(TTL, duration::format(terms.ttl));
        marks.insert(MAX_EXTENSION, duration::format(record.longest_extension()));
    }
    if record.is_dry_run() {
        marks.insert(ENFORCEMENT, Enforcement::DryRun.as_str().to_owned());
    }
    marks
}

/// What the latest interaction and the annotations do not tell of those that decide when the pod goes. Most
/// pods were touched on the same terms each time, and have none.
fn untold_bounds(record: &Record, last: &RecordedInteraction) -> Vec<RecordedInteraction> {
    let mut bounds = record.bounds();
    // The annotations do not tell the timer that has ended.
    if bounds.is_empty() && record.is_released() {
        bounds.extend(record.decisive());
    } else if let [decisive] = bounds[..] {
        let Terms {
            max_extension,
            max_hold,
            on_evidence,
            ..
        } = decisive.terms;
        let told = (max_extension, max_hold, on_evidence.is_default());
        if told == (record.longest_extension(), record.longest_hold(), true) {
            bounds.clear();
        }
    }
    // Nothing else tells of terms that hold once the pod has another controller.
    bounds.extend(record.exempt_bounds());
    // What was left behind is of an exec, and whoever judges it has to know which request that was.
    let left = record
        .drift
        .as_ref()
        .is_some_and(|drift| !drift.left.is_empty());
    if let Some(exec) = record.latest_exec().filter(|_| left)
        && !bounds.contains(&exec)
    {
        bounds.push(exec);
    }
    let untold = bounds.into_iter().filter(|known| *known != last);
    untold.cloned().collect()
}

/// The time since which changes count, where the decisive interaction is later. The terms do not matter: an interaction
/// that is still to come may be the first whose timer depends on what is found.
fn since(record: &Record, decisive: &RecordedInteraction) -> Option<Timestamp> {
    let earlier = |since: &Timestamp| *since < decisive.interaction.time;
    record.since().filter(earlier)
}

/// The latest [`MAX_UNSYNCED`].
fn latest<'a>(
    unsynced: impl Iterator<Item = &'a RecordedInteraction> + Clone,
) -> Vec<RecordedInteraction> {
    let surplus = unsynced.clone().count().saturating_sub(MAX_UNSYNCED);
    unsynced.skip(surplus).cloned().collect()
}

/// The JSON merge patch (RFC 7386) that gives a pod the label and of [`WRITTEN`] exactly these annotations. UID
/// and resourceVersion are preconditions, so that it neither undoes what others wrote since that version nor
/// marks another pod.
pub fn patch(
    pod: &PodId,
    wanted: &BTreeMap<&'static str, String>,
    version: Option<&str>,
) -> serde_json::Value {
    let annotations: BTreeMap<_, _> = WRITTEN.iter().map(|key| (*key, wanted.get(key))).collect();
    serde_json::json!({
        "metadata": {
            "uid": pod.uid,
            "resourceVersion": version,
            "labels": { LABEL: INTERACTED },
            "annotations": annotations,
        }
    })
}

/// Reads what the annotations of a pod tell. A pod without them, or with those of another pod, tells
/// nothing.
///
/// # Errors
/// Names the first annotation that cannot be read. An extension that cannot be read is no error here:
/// it has no effect, and the rest is not to suffer from what people type.
pub fn read(pod: &PodId, annotations: &BTreeMap<String, String>) -> Result<Marks, InvalidMark> {
    let get = |key: &str| annotations.get(key).map(String::as_str);
    let Some(last) = get(LAST_INTERACTION) else {
        let short = size_limit::short(annotations);
        return Ok(match short {
            Some(_) => Marks {
                short,
                extension: extension(annotations),
                hold: hold(annotations),
                evict_now: evict_now(annotations),
                ..Marks::default()
            },
            None => Marks {
                evict_now: evict_now(annotations),
                ..Marks::default()
            },
        });
    };
    // What parsers have to say may repeat all that they were given.
    let invalid = |key, problem: String| InvalidMark {
        key,
        value: cut(get(key).unwrap_or_default(), 80).into_owned(),
        problem: cut(&problem, 160).into_owned(),
    };
    let last: Last =
        serde_json::from_str(last).map_err(|error| invalid(LAST_INTERACTION, error.to_string()))?;
    if last.uid != pod.uid {
        return Ok(Marks::default());
    }
    let required = |key| get(key).ok_or_else(|| invalid(key, "is missing".to_owned()));
    let length = |key| -> Result<Option<Duration>, InvalidMark> {
        get(key)
            .map(|text| duration::parse(text).map(duration::whole))
            .transpose()
            .map_err(|error| invalid(key, error.to_string()))
    };
    let time: Timestamp = required(INTERACTION_TIME)?.parse().map_err(|_| {
        invalid(
            INTERACTION_TIME,
            "is not an RFC 3339 time, such as 2026-03-01T12:00:00Z".to_owned(),
        )
    })?;
    let kind: Kind =
        required(INTERACTION)?
            .parse()
            .map_err(|error: crate::interaction::UnknownKind| {
                invalid(INTERACTION, error.to_string())
            })?;
    let interactions: u32 = required(INTERACTIONS)?
        .parse()
        .map_err(|_| invalid(INTERACTIONS, "is not a count".to_owned()))?;
    let ttl = length(TTL)?;
    let max_extension = length(MAX_EXTENSION)?;
    let decisive = RecordedInteraction {
        interaction: Interaction {
            time,
            kind,
            user: required(INTERACTOR)?.to_owned(),
            container: get(CONTAINER).map(str::to_owned),
            command: Command::from_text(get(COMMAND).unwrap_or_default()),
            stdin: last.stdin,
            tty: last.tty,
            request: String::new(),
        },
        terms: match ttl {
            Some(ttl) => Terms {
                action: Action::Evict,
                ttl,
                max_extension: max_extension.unwrap_or_default(),
                max_hold: last.max_hold,
                exemption: None,
                enforcement: match last.dry_run {
                    true => Enforcement::DryRun,
                    false => enforcement(annotations),
                },
                on_evidence: OnEvidence::default(),
            },
            // Nothing but the action has a meaning then; the last one's is as good as any. Those that may have a
            // meaning later are told in full.
            None => Terms {
                action: Action::Record,
                exemption: last
                    .known
                    .terms
                    .exemption
                    .filter(|exemption| !exemption.may_end()),
                ..last.known.terms
            },
        },
        // Where it is not told in full, nothing tells it.
        policy: None,
        irregular: None,
    };
    let counted = Counted {
        until: last.known.interaction.time,
        interactions,
    };
    let mut known = last.bounds;
    known.truncate(MAX_KNOWN - 2);
    known.push(last.known);
    // Where it is told in full elsewhere, that counts: the annotations have what all of them allow together, and
    // nothing of a timer that has ended with a release.
    let is_released = last.released.is_some_and(|released| time <= released) && ttl.is_none();
    let full = known.iter().position(|full| {
        full.is_shown_by(&decisive) || (is_released && full.did_the_same(&decisive))
    });
    let decisive = full.map_or(decisive, |full| known[full].clone());
    known.insert(0, decisive);
    // When it was looked is not told; it was not before the first interaction.
    let first = known.iter().map(|known| known.interaction.time).min();
    let first = first.into_iter().chain(last.since).min();
    let drift = first.and_then(|first| Drift::from_summary(get(DRIFT)?, first));
    let drift = drift.map(|drift| drift.with_left(get(LEFT)));
    Ok(Marks {
        known,
        unsynced: latest(last.unsynced.iter()),
        count_in_metadata: Some(counted),
        short: None,
        would_go: last.would_go,
        evidence: EvidenceMarks {
            drift: drift.map(Box::new),
            changed: last.changed,
            released: last.released,
            since: last.since,
        },
        extension: extension(annotations),
        hold: hold(annotations),
        evict_now: evict_now(annotations),
    })
}

/// Whether the eviction that the annotations tell of is enforced. Earlier releases do not say.
pub fn enforcement(annotations: &BTreeMap<String, String>) -> Enforcement {
    match annotations.get(ENFORCEMENT) {
        Some(text) if text == Enforcement::DryRun.as_str() => Enforcement::DryRun,
        _ => Enforcement::Enforce,
    }
}

/// The extension that stands on a pod, where there is one that can be read. Whether the terms allow
/// it is for the record to say.
pub fn extension(annotations: &BTreeMap<String, String>) -> Option<Extension> {
    let text = annotations.get(EXTENSION)?;
    let by = duration::parse(text).ok()?;
    Some(Extension {
        by: duration::whole(by),
        text: text.clone(),
        requester: requester(annotations, EXTENSION_REQUESTER),
    })
}

/// The hold that stands on a pod, where there is one that gives a reason.
pub fn hold(annotations: &BTreeMap<String, String>) -> Option<Hold> {
    let reason = annotations.get(HOLD).filter(|reason| !is_blank(reason))?;
    Some(Hold {
        reason: cut(reason, MAX_REASON).into_owned(),
        requester: requester(annotations, HOLD_REQUESTER),
    })
}

/// The order to evict the pod now, where there is one that gives a reason. It is in force since the eviction time
/// that stands on the pod: agents write no time that is later than the order. If no agent has seen the order yet,
/// that is a time ahead, or one that had passed before. A dry run does not count.
pub fn evict_now(annotations: &BTreeMap<String, String>) -> Option<EvictNow> {
    let reason = annotations
        .get(EVICT_NOW)
        .filter(|reason| !is_blank(reason))?;
    let time = annotations.get(EVICTION_TIME);
    let time = time.filter(|_| enforcement(annotations) == Enforcement::Enforce);
    Some(EvictNow {
        reason: cut(reason, MAX_REASON).into_owned(),
        requester: requester(annotations, EVICT_NOW_REQUESTER),
        since: time.and_then(|time| time.parse().ok()),
    })
}

fn requester(annotations: &BTreeMap<String, String>, key: &str) -> String {
    let name = annotations.get(key).map_or("", String::as_str);
    cut(name, crate::interaction::MAX_USER).into_owned()
}

#[cfg(test)]
mod tests;
