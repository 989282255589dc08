//! What users see of an interaction: the marks on the pod and its Events.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use curfew_core::{
    Interaction,
    metadata::{self, INTERACTED, LABEL, PREFIX},
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{Namespace, Scheduled, eventually};

/// Waits until the pod's marks and Events tell what the agent's record says.
pub async fn told(namespace: &Namespace, record: &Scheduled, within: Duration) -> Result<()> {
    let began = std::time::Instant::now();
    eventually(within, "label and annotations", async || {
        let pod = namespace.pods().get(&record.name).await?;
        check(&pod, record)?;
        Ok(Some(()))
    })
    .await?;
    let left = within.saturating_sub(began.elapsed());
    eventually(left, "the Event", async || {
        let events = events(namespace, &record.uid, "PodInteraction").await?;
        let notes: Vec<_> = events
            .iter()
            .filter_map(|event| event.message.clone())
            .collect();
        ensure!(events.iter().all(is_of_its_type), "{events:?}");
        let complete = notes.iter().any(|note| tells(note, record));
        ensure!(complete, "no Event has it all: {notes:?}");
        Ok(Some(()))
    })
    .await
}

/// Whether it warns, as all do but those of what is only recorded.
fn is_of_its_type(event: &Event) -> bool {
    let note = event.message.as_deref().unwrap_or_default();
    let recorded = ["it is only recorded", "because of another interaction"];
    let expected = match recorded.iter().any(|words| note.contains(words)) {
        true => "Normal",
        false => "Warning",
    };
    event.type_.as_deref() == Some(expected)
}

/// Whether the note says who, how, which command, when, and when the pod is evicted.
fn tells(note: &str, record: &Scheduled) -> bool {
    let Interaction {
        user,
        command,
        time,
        ..
    } = match record.interactions {
        // The API server may ask for the same interaction twice, and the second time moves `last`.
        1 => &record.decisive,
        _ => &record.last,
    };
    let mut facts = vec![user.clone(), command.to_string(), time.to_string()];
    facts.extend(record.eviction_time.map(|time| time.to_string()));
    facts.iter().all(|fact| note.contains(fact.as_str()))
}

/// Compares the marks on a pod with the agent's record of it.
///
/// # Errors
/// Tells the first difference.
pub fn check(pod: &Pod, record: &Scheduled) -> Result<()> {
    ensure!(
        pod.labels().get(LABEL).map(String::as_str) == Some(INTERACTED),
        "the label {LABEL} is not there: {:?}",
        pod.labels()
    );
    let Interaction {
        time,
        kind,
        user,
        container,
        command,
        ..
    } = &record.decisive;
    let command = (!command.is_empty()).then(|| command.to_string());
    let expected = [
        (metadata::INTERACTION_TIME, Some(time.to_string())),
        (metadata::INTERACTION, Some(kind.to_string())),
        (metadata::INTERACTOR, Some(user.clone())),
        (metadata::CONTAINER, container.clone()),
        (metadata::COMMAND, command),
        (
            metadata::INTERACTIONS,
            Some(record.interactions.to_string()),
        ),
        (
            metadata::EVICTION_TIME,
            record.eviction_time.map(|time| time.to_string()),
        ),
    ];
    for (key, value) in expected {
        let found = pod.annotations().get(key);
        ensure!(
            found == value.as_ref(),
            "{key} is {found:?} and should be {value:?}"
        );
    }
    for key in [metadata::TTL, metadata::MAX_EXTENSION] {
        let found = pod.annotations().contains_key(key);
        ensure!(
            found == record.eviction_time.is_some(),
            "{key} is there: {found}"
        );
    }
    let last = pod.annotations().get(metadata::LAST_INTERACTION);
    let last = last.with_context(|| format!("{} is not there", metadata::LAST_INTERACTION))?;
    let last: serde_json::Value = serde_json::from_str(last)?;
    let (last, expected) = (
        last["interaction"].clone(),
        serde_json::to_value(&record.last)?,
    );
    ensure!(
        last == expected,
        "the last interaction is {last} and should be {expected}"
    );
    Ok(())
}

/// Whether a pod carries nothing of Curfew's.
///
/// # Errors
/// Names what it carries.
pub fn clean(pod: &Pod) -> Result<()> {
    let keys = pod.labels().keys().chain(pod.annotations().keys());
    let marks: Vec<_> = keys.filter(|key| key.starts_with(PREFIX)).collect();
    if !marks.is_empty() {
        bail!("pod {} is marked: {marks:?}", pod.name_any());
    }
    Ok(())
}

/// Waits for an Event `PodInteraction` on the pod with this UID whose note contains these words.
///
/// # Errors
/// When there is none within that time.
pub async fn noted(namespace: &Namespace, uid: &str, within: Duration, words: &str) -> Result<()> {
    eventually(within, &format!("an Event with {words:?}"), async || {
        let events = events(namespace, uid, "PodInteraction").await?;
        let mut notes = events.iter().filter_map(|event| event.message.as_deref());
        Ok(notes.any(|note| note.contains(words)).then_some(()))
    })
    .await
}

/// The Events with this reason on the pod with this UID.
pub async fn events(namespace: &Namespace, uid: &str, reason: &str) -> Result<Vec<Event>> {
    let events: Api<Event> = Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},reason={reason}"));
    Ok(events.list(&about).await?.items)
}
