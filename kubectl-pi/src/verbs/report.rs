//! `kubectl pi report`: who touched what how often, and what went or would have gone.
//!
//! It reads what stands on the pods, and what the agents know beyond that: more interactions of each pod, what the API
//! server answered, and pods that are gone. Whoever may not forward ports in Curfew's namespace gets a report of what
//! stands on the pods, which says so.
//!
//! A pod's interactions are kept only as far as there is room for them; the others are counted. So the report never
//! says more of a pod than is known.

mod suggest;
mod tally;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use anyhow::Context;
use curfew_core::{Record, workload::TEMPLATE_HASH};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Resource, api::DynamicObject};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use self::tally::{Evicted, Group, Touched};
use crate::{
    cli::{By, Report, ReportOutput, Target},
    cluster::{agent, connection::Connection, detach::controller, find, placed::api},
    output,
    print::{row, table::plain, yaml},
};

const SCHEDULE: &str = "/v1/schedule";

/// How long an agent may take. Without its answer there is still what stands on the pods.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many agents are asked at once.
const AT_ONCE: usize = 4;

/// What an agent's store holds.
#[derive(Debug, Deserialize)]
struct AgentRecords {
    records: Vec<AgentRecord>,
}

/// Those of another release may be readable in part only.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AgentRecord {
    Known(Box<Record>),
    Unknown(IgnoredAny),
}

/// Of an agent's schedule what is reported.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentSchedule {
    records: Vec<PodState>,
    recent_evictions: Vec<Evicted>,
}

#[derive(Debug, Deserialize)]
struct PodState {
    uid: String,
    state: String,
}

/// What is known of the pods, by UID, and of those that are gone.
#[derive(Debug, Default)]
struct Knowledge {
    pods: BTreeMap<String, Touched>,
    gone: Vec<Evicted>,
    /// Why some agents could not be read.
    unread: Vec<String>,
}

/// Reports. Returns whether all that was asked for is in it.
pub(crate) async fn run(target: &Target, args: Report) -> anyhow::Result<bool> {
    let Connection { client, namespace } = Connection::open(target)?;
    let namespace = (!args.all_namespaces).then_some(namespace);
    let since = match args.since {
        Some(ago) => Timestamp::now().checked_sub(SignedDuration::try_from(ago)?)?,
        None => Timestamp::MIN,
    };
    let selector = args.selector.as_deref();
    let mut known = Knowledge {
        pods: marked(&client, namespace.as_deref(), selector).await?,
        ..Knowledge::default()
    };
    known.ask_agents(&client).await;
    let in_scope = |gone: &Evicted| {
        namespace.as_ref().is_none_or(|own| *own == gone.namespace) && gone.time >= since
    };
    // Of a pod that is gone nobody knows the labels.
    known
        .gone
        .retain(|gone| selector.is_none() && in_scope(gone));
    for why in &known.unread {
        output::note(&format!(
            "Not all that agents know is in this report: {why}"
        ));
    }
    if args.suggest {
        match suggest::policy(known.pods.values(), since) {
            Some(policy) => output::print(&policy)?,
            None => output::note(suggest::NONE),
        }
        return Ok(true);
    }
    let groups = tally::groups(args.by, known.pods.values(), &known.gone, since);
    match args.output {
        ReportOutput::Table if groups.is_empty() => {
            output::note(&find::none_in(namespace.as_deref()));
        }
        ReportOutput::Table => output::print(&as_table(args.by, &groups))?,
        ReportOutput::Json | ReportOutput::Yaml => {
            let by = column(args.by).to_lowercase();
            let since = args.since.map(|_| since.to_string());
            let shown = json!({
                "by": by, "since": since, "groups": groups, "unread": known.unread,
            });
            match args.output {
                ReportOutput::Yaml => output::print(&yaml::render(&shown))?,
                _ => output::print(&output::json(&shown)?)?,
            }
        }
    }
    Ok(true)
}

/// The marked pods, by UID. Of each page only what is reported is kept.
async fn marked(
    client: &Client,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> anyhow::Result<BTreeMap<String, Touched>> {
    let pods = api::<DynamicObject>(client, namespace);
    let found = RefCell::new(BTreeMap::new());
    find::marked(selector, async |params| {
        let mut page = pods.list_metadata(&params).await?;
        for pod in page.items.drain(..) {
            if let Some(touched) = touched(pod.meta()) {
                let uid = pod.metadata.uid.unwrap_or_default();
                found.borrow_mut().insert(uid, touched);
            }
        }
        Ok(page)
    })
    .await?;
    Ok(found.into_inner())
}

/// What a pod tells; none where that cannot be read.
fn touched(pod: &ObjectMeta) -> Option<Touched> {
    Some(Touched {
        namespace: pod.namespace.clone()?,
        workload: workload(pod),
        record: row::record(pod)?,
        state: None,
    })
}

/// What would replace the pod: of a ReplicaSet the Deployment. The name of such a ReplicaSet is that of its Deployment,
/// a hyphen, and the value of [`TEMPLATE_HASH`].
fn workload(pod: &ObjectMeta) -> String {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let Some(owner) = controller(pod) else {
        let name = pod.name.as_deref().unwrap_or_default();
        return format!("{namespace}/pod/{name}");
    };
    let hash = pod
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| {
            let stem = owner.name.strip_suffix(hash.as_str())?;
            stem.strip_suffix('-')
        });
    match deployment {
        Some(name) => format!("{namespace}/deployment/{name}"),
        None => format!("{namespace}/{}/{}", owner.kind.to_lowercase(), owner.name),
    }
}

impl Knowledge {
    /// Adds what the agents know.
    async fn ask_agents(&mut self, client: &Client) {
        let nodes = match agent::nodes(client).await {
            Ok(nodes) => nodes,
            Err(error) => {
                let error = output::sentence(&error.into());
                self.unread
                    .push(format!("the agents cannot be listed: {error}"));
                return;
            }
        };
        let answers = stream::iter(nodes).map(|node| async move {
            let asked = tokio::time::timeout(PATIENCE, ask(client, &node)).await;
            let asked = asked
                .with_context(|| format!("no answer within {PATIENCE:?}"))
                .flatten();
            (node, asked)
        });
        let mut answers = answers.buffer_unordered(AT_ONCE).boxed_local();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Ok((holdings, schedule)) => self.learn(holdings, schedule),
                Err(error) => self.unread.push(format!("node {node}: {error:#}")),
            }
        }
        self.unread.sort_unstable();
    }

    fn learn(&mut self, holdings: AgentRecords, schedule: AgentSchedule) {
        for stored in holdings.records {
            if let AgentRecord::Known(record) = stored
                && let Some(touched) = self.pods.get_mut(&record.pod.uid)
            {
                touched.record.join(*record);
            }
        }
        for PodState { uid, state } in schedule.records {
            if let Some(touched) = self.pods.get_mut(&uid) {
                touched.state = state.parse().ok();
            }
        }
        let accepted = |gone: &Evicted| gone.result == "accepted";
        let evicted = schedule.recent_evictions.into_iter().filter(accepted);
        // One that is still there has its grace period, and is counted as a pod.
        let gone = evicted.filter(|gone| !self.pods.contains_key(&gone.uid));
        self.gone.extend(gone);
    }
}

/// What the agent of a node knows.
async fn ask(client: &Client, node: &str) -> anyhow::Result<(AgentRecords, AgentSchedule)> {
    let store = agent::read(client, node, agent::STORE).await?;
    let holdings = serde_json::from_slice(&store)?;
    drop(store);
    let schedule = agent::read(client, node, SCHEDULE).await?;
    Ok((holdings, serde_json::from_slice(&schedule)?))
}

fn column(by: By) -> &'static str {
    match by {
        By::User => "USER",
        By::Workload => "WORKLOAD",
        By::Command => "COMMAND",
        By::Policy => "POLICY",
    }
}

fn as_table(by: By, groups: &[Group]) -> String {
    let heads = [
        column(by),
        "INTERACTIONS",
        "PODS",
        "EVICTED",
        "WAITING",
        "BLOCKED",
        "WOULD-GO",
        "WOULD-BE-BLOCKED",
        "RECORDED",
        "LAST",
    ];
    let lines = groups.iter().map(|group| {
        [
            group.key.clone(),
            group.interactions.to_string(),
            group.pods.to_string(),
            group.evicted.to_string(),
            group.waiting.to_string(),
            group.blocked.to_string(),
            group.would_go.to_string(),
            group.would_be_blocked.to_string(),
            group.recorded.to_string(),
            group.last.to_string(),
        ]
    });
    plain(heads, lines)
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
