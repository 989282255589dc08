//! What policies make of what agents find: a pod that did not change may stay, and one that did may have to go at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::{self, INTERACTED, LABEL};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Scheduled, Workload, eventually,
    evidence::{self, RELEASED_EVENT, UNCHANGED},
    life, marks,
    namespace::{is_ready, uid},
    within_namespace,
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{SOON, session, under};

// A release needs that the last interaction was some time before the look.
const TTL: &str = "50s";
const TTL_SECONDS: u64 = 50;
/// How soon a pod that changed has to go where a policy says `Now`, after the session.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(15);
const READS: &str = "ls -l /etc; cat /etc/passwd; sleep 3";
const WRITES: &str = "echo x >/root/x; sleep 1";
const EVICTED: &str = "PodInteractionEvicted";

/// Waits until the pod is released, and looks at all that tells of it.
async fn released(namespace: &Namespace, agents: &Agents, pod: &Pod, times: usize) -> Result<()> {
    let (name, id) = (pod.name_any(), uid(pod)?);
    let deadline = evidence::record(agents, pod).await?.deadline()?;
    let left = deadline.duration_since(Timestamp::now()).unsigned_abs();
    eventually(left + SOON, &format!("{name} is released"), async || {
        let record = evidence::record(agents, pod).await?;
        let is_released = record.state == "released" && !record.pending;
        ensure!(is_released && record.eviction_time.is_none(), "{record:?}");
        ensure!(record.drift.is_some_and(|drift| drift.verdict == UNCHANGED));
        Ok(Some(()))
    })
    .await?;
    ensure!(
        Timestamp::now() >= deadline,
        "{name} was released before its time"
    );
    eventually(SOON, "it is told", async || {
        let events = marks::events(namespace, &id, RELEASED_EVENT).await?;
        let count = |event: &k8s_openapi::api::core::v1::Event| {
            let series = event.series.as_ref().and_then(|series| series.count);
            series.unwrap_or(1) as usize
        };
        ensure!(
            events.iter().map(count).sum::<usize>() == times,
            "{events:?}"
        );
        let normal =
            |event: &k8s_openapi::api::core::v1::Event| event.type_.as_deref() == Some("Normal");
        ensure!(events.iter().all(normal), "{events:?}");
        let pod = namespace.pods().get(&name).await?;
        let marks = pod.annotations();
        ensure!(pod.labels().get(LABEL).is_some_and(|is| is == INTERACTED));
        ensure!(marks.contains_key(metadata::INTERACTIONS), "{marks:?}");
        ensure!(!marks.contains_key(metadata::EVICTION_TIME), "{marks:?}");
        let drift = marks.get(evidence::DRIFT);
        ensure!(drift.is_some_and(|drift| drift == UNCHANGED), "{marks:?}");
        Ok(Some(()))
    })
    .await?;
    // Not a condition but a measurement: so long, nothing is to happen.
    sleep(Duration::from_secs(4)).await;
    let found = namespace.pods().get(&name).await?;
    ensure!(found.uid() == pod.uid() && is_ready(&found), "{found:?}");
    let evicted = marks::events(namespace, &id, EVICTED).await?;
    ensure!(evicted.is_empty(), "{evicted:?}");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_did_not_change_is_released_until_it_is_touched_again() {
    within_namespace("release", async |namespace| {
        under(namespace, json!({"ttl": TTL, "whenUnchanged": "Release"})).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = ["again", "then-changed"].map(|name| Workload::new(name).on(NODES[0]));
        let pods = namespace.run_pods(&workloads).await?;
        let first = pods.iter().map(async |pod| {
            session(namespace, pod, READS).await?;
            released(namespace, &agents, pod, 1).await
        });
        try_join_all(first).await?;

        let watch = namespace.watch().await?;
        session(namespace, &pods[0], READS).await?;
        session(namespace, &pods[1], WRITES).await?;
        let mut records = Vec::new();
        for pod in &pods {
            let record = evidence::record(&agents, pod).await?;
            ensure!(record.interactions >= 2 && record.pending, "{record:?}");
            let left = record.deadline()?.duration_since(Timestamp::now());
            ensure!(left.unsigned_abs().as_secs() <= TTL_SECONDS, "{record:?}");
            records.push(record);
        }
        marked_again(namespace, &records).await?;
        tokio::try_join!(
            released(namespace, &agents, &pods[0], 2),
            evicted(namespace, &watch, &records[1]),
        )?;
        Ok(())
    })
    .await;
}

/// The new timers are on the pods, too.
async fn marked_again(namespace: &Namespace, records: &[Scheduled]) -> Result<()> {
    for record in records {
        eventually(SOON, "its time is on the pod", async || {
            let pod = namespace.pods().get(&record.name).await?;
            let time = pod.annotations().get(metadata::EVICTION_TIME);
            let expected = record.deadline()?.to_string();
            ensure!(time == Some(&expected), "{time:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

async fn evicted(namespace: &Namespace, watch: &PodWatch, record: &Scheduled) -> Result<()> {
    let evicted = life::evicted(namespace, watch, record).await;
    evicted.with_context(|| record.name.clone())?;
    let told = marks::events(namespace, &record.uid, RELEASED_EVENT).await?;
    let is_first = record.interactions == 1;
    ensure!(told.is_empty() || !is_first, "{}: {told:?}", record.name);
    Ok(())
}

/// What keeps a pod from being released: a change, a session that goes on, a process that one left, and an interaction
/// whose policy does not say so.
#[tokio::test]
async fn in_doubt_a_pod_is_evicted() {
    within_namespace("no-release", async |namespace| {
        let policies = curfew_e2e::policies::Policies::new(namespace).await?;
        let strict = json!({
            "priority": 1, "ttl": TTL,
            "podSelector": {"matchLabels": {"app": "strict"}},
        });
        let release = json!({"ttl": TTL, "whenUnchanged": "Release"});
        policies
            .hold(&[("release", release), ("strict", strict)])
            .await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let names = ["changed", "open", "left-behind", "strict"];
        let workloads = names.map(|name| Workload::new(name).on(NODES[1]));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        let _open = namespace
            .kubectl
            .start(&["exec", "open", "--", "sleep", "50"])?;
        let leaves = "setsid sleep 600 >/dev/null 2>&1 </dev/null & sleep 5";
        tokio::try_join!(
            session(namespace, &pods[0], WRITES),
            session(namespace, &pods[2], leaves),
            session(namespace, &pods[3], READS),
        )?;
        let all = pods.iter().map(async |pod| {
            let record = evidence::record(&agents, pod).await?;
            evicted(namespace, &watch, &record).await
        });
        try_join_all(all).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_changed_goes_at_once_where_a_policy_says_so() {
    within_namespace("now", async |namespace| {
        under(namespace, json!({"ttl": "1h", "whenChanged": "Now"})).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let names = ["changed", "quiet", "held"];
        let workloads = names.map(|name| Workload::new(name).on(NODES[0]));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;

        // It is held before it changes.
        life::touch_seen(namespace, &agents, &pods[2], &["true"]).await?;
        let hold = ["pi", "hold", "held", "--reason=to look at it"];
        namespace.kubectl.ok(&hold).await?;
        session(namespace, &pods[2], WRITES).await?;
        session(namespace, &pods[1], READS).await?;
        let ended = session(namespace, &pods[0], WRITES).await?;

        let by = ended.checked_add(AT_ONCE)?;
        let going = watch.going(&uid(&pods[0])?, by).await;
        let going = going.context("the pod that changed stays")?;
        let after = going.duration_since(ended);
        curfew_e2e::figures::report(
            &namespace.cluster,
            "when-changed-now",
            &format!("on its way {after:#} after the session"),
        )?;
        eventually(SOON, "it is told", async || {
            let told = marks::events(namespace, &uid(&pods[0])?, EVICTED).await?;
            Ok((!told.is_empty()).then_some(()))
        })
        .await?;

        evidence::changed(namespace, &agents, &pods[2], SOON).await?;
        sleep(Duration::from_secs(4)).await;
        for pod in &pods[1..] {
            let found = namespace.pods().get(&pod.name_any()).await?;
            ensure!(is_ready(&found), "{} did not stay", pod.name_any());
        }
        let quiet = evidence::record(&agents, &pods[1]).await?;
        let left = quiet.deadline()?.duration_since(Timestamp::now());
        ensure!(left > SignedDuration::from_mins(50), "{quiet:?}");

        // Once nobody holds it, nothing keeps it.
        let release = ["pi", "release", "held"];
        namespace.kubectl.ok(&release).await?;
        let by = Timestamp::now().checked_add(AT_ONCE)?;
        watch.going(&uid(&pods[2])?, by).await.map(drop)
    })
    .await;
}

/// The other way round: by default, what is found decides nothing.
#[tokio::test]
async fn by_default_a_pod_goes_at_its_time_whatever_is_found() {
    within_namespace("at-deadline", async |namespace| {
        under(namespace, json!({"ttl": TTL})).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = ["changed", "quiet"].map(|name| Workload::new(name).on(NODES[1]));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        let sessions = [WRITES, READS];
        let all = pods.iter().zip(sessions).map(async |(pod, script)| {
            session(namespace, pod, script).await?;
            let record = evidence::record(&agents, pod).await?;
            evicted(namespace, &watch, &record).await
        });
        let patience = Duration::from_secs(TTL_SECONDS) + SOON * 3;
        timeout(patience, try_join_all(all)).await?.map(drop)
    })
    .await;
}
