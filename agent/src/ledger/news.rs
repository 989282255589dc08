//! What people are told of a record: pure, so that each telling stands in one place.

use curfew_core::{Known, Record};

use super::{
    effect::{Announcement, Effect, Source},
    entry::Entry,
};

/// Tells that the eviction was accepted.
pub(super) fn eviction(record: &Record) -> Option<Effect> {
    Some(Effect::Announce(Announcement::Evicted {
        pod: record.pod.clone(),
        decisive: record.decisive().clone(),
        ids: record.requests(),
        eviction_time: record.eviction_time()?,
    }))
}

/// Tells of the latest so many interactions, which the agent before this one stored.
pub(super) fn latest(record: &Record, untold: u32, out: &mut Vec<Effect>) {
    let deeds: Vec<_> = record.deeds().collect();
    let first = deeds.len().saturating_sub(untold as usize);
    for known in &deeds[first..] {
        out.push(interaction(record, known, Source::Notice));
    }
}

/// Tells of the interactions that the record has now and had not before.
pub(super) fn interactions(
    before: Option<&Record>,
    record: &Record,
    source: Source,
    out: &mut Vec<Effect>,
) {
    for known in record.deeds() {
        let told = before.is_some_and(|before| {
            before.deeds().any(|old| {
                // A record that was rebuilt from the pod has it without its request.
                let nameless = old.interaction.request.is_empty();
                (nameless && known.is_told_by(old))
                    || (old.interaction.time == known.interaction.time && old.same_deed(known))
            })
        });
        if !told {
            out.push(interaction(record, known, source));
        }
    }
}

/// Tells of an extension or a hold that came, changed or went, and of an extension that counts for less since
/// a stricter interaction. A record that was rebuilt from the pod has nothing to compare them with: they were
/// told before.
pub(super) fn wishes(
    before: Option<&Record>,
    record: &Record,
    entry: &Entry,
    out: &mut Vec<Effect>,
) {
    let Some(before) = before else {
        return;
    };
    let (pod, id) = (&record.pod, &record.decisive().interaction.request);
    let cut = record.extension.is_some() && record.extension() < before.extension();
    if before.extension != record.extension || cut {
        out.push(Effect::Announce(Announcement::Extended {
            pod: pod.clone(),
            id: id.clone(),
            extension: record.extension.clone(),
            consequence: entry.extended(record),
            maximum: record.is_extended_to_the_last(),
        }));
    }
    if before.hold != record.hold {
        out.push(Effect::Announce(Announcement::Held {
            pod: pod.clone(),
            id: id.clone(),
            hold: record.hold.clone(),
            consequence: entry.consequence(record),
        }));
    }
}

fn interaction(record: &Record, known: &Known, source: Source) -> Effect {
    Effect::Announce(Announcement::Interaction {
        pod: record.pod.clone(),
        known: known.clone(),
        source,
        eviction_time: record.eviction_time(),
    })
}
