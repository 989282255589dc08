//! What happens is told in one place: its line in the log and its Event on the pod.

use std::time::Duration;

use curfew_core::{Action, Kind, PodId, text::cut};
use curfew_runtime::explain;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::mpsc;

use crate::{evict::Outcome, ledger::Announcement, metrics::Metrics};

/// Who reports, in Events.
const CONTROLLER: &str = "curfew.dev/agent";

/// The API server's limit of `reportingInstance`.
const MAX_INSTANCE: usize = 128;

/// The API server's limit of a note is 1,024 bytes.
const MAX_NOTE: usize = 1024;

/// As much of a user's name as a note has room for.
const MAX_USER: usize = 256;

/// How long the API server may take for an Event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An announcement and when it was made.
pub(crate) type Told = (Announcement, Timestamp);

/// Writes the line in the log.
pub(crate) fn log(announcement: &Announcement) {
    match announcement {
        Announcement::Interaction {
            pod,
            known,
            deadline,
        } => {
            let did = &known.interaction;
            tracing::info!(
                pod = %pod, uid = pod.uid, id = did.request, user = did.user, kind = %did.kind,
                container = did.container, command = %did.command, time = %did.time,
                eviction_time = deadline.map(|at| at.to_string()), "interaction"
            );
        }
        Announcement::Evicted {
            pod,
            decisive,
            deadline,
        } => tracing::info!(
            pod = %pod, uid = pod.uid, id = decisive.interaction.request,
            eviction_time = %deadline, "evicted"
        ),
        Announcement::StoreRebuilt { node, moved_to } => {
            tracing::error!(
                node,
                moved_to,
                "began a new store in place of a damaged one"
            );
        }
        Announcement::Blocked { pod, why } => tracing::warn!(
            pod = %pod, uid = pod.uid, reason = why.as_str(), message = why.message(),
            "eviction blocked"
        ),
    }
}

/// Posts the Events, one after the other, until nobody announces any more. An Event that the API server
/// does not take is counted and not tried again: what it tells stands on the pod, too.
pub(crate) async fn post_all(
    client: Client,
    instance: String,
    metrics: Metrics,
    mut announcements: mpsc::Receiver<Told>,
) -> anyhow::Result<()> {
    let instance = cut(&instance, MAX_INSTANCE).into_owned();
    while let Some((announcement, now)) = announcements.recv().await {
        let event = event(&announcement, &instance, now);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let params = PostParams::default();
        match tokio::time::timeout(TIMEOUT, events.create(&params, &event)).await {
            Ok(Ok(_)) => {}
            failed => {
                metrics.events_dropped.inc();
                let error = match failed {
                    Ok(Err(error)) => explain::short(&error),
                    _ => format!("no answer within {TIMEOUT:?}"),
                };
                tracing::warn!(
                    namespace,
                    reason = event.reason,
                    error,
                    "cannot post an Event"
                );
            }
        }
    }
    Ok(())
}

/// The Event that tells it, as `kubectl describe pod` and `kubectl events` show it.
fn event(announcement: &Announcement, instance: &str, now: Timestamp) -> Event {
    let (regarding, type_, reason, action, note) = match announcement {
        Announcement::Interaction {
            pod,
            known,
            deadline,
        } => {
            let did = &known.interaction;
            let user = cut(&did.user, MAX_USER);
            let what = match did.kind {
                Kind::Exec => "ran a command",
                Kind::Attach => "attached",
                Kind::Portforward => "forwarded a port",
                Kind::Debug => "added a debug container",
            };
            let mut note = format!("{user} {what} ({}) at {}", did.kind, did.time);
            if let Some(container) = &did.container {
                note += &format!(", container {container}");
            }
            match deadline {
                Some(deadline) => note += &format!("; the pod will be evicted at {deadline}"),
                None => note += "; it is only recorded, the pod stays",
            }
            if deadline.is_some() && known.terms.action == Action::Record {
                note += " because of another interaction";
            }
            // Last, so that nothing else is lost when it is cut.
            if !did.command.is_empty() {
                note += &format!("; command: {}", did.command);
            }
            (of_pod(pod), "Warning", "PodInteraction", "Interact", note)
        }
        Announcement::Evicted {
            pod,
            decisive,
            deadline,
        } => {
            let did = &decisive.interaction;
            let user = cut(&did.user, MAX_USER);
            let note = format!(
                "evicted: its time ended at {deadline}, after {user} interacted with it ({}) at {}",
                did.kind, did.time
            );
            (
                of_pod(pod),
                "Normal",
                "PodInteractionEvicted",
                "Evict",
                note,
            )
        }
        Announcement::StoreRebuilt { node, moved_to } => {
            let note = format!(
                "the agent's store was damaged and moved to {moved_to}; what is known of the node's \
                 pods was rebuilt from their metadata; delete it when it is not wanted for diagnosis"
            );
            (of_node(node), "Warning", "StoreRebuilt", "Rebuild", note)
        }
        Announcement::Blocked { pod, why } => {
            let advice = match why {
                Outcome::Budget(_) => "it is asked for again until the budget has room",
                Outcome::Budgets(_) => {
                    "leave only one PodDisruptionBudget whose selector matches the pod"
                }
                _ => {
                    "check the rights of the ServiceAccount curfew-agent and other admission webhooks"
                }
            };
            let note = format!("cannot be evicted yet: {}; {advice}", why.message());
            (
                of_pod(pod),
                "Warning",
                "PodInteractionEvictionBlocked",
                "Evict",
                note,
            )
        }
    };
    let name = name_stem(regarding.name.as_deref().unwrap_or_default());
    // Events of what has no namespace stand in the default one.
    let namespace = regarding.namespace.as_deref().unwrap_or("default");
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            // As client-go names them; the pod's name may be as long as an Event's.
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        regarding: Some(regarding),
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        action: Some(action.to_owned()),
        note: Some(cut(&note, MAX_NOTE).into_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

fn of_pod(pod: &PodId) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}

/// The kubelet, too, gives a node's name as its UID, and `kubectl describe node` looks for that.
fn of_node(node: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(node.to_owned()),
        ..ObjectReference::default()
    }
}

/// As much of a name as leaves room for the rest; it does not end in the separator of labels.
fn name_stem(name: &str) -> &str {
    let end = name.len().min(200);
    name.get(..end)
        .unwrap_or_default()
        .trim_end_matches(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, record, shell};
    use curfew_core::{Command, interaction};

    fn note_of(announcement: &Announcement) -> String {
        event(announcement, "curfew-agent-x", at(0)).note.unwrap()
    }

    #[test]
    fn says_who_how_which_command_when_and_what_follows() {
        let announcement = Announcement::Interaction {
            pod: record("u-1", shell(0)).pod,
            known: shell(0),
            deadline: Some(at(600)),
        };
        assert_eq!(
            note_of(&announcement),
            "alice ran a command (exec) at 2027-01-15T08:00:00Z, container app; the pod will be \
             evicted at 2027-01-15T08:10:00Z; command: sh -c id"
        );
    }

    #[test]
    fn fits_the_limits_of_the_api_whatever_users_send() {
        let mut known = shell(0);
        known.interaction.user = "ü".repeat(interaction::MAX_USER / 2);
        known.interaction.command = Command::new(["x".repeat(5000)]);
        let mut pod = record("u-1", shell(0)).pod;
        pod.name = "a.".repeat(126);
        let event = event(
            &Announcement::Interaction {
                pod,
                known,
                deadline: Some(at(600)),
            },
            "i",
            at(0),
        );
        let note = event.note.unwrap();
        assert!(note.len() <= MAX_NOTE, "{}", note.len());
        assert!(note.contains("evicted at"));
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    }
}
