//! `kubectl pi describe`: all that can be known of a pod, for people.

mod drift;

use curfew_core::{
    Record, RecordedInteraction,
    budget::{NeverRoom, Numbers},
    duration::{self, relative},
    metadata,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Event, Pod},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{
    cli::{Describe, Target},
    cluster::{
        blocks::{Blocks, last_seen},
        connection::Connection,
        detach::{controller, is_detached, matches},
        find,
        shortened::{self, is_shortened},
    },
    output,
    print::{
        page::Page,
        row::{self, Row, Sighting, annotation},
        table::plain,
    },
};

/// A pod has a handful.
const MAX_EVENTS: u32 = 500;
/// How the reasons of Curfew's Events begin.
const REASONS: &str = "PodInteraction";

/// Describes the pods. Returns whether all of them were found.
pub(crate) async fn run(target: &Target, args: Describe) -> anyhow::Result<bool> {
    let Connection { client, namespace } = Connection::open(target)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut complete = true;
    let mut texts = Vec::new();
    let which = &args.which;
    let got = match which.pods.is_empty() {
        false => find::named(&which.pods, async |name| pods.get(name).await).await,
        true => {
            let list = async |params| pods.list(&params).await;
            let mut found = find::marked(which.selector.as_deref(), list).await?;
            found.sort_by_cached_key(|pod| row::order(&pod.metadata));
            if found.is_empty() {
                output::note(&find::none_in(Some(&namespace)));
            }
            found.into_iter().map(Ok).collect()
        }
    };
    for got in got {
        if let Some(pod) = find::or_tell(got, &mut complete)? {
            texts.push(describe(&client, pod).await);
        }
    }
    output::print(&texts.join("\n\n"))?;
    Ok(complete)
}

async fn describe(client: &Client, mut pod: Pod) -> String {
    let now = Timestamp::now();
    let source = source(client, &mut pod).await;
    let meta = &pod.metadata;
    // What the user may not read is left out and said.
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let (events, budgets, drift) = futures::join!(
        events(client, meta),
        budgets(client, meta),
        drift::details(client, meta, node)
    );
    let mut blocks = Blocks::default();
    for event in events.iter().flatten() {
        blocks.learn(event.clone());
    }
    let seen = Sighting {
        meta,
        node,
        phase: pod.status.as_ref().and_then(|s| s.phase.as_deref()),
    };
    let row = Row::new(seen, &blocks, now);
    let mut page = Page::default();
    page.line("Name", &pod.name_any());
    page.line("Namespace", &pod.namespace().unwrap_or_default());
    page.line("Node", seen.node.unwrap_or("<none>"));
    page.line("Owner", &owner(meta));
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    page.line("Priority", &priority.unwrap_or_default().to_string());
    if !find::is_marked(meta) {
        page.line("State", "untouched: nobody interacted with it");
        return page.0;
    }
    let detached = match is_detached(meta) {
        true => ", detached: its owner and Services no longer select it",
        false => "",
    };
    page.line("State", &format!("{}{detached}", row.state.as_str()));
    page.maybe("Source", source.as_deref());
    page.maybe("Reason", row.reason.as_deref());
    let when = row.eviction_time(now);
    page.line("Eviction Time", when.as_deref().unwrap_or("<none>"));
    terms(&mut page, meta);
    if let Some(record) = row::record(meta) {
        interactions(&mut page, &record, now);
    }
    drift::line(&mut page, meta, drift.as_ref(), now);
    drift::sections(&mut page, drift.as_ref());
    section(&mut page, "Disruption Budgets", budgets, budget_table);
    section(&mut page, "Events", events, |events| {
        event_table(events, now)
    });
    page.0
}

/// Where all of this is from, unless the pod itself tells it.
async fn source(client: &Client, pod: &mut Pod) -> Option<String> {
    if !is_shortened(&pod.metadata) {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let node = node.unwrap_or_default();
    let asked = [(&mut pod.metadata, node.clone())];
    let failed = shortened::complete(client, asked).await;
    Some(match failed.first() {
        None => format!("the agent of {node}, because the pod's annotations are nearly full"),
        Some(why) => format!("the pod's annotations, which have no room for everything ({why:#})"),
    })
}

/// A table of what could be read, if there is any.
fn section<T>(
    page: &mut Page,
    title: &str,
    found: kube::Result<Vec<T>>,
    table: impl FnOnce(&[T]) -> String,
) {
    match found {
        Ok(found) if found.is_empty() => page.section(title, Err("<none>")),
        Ok(found) => page.section(title, Ok(&table(&found))),
        Err(error) => page.section(title, Err(&format!("cannot be read: {error}"))),
    }
}

fn terms(page: &mut Page, meta: &ObjectMeta) {
    let by = |key| annotation(meta, key).unwrap_or("somebody");
    page.maybe("Time To Live", annotation(meta, metadata::TTL));
    if let Some(extension) = annotation(meta, metadata::EXTENSION) {
        let requester = by(metadata::EXTENSION_REQUESTER);
        let counts =
            counts(meta).map_or_else(String::new, |most| format!(" (only {most} of it counts)"));
        page.line("Extension", &format!("{extension}, by {requester}{counts}"));
    }
    page.maybe(
        "Longest Extension",
        annotation(meta, metadata::MAX_EXTENSION),
    );
    if let Some(order) = row::evict_now(meta) {
        let requester = match order.requester.as_str() {
            "" => "somebody",
            requester => requester,
        };
        page.line("Evict Now", &format!("{}, by {requester}", order.reason));
    }
    if let Some(hold) = annotation(meta, metadata::HOLD) {
        let requester = by(metadata::HOLD_REQUESTER);
        page.line("Hold", &format!("{hold}, by {requester}"));
    }
}

/// How much of the extension counts, where that is not all of it: another interaction may allow less than
/// was allowed when it was set.
fn counts(meta: &ObjectMeta) -> Option<&str> {
    let most = annotation(meta, metadata::MAX_EXTENSION)?;
    let by = metadata::extension(meta.annotations.as_ref()?)?.by;
    (by > duration::parse(most).ok()?).then_some(most)
}

fn interactions(page: &mut Page, record: &Record, now: Timestamp) {
    page.line("Interactions", &record.interactions().to_string());
    let (Some(decisive), Some(last)) = (record.decisive(), record.last()) else {
        return;
    };
    let title = match record.deadline() {
        Some(_) => "Deadline Set By",
        None => "First",
    };
    page.line(title, &told(decisive, now));
    let [first, latest] = [decisive, last].map(|known| &known.interaction);
    if latest.time != first.time || latest.kind != first.kind || latest.user != first.user {
        page.line("Last", &told(last, now));
    }
}

/// `alice (User), exec into main, 2026-03-01T12:00:00Z (3s ago): sh -c id`
fn told(known: &RecordedInteraction, now: Timestamp) -> String {
    let did = &known.interaction;
    let mut text = format!("{} ({}), {}", did.user, did.actor(), did.kind);
    if let Some(container) = &did.container {
        text += &format!(" into {container}");
    }
    text += &format!(", {} ({})", did.time, relative(did.time, now));
    if !did.command.is_empty() {
        text += &format!(": {}", did.command);
    }
    if let Some(why) = &known.irregular {
        text += &format!(" (irregular: {why})");
    }
    text
}

fn owner(meta: &ObjectMeta) -> String {
    match controller(meta) {
        Some(owner) => format!("{}/{}", owner.kind.to_lowercase(), owner.name),
        None => "<none>: nothing would replace it".to_owned(),
    }
}

/// Curfew's Events on the pod, the oldest first.
async fn events(client: &Client, meta: &ObjectMeta) -> kube::Result<Vec<Event>> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default()
        .fields(&format!("involvedObject.uid={uid}"))
        .limit(MAX_EVENTS);
    let mut found = events.list(&about).await?.items;
    found.retain(|event| {
        let reason = event.reason.as_deref().unwrap_or_default();
        reason.starts_with(REASONS)
    });
    found.sort_by_key(last_seen);
    Ok(found)
}

/// The budgets whose selector matches the pod.
async fn budgets(client: &Client, meta: &ObjectMeta) -> kube::Result<Vec<PodDisruptionBudget>> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
    let mut found = budgets.list(&ListParams::default()).await?.items;
    let labels = meta.labels.clone().unwrap_or_default();
    found.retain(|budget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| matches(selector, &labels))
    });
    Ok(found)
}

fn budget_table(budgets: &[PodDisruptionBudget]) -> String {
    let heads = [
        "NAME",
        "MIN-AVAILABLE",
        "MAX-UNAVAILABLE",
        "HEALTHY",
        "NEEDED",
        "ALLOWED",
    ];
    let lines = budgets.iter().map(|budget| {
        let spec = budget.spec.clone().unwrap_or_default();
        let status = budget.status.clone().unwrap_or_default();
        [
            budget.name_any(),
            bound(&spec.min_available).unwrap_or_default(),
            bound(&spec.max_unavailable).unwrap_or_default(),
            status.current_healthy.to_string(),
            status.desired_healthy.to_string(),
            status.disruptions_allowed.to_string(),
        ]
    });
    let advice = budgets.iter().filter_map(|budget| {
        let never = never(budget)?;
        Some(format!("{}: {never}\n", budget.name_any()))
    });
    plain(heads, lines) + &advice.collect::<String>()
}

fn bound(value: &Option<IntOrString>) -> Option<String> {
    match value {
        Some(IntOrString::Int(number)) => Some(number.to_string()),
        Some(IntOrString::String(text)) => Some(text.clone()),
        None => None,
    }
}

/// Why the budget never has room, if it never has.
fn never(budget: &PodDisruptionBudget) -> Option<NeverRoom> {
    let spec = budget.spec.as_ref()?;
    let (min, max) = (bound(&spec.min_available), bound(&spec.max_unavailable));
    // Other numbers are those of an earlier spec.
    let current = budget.status.as_ref().filter(|status| {
        status.observed_generation.unwrap_or_default()
            >= budget.metadata.generation.unwrap_or_default()
    });
    NeverRoom::of(Numbers {
        min_available: min.as_deref(),
        max_unavailable: max.as_deref(),
        desired: current.map(|status| status.desired_healthy),
        expected: current.map(|status| status.expected_pods),
    })
}

fn event_table(events: &[Event], now: Timestamp) -> String {
    let heads = ["LAST-SEEN", "TIMES", "TYPE", "REASON", "MESSAGE"];
    let lines = events.iter().map(|event| {
        let seen = last_seen(event).map(|seen| relative(seen, now));
        let times = event.series.as_ref().and_then(|series| series.count);
        [
            seen.unwrap_or_default(),
            times.unwrap_or(1).to_string(),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            event.message.clone().unwrap_or_default(),
        ]
    });
    plain(heads, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::{at, marked};
    use curfew_core::Kind;
    use serde_json::json;

    #[test]
    fn an_interaction_is_told_in_a_line() {
        let record = row::record(&marked("web-1", Kind::Exec, None)).unwrap();
        let now = at("2026-03-01T12:00:03Z");
        assert_eq!(
            told(record.last().unwrap(), now),
            "alice (User), exec into main, 2026-03-01T12:00:00Z (3s ago): sh"
        );
        let irregular = curfew_core::RecordedInteraction {
            irregular: Some("alice was never seen in deployment web".into()),
            ..record.last().unwrap().clone()
        };
        assert!(
            told(&irregular, now)
                .ends_with(": sh (irregular: alice was never seen in deployment web)")
        );
    }

    #[test]
    fn an_extension_that_is_cut_says_so() {
        let mut pod = marked("web-1", Kind::Exec, None);
        for (extension, counted) in [("30m", None), ("1h", None), ("8h", Some("1h0m0s"))] {
            let annotations = pod.annotations.get_or_insert_default();
            annotations.insert(metadata::EXTENSION.into(), extension.into());
            assert_eq!(counts(&pod), counted, "{extension}");
        }
    }

    #[test]
    fn budgets_show_their_numbers() {
        let budget = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"minAvailable": "50%"},
            "status": {"currentHealthy": 2, "desiredHealthy": 2, "disruptionsAllowed": 0, "expectedPods": 2},
        }))
        .unwrap();
        let table = budget_table(&[budget]);
        let line = table.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["web", "50%", "<none>", "2", "2", "0"]);
        let advice = table.lines().nth(2).unwrap();
        assert!(
            advice.starts_with("web: this budget never allows an eviction while it selects 2 pods"),
            "{advice}"
        );
    }
}
