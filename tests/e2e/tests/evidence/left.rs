//! What a session leaves behind is compared with what was left there before: it is learned, and what is irregular counts
//! though the command of the session was usual.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::LEFT;
use curfew_e2e::{
    NODES, Namespace, Workload, eventually,
    marks::noted,
    namespace::{is_ready, uid},
    policies::Policies,
    within_namespace,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{LOOKED, SOON};

const PROFILE: &str = "deployment.web";
/// A profile is written at most once in 30 s.
const WRITTEN: Duration = Duration::from_secs(75);
/// As long as a change of a profile takes until both replicas know it.
const KNOWN: Duration = Duration::from_secs(2);
/// How many interactions are enough to tell what is irregular.
const SAMPLES: u64 = 4;
/// How soon a pod goes in which something irregular was left: the agent looks 3 s after a session.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(20);

const LOOKS_AROUND: &str = "ls /; sleep 1";
const LEAVES_SLEEP: &str = "sleep 600 >/dev/null 2>&1 </dev/null & sleep 4";
// Under a name that does not begin like its own, it would not know what to do.
const DROPS: &str = "cp /bin/busybox /tmp/busybox-miner
/tmp/busybox-miner sleep 600 >/dev/null 2>&1 </dev/null & sleep 4";

/// Somebody types this in a shell: the command of the session is the same each time.
async fn types(namespace: &Namespace, pod: &Pod, script: &str) -> Result<()> {
    let name = pod.name_any();
    let args = ["exec", "-i", &name, "--", "sh"];
    let said = namespace
        .kubectl
        .feed(&args, &format!("{script}\n"))
        .await?;
    said.success().map(drop)
}

async fn profile(namespace: &Namespace) -> Result<Value> {
    let args = ["get", "iprof", PROFILE, "-o", "json"];
    let text = namespace.kubectl.ok(&args).await?;
    Ok(serde_json::from_str(&text)?)
}

/// Waits until the pod says what was left in it.
async fn shows(namespace: &Namespace, pod: &Pod, left: &str) -> Result<Pod> {
    let what = format!("{} shows {left:?}", pod.name_any());
    eventually(LOOKED, &what, async || {
        let found = namespace.pods().get(&pod.name_any()).await?;
        let shown = found.annotations().get(LEFT).cloned();
        ensure!(shown.as_deref() == Some(left), "{shown:?}");
        Ok(Some(found))
    })
    .await
}

#[tokio::test]
async fn what_a_session_leaves_is_learned_and_what_is_irregular_evicts_the_pod() {
    within_namespace("left", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let enough = |mut spec: Value| {
            (spec["minimumDays"], spec["minimumSamples"]) = (json!(0), json!(SAMPLES));
            spec
        };
        let learning = enough(json!({"learn": true, "ttl": "1h"}));
        policies.hold(&[("learning", learning)]).await?;
        let workload = Workload::new("web").on(NODES[0]);
        let pods = namespace.run_deployment(&workload, 2).await?;

        // Too little is known to call it irregular, so it is learned.
        types(namespace, &pods[0], LEAVES_SLEEP).await?;
        for _ in 1..SAMPLES {
            types(namespace, &pods[0], LOOKS_AROUND).await?;
        }
        shows(namespace, &pods[0], "running sleep").await?;
        eventually(LOOKED + WRITTEN, "it is learned", async || {
            let found = profile(namespace).await?;
            let status = &found["status"];
            ensure!(status["samples"].as_u64() == Some(SAMPLES), "{status}");
            let learned = status["learned"].as_array().context("nothing is learned")?;
            let has_sleep = |one: &Value| one["criterion"]["leftRunning"] == json!(["sleep"]);
            ensure!(learned.iter().any(has_sleep), "{status}");
            Ok(Some(()))
        })
        .await?;
        sleep(KNOWN).await;

        // Now something follows from what is new, and nothing from what was left before.
        let irregular = enough(
            json!({"priority": 10, "behaviour": "Irregular", "action": "Evict", "ttl": "0s"}),
        );
        policies.hold(&[("irregular", irregular)]).await?;
        let watch = namespace.watch().await?;
        types(namespace, &pods[1], LEAVES_SLEEP).await?;
        shows(namespace, &pods[1], "running sleep").await?;
        sleep(Duration::from_secs(5)).await;
        for pod in &pods {
            let found = namespace.pods().get(&pod.name_any()).await?;
            ensure!(is_ready(&found), "{} did not stay", pod.name_any());
        }

        types(namespace, &pods[1], DROPS).await?;
        let by = Timestamp::now().checked_add(AT_ONCE)?;
        let reason = "no session of a person ever left `/tmp/busybox-miner` running there";
        noted(
            namespace,
            &uid(&pods[1])?,
            SOON * 2,
            &format!("irregular: {reason}"),
        )
        .await?;
        watch.going(&uid(&pods[1])?, by).await?;
        let found = namespace.pods().get(&pods[0].name_any()).await?;
        ensure!(is_ready(&found), "the other one went, too");

        // It stands in the profile, and was not learned.
        eventually(WRITTEN, "it is noted in the profile", async || {
            let found = profile(namespace).await?;
            let last = found["status"]["lastIrregular"]["reason"].as_str();
            let is_noted = last.is_some_and(|last| last.contains(reason));
            ensure!(is_noted, "{last:?}");
            let learned = found["status"]["learned"].to_string();
            ensure!(!learned.contains("busybox-miner"), "{learned}");
            Ok(Some(()))
        })
        .await
    })
    .await;
}
