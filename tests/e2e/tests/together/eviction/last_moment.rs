//! Extensions and holds that are set in the last 100 ms before the deadline: whatever is accepted is honoured.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use curfew_core::metadata::{EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, eventually, evictions::Mark, figures, life,
    within_namespace,
};
use futures::future::{try_join, try_join_all};
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
/// How long before it the tries of one pod are made, which are accepted however busy the machine is.
const EARLY: Duration = Duration::from_secs(3);
/// By how much each try moves the deadline.
const STEP: SignedDuration = SignedDuration::from_secs(10);
/// How long after the deadline it is clear that a pod stays.
const CLEAR: SignedDuration = SignedDuration::from_secs(4);
/// How soon a pod goes whose try was refused.
const GOES: Duration = Duration::from_secs(15);

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
        let workloads: Vec<_> = (0..=count)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % NODES.len()]))
            .collect();
        let pods = namespace.run_pods(&workloads).await?;
        let (early, pods) = pods.split_first().context("no pods")?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let requester = namespace.cluster.administrator().await?;
        let audit = Mark::now(namespace.cluster.machine.audit_log())?;
        let tried = pods.iter().enumerate().map(|(at, pod)| {
            // Holds come in all turns.
            let held_in = (at % 2 == 0).then(|| 1 + at as u32 / 2 % TRIES_PER_POD);
            let before = || Duration::from_millis(fastrand::u64(0..=LAST_MS));
            try_all(namespace, &agents, pod, &requester, held_in, before)
        });
        let tried_early = try_all(namespace, &agents, early, &requester, Some(2), || EARLY);
        let (tried, early) = try_join(try_join_all(tried), tried_early).await?;
        // Of the others, how many are accepted depends on how busy the machine is.
        ensure!(
            early.extended == 1 && early.held == 1,
            "{EARLY:?} before the deadline: {early:?}"
        );
        let mut all = Tries::default();
        for tries in tried {
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
        figures::report(&namespace.cluster, "last-moment", &shown)
    })
    .await;
}

/// Touches the pod, and tries until it is evicted or held, or as often as a pod is tried.
async fn try_all(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    requester: &str,
    held_in: Option<u32>,
    before: impl Fn() -> Duration,
) -> Result<Tries> {
    let record = life::touch(namespace, agents, pod, &["true"]).await?;
    let mut deadline = record.deadline()?;
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
        let before = before();
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
        let stays = async || {
            let found = namespace.pods().get_opt(&name).await?;
            anyhow::Ok(found.is_some_and(|found| {
                found.metadata.uid == pod.metadata.uid
                    && found.metadata.deletion_timestamp.is_none()
            }))
        };
        let what = format!("{name}, try {turn}, {before:?} before {deadline}");
        if !accepted {
            let goes = format!("{what}: refused, and the pod goes");
            eventually(GOES, &goes, async || Ok((!stays().await?).then_some(()))).await?;
            tries.refused += 1;
            return Ok(tries);
        }
        sleep_until(deadline.checked_add(CLEAR)?).await;
        ensure!(stays().await?, "{what}: accepted, and the pod goes");
        if hold {
            tries.held += 1;
            return Ok(tries);
        }
        tries.extended += 1;
        deadline = deadline.checked_add(STEP)?;
    }
    Ok(tries)
}

async fn sleep_until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}
