//! `kubectl pi node`: what the agent of a node knows and is going to do.
//!
//! The agent tells that on loopback of its pod only, so it is asked by port-forward through the API
//! server: whoever may forward ports in Curfew's namespace sees it.

mod web;

use anyhow::{Context, bail};
use curfew_core::{Enforcement, duration::relative};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    cli::{NodeArgs, NodeOutput, Target},
    cluster::{agent, connection::Connection},
    output,
    print::table::plain,
};

const SCHEDULE: &str = "/v1/schedule";

/// Of the agent's answer what the table shows.
#[derive(Debug, Deserialize)]
struct Schedule {
    now: Timestamp,
    synced: bool,
    store: Store,
    records: Vec<Scheduled>,
}

#[derive(Debug, Deserialize)]
struct Store {
    open: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scheduled {
    namespace: String,
    name: String,
    state: String,
    #[serde(default)]
    reason: Option<String>,
    eviction_time: Option<Timestamp>,
    /// Agents of earlier releases know no dry runs.
    #[serde(default)]
    enforcement: Option<Enforcement>,
    interactions: u32,
    /// None where nobody interacted with the pod, and somebody ordered to evict it.
    #[serde(default)]
    decisive: Decisive,
}

#[derive(Debug, Default, Deserialize)]
struct Decisive {
    user: String,
    kind: String,
}

/// Shows the schedule of a node.
pub(crate) async fn run(target: &Target, args: NodeArgs) -> anyhow::Result<bool> {
    let client = Connection::open(target)?.client;
    let name = args.node.strip_prefix("node/").unwrap_or(&args.node);
    let answer = agent::ask(&client, name, SCHEDULE).await?;
    if args.web {
        // The same right and the same way: what would fail has failed by now.
        if answer.get("release").is_none() {
            bail!("the agent of {name} is from an earlier release that has no page");
        }
        // Its connections are quiet for as long as their browser is.
        let client = Connection::open_to_watch(target)?.client;
        web::serve(client, name.to_owned(), args.port, !args.no_open).await?;
        return Ok(true);
    }
    match args.output {
        NodeOutput::Json => output::print(&output::json(&answer)?)?,
        NodeOutput::Table => {
            let schedule = Schedule::deserialize(&answer)
                .with_context(|| format!("the agent of {name} is from another release"))?;
            show(&schedule, name)?;
        }
    }
    Ok(true)
}

fn show(schedule: &Schedule, node: &str) -> anyhow::Result<()> {
    if !schedule.synced {
        output::note(&format!(
            "the agent of {node} has not seen all pods of its node yet"
        ));
    }
    if !schedule.store.open {
        output::note(&format!(
            "the store of {node}'s agent is not open: its log says why"
        ));
    }
    if schedule.records.is_empty() {
        output::note(&format!("Nobody interacted with a pod of {node}."));
        return Ok(());
    }
    let heads = [
        "NAMESPACE",
        "POD-NAME",
        "STATE",
        "INTERACTOR",
        "INTERACTION",
        "INTERACTIONS",
        "EVICTION-TIME",
        "REASON",
    ];
    let lines = schedule.records.iter().map(|pod| {
        let dry_run = match pod.enforcement {
            Some(Enforcement::DryRun) => ", dry run",
            _ => "",
        };
        let when = pod
            .eviction_time
            .map(|at| format!("{at} ({}{dry_run})", relative(at, schedule.now)));
        [
            pod.namespace.clone(),
            pod.name.clone(),
            pod.state.clone(),
            pod.decisive.user.clone(),
            pod.decisive.kind.clone(),
            pod.interactions.to_string(),
            when.unwrap_or_default(),
            pod.reason.clone().unwrap_or_default(),
        ]
    });
    Ok(output::print(&plain(heads, lines))?)
}
