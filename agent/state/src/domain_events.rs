//! What is reported when a record changes. Each report is created in one place. No I/O.

use curfew_core::{Drift, Ending, Record, RecordedInteraction};

use crate::{
    action::Decisions,
    event::{
        DomainEvent, DriftFound, EvictionOrder, ExtensionChange, HoldChange, MarkRefusal, More,
        NewInteraction, PodEviction, PodReleased, Source,
    },
    pod::PodEntry,
    pod_view::PodSnapshot,
};

/// Tells that the eviction was accepted, or would be.
pub(super) fn eviction(
    record: &Record,
    pod: Option<&PodSnapshot>,
    dry_run: bool,
) -> Option<DomainEvent> {
    Some(DomainEvent::Evicted(PodEviction {
        pod: record.pod.clone(),
        decisive: record.decisive().cloned(),
        evict_now: record.evict_now().cloned(),
        ids: record.requests(),
        eviction_time: record.eviction_time()?,
        dry_run,
        bare: pod.is_some_and(|pod| pod.bare),
    }))
}

/// Tells that the pod's metadata cannot be written.
pub(super) fn unmarked(record: &Record, code: u16, why: &str, again: bool) -> DomainEvent {
    DomainEvent::Unmarked(MarkRefusal {
        pod: record.pod.clone(),
        ids: record.requests(),
        code,
        why: why.to_owned(),
        eviction_time: record.eviction_time(),
        dry_run: record.is_dry_run(),
        again,
    })
}

/// Tells that the pod is gone.
pub(super) fn gone(record: &Record) -> DomainEvent {
    DomainEvent::Gone {
        pod: record.pod.clone(),
        id: record.decisive_request(),
        ids: record.requests(),
    }
}

/// Reports the latest `untold` interactions, which the previous agent process stored.
pub(super) fn latest(record: &Record, untold: u32, ending: Option<Ending>, out: &mut Decisions) {
    let interactions: Vec<_> = record.distinct().collect();
    let first = interactions.len().saturating_sub(untold as usize);
    let interactions = &interactions[first..];
    several(record, interactions, untold, Source::Notice, ending, out);
}

/// Tells of an interaction that was noticed, whether there was room to keep it or not; not of a
/// repetition.
pub(super) fn noticed(
    before: Option<&Record>,
    record: &Record,
    known: &RecordedInteraction,
    ending: Option<Ending>,
    out: &mut Decisions,
) {
    if record.interactions() > before.map_or(0, Record::interactions) {
        out.events
            .push(interaction(record, known, Source::Notice, ending, None));
    }
}

/// Tells of the interactions that the pod's metadata tell and the record did not have before.
pub(super) fn learned(
    before: Option<&Record>,
    record: &Record,
    ending: Option<Ending>,
    out: &mut Decisions,
) {
    let unknown =
        |known: &&RecordedInteraction| before.is_none_or(|before| !before.tells_of(known));
    let news: Vec<_> = record.distinct().filter(unknown).collect();
    let before = before.map_or(0, Record::interactions);
    let times = record.interactions().saturating_sub(before);
    several(record, &news, times, Source::Metadata, ending, out);
}

/// Tells of the interactions that were known before, and turned out to be irregular.
pub(super) fn irregular(
    before: Option<&Record>,
    record: &Record,
    ending: Option<Ending>,
    out: &mut Decisions,
) {
    let Some(before) = before else { return };
    for known in record.irregular_since(before) {
        out.events
            .push(interaction(record, known, Source::Leftovers, ending, None));
    }
}

/// Tells of so many interactions, of which these are kept: the others are told with the last of them.
fn several(
    record: &Record,
    kept: &[&RecordedInteraction],
    times: u32,
    source: Source,
    ending: Option<Ending>,
    out: &mut Decisions,
) {
    let Some((last, others)) = kept.split_last() else {
        return;
    };
    for known in others {
        out.events
            .push(interaction(record, known, source, ending, None));
    }
    let times = times.saturating_sub(kept.len() as u32);
    let since = record.distinct().map(|known| known.interaction.time).min();
    let more = since.filter(|_| times > 0);
    let more = more.map(|since| More { times, since });
    out.events
        .push(interaction(record, last, source, ending, more));
}

/// Tells of interactions that are exempt no longer, because the pod has another controller.
pub(super) fn exemption_ended(
    entry: &PodEntry,
    started: &[RecordedInteraction],
    out: &mut Decisions,
) {
    if let Some(record) = &entry.record {
        let told = started
            .iter()
            .map(|known| interaction(record, known, Source::Controller, entry.ending(), None));
        out.events.extend(told);
    }
}

/// Tells of an extension or a hold that came, changed or went, and of an extension that counts for less since
/// a stricter interaction. A record that was rebuilt from the pod has nothing to compare them with: they were
/// told before.
pub(super) fn overrides(
    before: Option<&Record>,
    record: &Record,
    entry: &PodEntry,
    out: &mut Decisions,
) {
    let Some(before) = before else {
        return;
    };
    let (pod, id) = (&record.pod, record.decisive_request());
    let cut = record.extension.is_some() && record.extension() < before.extension();
    if before.extension != record.extension || cut {
        out.events.push(DomainEvent::Extended(ExtensionChange {
            pod: pod.clone(),
            id: id.clone(),
            extension: record.extension.clone(),
            consequence: entry.extended(record),
            dry_run: record.is_dry_run(),
            maximum: record.is_extended_to_the_last(),
        }));
    }
    if before.hold != record.hold {
        out.events.push(DomainEvent::Held(HoldChange {
            pod: pod.clone(),
            id,
            hold: record.hold.clone(),
            consequence: entry.consequence(record),
            dry_run: record.is_dry_run(),
        }));
    }
}

/// Tells of an order to evict the pod now. An order that was in force before the record was rebuilt from the pod was
/// told before.
pub(super) fn ordered(
    before: Option<&Record>,
    record: &Record,
    entry: &PodEntry,
    in_force_before: bool,
    out: &mut Decisions,
) {
    let is_told = before.map_or(in_force_before, |before| before.evict_now().is_some());
    if let Some(order) = record.evict_now().filter(|_| !is_told) {
        out.events.push(DomainEvent::EvictNow(EvictionOrder {
            pod: record.pod.clone(),
            id: record.decisive_request(),
            order: order.clone(),
            consequence: entry.consequence(record),
        }));
    }
}

/// Tells what a look found where the one before found something else.
pub(super) fn drifted(before: Option<&Drift>, record: &Record, out: &mut Decisions) {
    let Some(drift) = record.drift.as_deref() else {
        return;
    };
    if before.map(Drift::outcome) != Some(drift.outcome()) {
        out.events.push(DomainEvent::Drifted(DriftFound {
            pod: record.pod.clone(),
            id: record.decisive_request(),
            drift: drift.clone(),
            before: before.map(|before| before.verdict),
            eviction_time: record.eviction_time(),
            dry_run: record.is_dry_run(),
        }));
    }
}

/// Tells that the pod, which is still as it was before, is released.
pub(super) fn released(record: &Record, drift: &Drift) -> Option<DomainEvent> {
    Some(DomainEvent::Released(PodReleased {
        pod: record.pod.clone(),
        decisive: record.decisive().cloned(),
        ids: record.requests(),
        drift: drift.clone(),
        eviction_time: record.eviction_time()?,
        dry_run: record.is_dry_run(),
    }))
}

fn interaction(
    record: &Record,
    known: &RecordedInteraction,
    source: Source,
    ending: Option<Ending>,
    more: Option<More>,
) -> DomainEvent {
    DomainEvent::Interaction(NewInteraction {
        pod: record.pod.clone(),
        known: known.clone(),
        source,
        eviction_time: record.eviction_time(),
        dry_run: record.is_dry_run(),
        ending,
        more,
    })
}
