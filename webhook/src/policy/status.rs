//! Writes to the status of a policy whether the policy is in force.
//!
//! Every replica does this, and all replicas of one release write the same. Replicas of two releases may disagree.
//! So each replica writes the status of one version of a policy only once, and then accepts what the others write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use curfew_crd::Stored;
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use curfew_runtime::{api, error_chain};

use super::cache::{PolicySet, Report};
use crate::names::MANAGER;

/// Until what could not be told is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// Tells what is to be told. Ends only when nobody keeps what is known any more.
pub(super) async fn report(
    policies: Api<Stored>,
    mut known: watch::Receiver<Option<Arc<PolicySet>>>,
) {
    // The versions of policies that this replica has logged, and whether it is done with them.
    let mut spoken: HashMap<String, (String, i64, bool)> = HashMap::new();
    loop {
        let reports = match known.borrow_and_update().as_deref() {
            Some(known) => known.reports.clone(),
            None => Vec::new(),
        };
        spoken.retain(|name, _| reports.iter().any(|report| report.name == *name));
        for report in reports {
            let before = spoken.remove(&report.name).filter(|(uid, generation, _)| {
                (uid, *generation) == (&report.uid, report.generation)
            });
            if before.is_none() {
                log(&report);
            }
            let done = before.is_some_and(|(.., done)| done)
                || report.is_told()
                || tell(&policies, &report).await;
            spoken.insert(report.name, (report.uid, report.generation, done));
        }
        let all_told = spoken.values().all(|(.., done)| *done);
        tokio::select! {
            changed = known.changed() => if changed.is_err() { return },
            () = sleep(PAUSE), if !all_told => {}
        }
    }
}

fn log(report: &Report) {
    match &report.rejected {
        None => tracing::info!(
            event = "policy",
            policy = report.name,
            generation = report.generation,
            "in force"
        ),
        Some(why) => tracing::warn!(
            event = "policy-unfit",
            policy = report.name,
            generation = report.generation,
            in_force = report.in_force.as_ref().map(|old| old.generation),
            error = why,
            "this policy cannot be followed as written"
        ),
    }
}

/// Returns whether nothing is left to be told.
async fn tell(policies: &Api<Stored>, report: &Report) -> bool {
    let status =
        report.status(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let patch = Patch::Merge(json!({
        "metadata": {"uid": report.uid},
        // What is null is removed; what a replica does not know of must not be.
        "status": match (&report.rejected, &status.in_force) {
            (Some(_), None) => json!({"conditions": status.conditions}),
            _ => json!({"conditions": status.conditions, "inForce": status.in_force}),
        },
    }));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = policies.patch_status(&report.name, &params, &patch);
    match api::call(patched).await {
        Ok(_) => true,
        // It is gone, or another has its name: the watch tells.
        Err(error) if matches!(error_chain::code(&error), Some(404 | 409)) => true,
        Err(error) => {
            tracing::warn!(
                event = "policy-status",
                policy = report.name,
                error = error_chain::short(&error),
                "cannot write the status of the policy; retrying"
            );
            false
        }
    }
}
