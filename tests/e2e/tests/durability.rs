//! Nothing that was admitted is lost, whatever is away when it happens or ends before it is dealt
//! with. Each test takes parts of the cluster away, so that only one runs at a time.

#[path = "durability/api_server.rs"]
mod api_server;
#[path = "durability/away.rs"]
mod away;
#[path = "durability/deleted.rs"]
mod deleted;
#[path = "durability/killed.rs"]
mod killed;
#[path = "durability/rollout.rs"]
mod rollout;
#[path = "durability/webhook_away.rs"]
mod webhook_away;

use std::{
    mem,
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::{self, INTERACTED, LABEL};
use curfew_e2e::{
    Namespace, TestCluster, disrupt, eventually, life, marks,
    namespace::{is_ready, uid},
    within_namespace,
};
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::{sync::Mutex, time::sleep};

/// Whether the test before has left the cluster whole.
static WHOLE: Mutex<bool> = Mutex::const_new(false);

/// Runs a test that nobody else disturbs, and makes the cluster whole after it.
async fn alone(test: &str, body: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    let mut whole = WHOLE.lock().await;
    within_namespace(test, async |namespace| {
        // A run that was broken off may have left something.
        if !mem::take(&mut *whole) {
            disrupt::heal(&namespace.cluster).await?;
        }
        let outcome = AssertUnwindSafe(body(namespace)).catch_unwind().await;
        let healed = disrupt::heal(&namespace.cluster).await;
        *whole = healed.is_ok();
        match outcome {
            Err(panic) => resume_unwind(panic),
            Ok(outcome) => outcome.and(healed.context("the cluster does not get well again")),
        }
    })
    .await;
}

/// A pod that somebody reached into.
struct Touched {
    name: String,
    uid: String,
    deadline: Timestamp,
}

/// Reaches into a pod.
async fn exec(namespace: &Namespace, pod: &Pod, command: &str) -> Result<()> {
    life::exec(namespace, pod, &["sh", "-c", command]).await
}

/// What stands on a pod that was reached into with this command.
async fn touched(namespace: &Namespace, pod: &Pod, command: &str) -> Result<Touched> {
    let pod = namespace.pods().get(&pod.name_any()).await?;
    ensure!(
        pod.labels().get(LABEL).map(String::as_str) == Some(INTERACTED),
        "the pod is not marked: {:?}",
        pod.metadata
    );
    let user = namespace.cluster.administrator().await?;
    let expected = [
        (metadata::INTERACTION, "exec".to_owned()),
        (metadata::INTERACTOR, user),
        (metadata::CONTAINER, "main".to_owned()),
        (metadata::COMMAND, format!("sh -c {command}")),
        (metadata::INTERACTIONS, "1".to_owned()),
    ];
    for (key, value) in expected {
        let found = pod.annotations().get(key);
        ensure!(found == Some(&value), "{key} is {found:?}, not {value:?}");
    }
    let deadline = pod.annotations().get(metadata::EVICTION_TIME);
    Ok(Touched {
        name: pod.name_any(),
        uid: uid(&pod)?,
        deadline: deadline.context("no time of eviction")?.parse()?,
    })
}

/// Waits for a time of day.
async fn until(time: Timestamp) {
    sleep(
        time.duration_since(Timestamp::now())
            .try_into()
            .unwrap_or_default(),
    )
    .await;
}

/// That people were told once, of the interaction and of its end.
async fn told_once(namespace: &Namespace, pod: &Touched) -> Result<()> {
    for reason in ["PodInteraction", "PodInteractionEvicted"] {
        let what = format!("one Event {reason} on {}", pod.name);
        eventually(Duration::from_secs(5), &what, async || {
            let events = marks::events(namespace, &pod.uid, reason).await?;
            ensure!(events.len() == 1, "{} Events", events.len());
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// When the agent of a node became ready.
async fn ready_since(cluster: &TestCluster, node: &str) -> Result<Timestamp> {
    let pod = disrupt::agent_of(cluster, node).await?;
    ensure!(is_ready(&pod), "the agent of {node} is not ready");
    let conditions = pod.status.and_then(|status| status.conditions);
    let ready = conditions.into_iter().flatten();
    let since = ready
        .filter(|condition| condition.type_ == "Ready")
        .find_map(|condition| condition.last_transition_time);
    Ok(since.context("the kubelet does not tell since when")?.0)
}
