//! Extensions and holds that are set in the last 100 ms before the deadline.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use curfew_core::metadata::{EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, evictions::Mark, figures, life, within_namespace,
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// How many tries there are at most, if not 40: a pod that is evicted has no more.
const TRIES: &str = "CURFEW_LAST_MOMENT_TRIES";
const TRIES_PER_POD: u32 = 4;
/// How long before the deadline a try is made at the earliest.
const LAST_MS: u64 = 100;
/// By how much each try moves the deadline.
const STEP: SignedDuration = SignedDuration::from_secs(10);
/// How long after the deadline it is clear what became of a pod.
const CLEAR: SignedDuration = SignedDuration::from_secs(4);

/// What became of the tries.
#[derive(Debug, Default)]
struct Tries {
    refused: u32,
    extended: u32,
    held: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_in_the_last_moment_is_refused_or_honoured() {
    within_namespace("last-moment", async |namespace| {
        let tries: u32 = match std::env::var(TRIES) {
            Ok(tries) => tries.parse().context(TRIES)?,
            Err(_) => 40,
        };
        let count = tries.div_ceil(TRIES_PER_POD) as usize;
        let workloads: Vec<_> = (0..count)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % NODES.len()]))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let requester = namespace.cluster.administrator().await?;
        let audit = Mark::now(namespace.cluster.machine.audit_log())?;
        let tried = pods.iter().enumerate().map(async |(at, pod)| {
            let record = life::touch(namespace, &agents, pod, &["true"]).await?;
            // Holds come in all turns, so that they do not depend on one moment at which the machine is busy.
            let held_in = (at % 2 == 0).then(|| 1 + at as u32 / 2 % TRIES_PER_POD);
            try_all(namespace, pod, record.deadline()?, &requester, held_in).await
        });
        let mut all = Tries::default();
        for tries in try_join_all(tried).await? {
            all.refused += tries.refused;
            all.extended += tries.extended;
            all.held += tries.held;
        }
        let answers = audit.answers(&namespace.name)?;
        let conflicts = answers.iter().filter(|answer| answer.code == 409).count();
        let shown = format!(
            "{} tries in the last {LAST_MS} ms: {} extended, {} held, {} refused; {conflicts} evictions were \
             answered with a conflict",
            all.extended + all.held + all.refused,
            all.extended,
            all.held,
            all.refused
        );
        figures::report(&namespace.cluster, "last-moment", &shown)?;
        ensure!(all.extended > 0 && all.held > 0, "{shown}");
        Ok(())
    })
    .await;
}

/// Tries until the pod is evicted or held, or as often as a pod is tried.
async fn try_all(
    namespace: &Namespace,
    pod: &Pod,
    mut deadline: Timestamp,
    requester: &str,
    held_in: Option<u32>,
) -> Result<Tries> {
    let mut tries = Tries::default();
    for turn in 1..=TRIES_PER_POD {
        let hold = held_in == Some(turn);
        let annotations = match hold {
            true => json!({HOLD: "in the last moment", HOLD_REQUESTER: requester}),
            false => {
                let all = format!("{}s", STEP.as_secs() * i64::from(turn));
                json!({EXTENSION: all, EXTENSION_REQUESTER: requester})
            }
        };
        let before = Duration::from_millis(fastrand::u64(0..=LAST_MS));
        sleep_until(deadline.checked_sub(before)?).await;
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let name = pod.name_any();
        let said = namespace
            .pods()
            .patch(&name, &PatchParams::default(), &patch)
            .await;
        let accepted = match said {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => false,
            Err(error) => bail!("{name}: {error}"),
        };
        sleep_until(deadline.checked_add(CLEAR)?).await;
        let found = namespace.pods().get_opt(&name).await?;
        let stays = found.is_some_and(|found| {
            found.metadata.uid == pod.metadata.uid && found.metadata.deletion_timestamp.is_none()
        });
        ensure!(
            stays == accepted,
            "{name}, try {turn}, {before:?} before {deadline}: accepted: {accepted}, the pod stays: {stays}"
        );
        match (accepted, hold) {
            (false, _) => {
                tries.refused += 1;
                return Ok(tries);
            }
            (true, true) => {
                tries.held += 1;
                return Ok(tries);
            }
            (true, false) => tries.extended += 1,
        }
        deadline = deadline.checked_add(STEP)?;
    }
    Ok(tries)
}

async fn sleep_until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}
