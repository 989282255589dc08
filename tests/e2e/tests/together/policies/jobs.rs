//! Pods of Jobs: by default they are only recorded, and where they are evicted, a `podFailurePolicy` keeps the Job.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::Exemption;
use curfew_e2e::{
    Agents, Namespace, Workload, eventually, figures, life, marks,
    namespace::{is_ready, uid},
    policies::Policies,
    within_namespace,
    workload::CONTAINER,
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use super::{DEFAULT_TTL, NODE, ttl};

/// As long as controllers take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// As long as the Job controller waits before it replaces the fourth pod, and then some.
const REPLACED: Duration = Duration::from_secs(100);
/// What a pod runs that ends when it is told to.
const UNTIL_TOLD: &str = "until [ -e /tmp/done ]; do sleep 0.2; done";
const TELL: [&str; 2] = ["touch", "/tmp/done"];
/// How many execs there are where nobody says otherwise.
const EXECS: usize = 40;

fn jobs(namespace: &Namespace) -> Api<Job> {
    Api::namespaced(namespace.cluster.client.clone(), &namespace.name)
}

fn execs() -> Result<usize> {
    let execs = std::env::var("CURFEW_E2E_EXECS").ok();
    Ok(execs.map_or(Ok(EXECS), |text| text.parse())?)
}

/// Starts a Job of one pod, which ends when it is told to.
async fn start(namespace: &Namespace, name: &str, more: Value) -> Result<Pod> {
    let workload = Workload::new(name).on(NODE).once().script(UNTIL_TOLD);
    let job: Job = workload.controlled_by(more)?;
    jobs(namespace).create(&PostParams::default(), &job).await?;
    pod_of(namespace, name, None).await
}

/// The running pod of a Job, other than this one.
async fn pod_of(namespace: &Namespace, name: &str, than: Option<&str>) -> Result<Pod> {
    eventually(REPLACED, "a pod of the Job runs", async || {
        running(namespace, name, than).await
    })
    .await
}

async fn running(namespace: &Namespace, name: &str, than: Option<&str>) -> Result<Option<Pod>> {
    let of = ListParams::default().labels(&format!("app={name}"));
    let pods = namespace.pods().list(&of).await?.items;
    let mut others = pods.into_iter().filter(|pod| pod.uid().as_deref() != than);
    Ok(others.find(is_ready))
}

/// The pod of a Job that runs after this one; none if the Job has ended instead.
async fn next_of(namespace: &Namespace, name: &str, pod: &Pod) -> Result<Option<Pod>> {
    let what = "the Job has ended or another pod of it runs";
    eventually(REPLACED, what, async || {
        if ended(namespace, name).await?.is_some() {
            return Ok(Some(None));
        }
        let next = running(namespace, name, pod.uid().as_deref()).await?;
        Ok(next.map(Some))
    })
    .await
}

/// Waits until a Job has ended, and returns whether it has completed.
async fn completed(namespace: &Namespace, name: &str) -> Result<bool> {
    eventually(SOON, "the Job has ended", async || {
        ended(namespace, name).await
    })
    .await
}

/// Whether a Job has completed, if it has ended.
async fn ended(namespace: &Namespace, name: &str) -> Result<Option<bool>> {
    let status = jobs(namespace).get(name).await?.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let is = |type_: &str| {
        let mut conditions = conditions.iter();
        conditions.any(|one| one.type_ == type_ && one.status == "True")
    };
    Ok((is("Complete") || is("Failed")).then(|| is("Complete")))
}

#[tokio::test]
async fn a_job_of_many_execs_completes_under_the_defaults() {
    within_namespace("job-execs", async |namespace| {
        let execs = execs()?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = start(namespace, "build", json!({"backoffLimit": 0})).await?;
        let runner = format!("system:serviceaccount:{}:runner", namespace.name);
        let kubectl = namespace
            .kubectl
            .impersonating(&runner, &["system:masters"]);
        let name = pod.name_any();
        let began = Timestamp::now();
        for n in 0..execs {
            let word = format!("step-{n}");
            kubectl.ok(&["exec", &name, "--", "echo", &word]).await?;
        }
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        ensure!(
            ttl(&record).is_none() && record.state == "recorded",
            "{record:?}"
        );
        ensure!(record.interactions as usize == execs, "{record:?}");
        let why = format!(
            "({}: {})",
            Exemption::Completing.as_str(),
            Exemption::Completing.why()
        );
        marks::noted(namespace, &record.uid, SOON, &why).await?;
        // Longer than a pod lives that anybody else controls.
        let past = began + jiff::SignedDuration::from_secs(DEFAULT_TTL + 3);
        eventually(SOON, "the default time to live is over", async || {
            Ok((Timestamp::now() > past).then_some(()))
        })
        .await?;
        kubectl
            .ok(&[&["exec", &name, "--"][..], &TELL].concat())
            .await?;
        ensure!(completed(namespace, "build").await?, "the Job failed");
        let status = jobs(namespace)
            .get("build")
            .await?
            .status
            .context("no status")?;
        ensure!(
            status.succeeded == Some(1) && status.failed.unwrap_or_default() == 0,
            "{status:?}"
        );
        Ok(())
    })
    .await;
}

/// The `podFailurePolicy` that the documentation shows.
fn documented() -> Result<String> {
    let page = include_str!("../../../../../docs/policies.md");
    let (_, block) = page
        .split_once("```yaml\npodFailurePolicy:")
        .context("no podFailurePolicy in docs/policies.md")?;
    let (block, _) = block.split_once("```").context("no end")?;
    ensure!(
        block.contains("type: DisruptionTarget") && block.contains("action: Ignore"),
        "{block}"
    );
    Ok(format!("podFailurePolicy:{block}"))
}

/// Starts the Job with this in its spec as people write it, in YAML.
async fn start_from_text(namespace: &Namespace, name: &str, spec: &str) -> Result<Pod> {
    let workload = Workload::new(name).on(NODE).once().script(UNTIL_TOLD);
    let job: Value = workload.controlled_by(json!({"backoffLimit": 0}))?;
    let template = &job["spec"]["template"];
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  backoffLimit: 0\n  \
         template: {template}\n{indented}"
    );
    namespace
        .kubectl
        .feed(&["apply", "-f", "-"], &text)
        .await?
        .success()?;
    pod_of(namespace, name, None).await
}

/// Runs a command in a pod of a Job. Returns whether the pod was there until it ended.
async fn reached(namespace: &Namespace, pod: &Pod, command: &[&str]) -> Result<bool> {
    let name = pod.name_any();
    let args = [&["exec", &name, "-c", CONTAINER, "--"], command].concat();
    let said = namespace.kubectl.run(&args).await?;
    if said.code == Some(0) {
        return Ok(true);
    }
    let found = namespace.pods().get_opt(&name).await?;
    let goes = found.is_none_or(|found| !is_ready(&found));
    ensure!(goes, "an exec into a pod that is there failed: {said:?}");
    Ok(false)
}

#[tokio::test]
async fn the_documented_pod_failure_policy_makes_an_eviction_harmless() {
    within_namespace("job-evict", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let execs = execs()?;
        // The Job controller doubles its pause before each new pod, so a pod lives for many of the execs.
        let lives = 5 + i64::try_from(execs)? / 10;
        let evict = json!({"completingPods": "Evict", "ttl": format!("{lives}s")});
        policies.hold(&[("evict", evict)]).await?;
        let kept = start_from_text(namespace, "kept", &documented()?).await?;
        let lost = start_from_text(namespace, "lost", "").await?;
        let watch = namespace.watch().await?;
        let mut records = Vec::new();
        for pod in [&kept, &lost] {
            let record = life::touch(namespace, &agents, pod, &["true"]).await?;
            ensure!(ttl(&record) == Some(lives), "{record:?}");
            records.push(record);
        }
        for record in &records {
            watch
                .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
                .await?;
        }
        ensure!(
            !completed(namespace, "lost").await?,
            "backoffLimit is 0, and it completed"
        );

        // Each pod that takes its place is touched and evicted as well, until the Job has what it needs.
        let mut pod = pod_of(namespace, "kept", Some(&records[0].uid)).await?;
        marks::clean(&pod)?;
        let mut pods = 1;
        for n in 0..execs {
            let word = format!("step-{n}");
            while !reached(namespace, &pod, &["echo", &word]).await? {
                pod = pod_of(namespace, "kept", pod.uid().as_deref()).await?;
                pods += 1;
            }
        }
        // A pod that is being evicted can still be told, and does not end by that.
        loop {
            reached(namespace, &pod, &TELL).await?;
            match next_of(namespace, "kept", &pod).await? {
                Some(next) => pod = next,
                None => break,
            }
            pods += 1;
        }
        ensure!(completed(namespace, "kept").await?, "the Job failed");
        let shown = format!("{execs} execs reached {pods} pods after the first");
        figures::report(&namespace.cluster, "job", &shown)
    })
    .await;
}

#[tokio::test]
async fn the_exemption_ends_when_the_job_leaves_its_pod_behind() {
    within_namespace("job-orphan", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        policies.hold(&[("short", json!({"ttl": "5s"}))]).await?;
        let pod = start(namespace, "left", json!({})).await?;
        let watch = namespace.watch().await?;
        let record = life::touch_seen(namespace, &agents, &pod, &["true"]).await?;
        ensure!(record.state == "recorded", "{record:?}");
        let orphan = ["delete", "job", "left", "--cascade=orphan"];
        namespace.kubectl.ok(&orphan).await?;
        let record = eventually(SOON, "its timer runs", async || {
            let record = agents.record_only_on(NODE, &record.uid).await?;
            Ok(record.eviction_time.is_some().then_some(record))
        })
        .await?;
        let why = "because no Job controls it any more";
        marks::noted(namespace, &record.uid, SOON, why).await?;
        watch
            .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
            .await?;
        Ok(())
    })
    .await;
}
