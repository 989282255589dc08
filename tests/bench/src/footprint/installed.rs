//! The parts that the cluster runs, as they are, and how long a webhook takes to start.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::http::Request;
use bytes::Bytes;
use curfew_cluster::layout;
use curfew_e2e::{
    TestCluster,
    disrupt::{self, DEPLOYMENT, kill_process, process_of, restart_webhooks, restarts},
    footprint::Process,
};
use futures::future::try_join_all;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::{sleep, timeout};

use super::Need;
use crate::{
    report::{Report, mib, ms},
    say,
};

const PARTS: [&str; 2] = ["agent", "webhook"];
const METRICS_PORT: u16 = 9090;
/// How often it is looked whether the webhook is ready: what is measured is not finer than that.
const LOOK: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(1);
/// The kubelet starts a container again at once the first time, and later the next.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells of all of them.
pub(super) async fn report(
    report: &mut Report,
    cluster: &TestCluster,
    watch: Duration,
) -> Result<()> {
    let (mut parts, mut needs) = (Vec::new(), Vec::new());
    for part in PARTS {
        for pod in cluster.pods_of(part).await? {
            let name = pod.name_any();
            let pid = process_of(part, &name).with_context(|| format!("no process of {name}"))?;
            parts.push(part);
            needs.push(Need::of(Process::with_id(pid.try_into()?), watch));
        }
        ensure!(parts.contains(&part), "no {part} runs");
        report.figure(&format!("image of the {part}"), mib(image_kib(part)?));
    }
    // All of them during the same time.
    let needs = try_join_all(needs).await?;
    for (part, need) in parts.into_iter().zip(needs) {
        report.figure(&format!("{part} of the cluster"), need.text);
    }
    say("starting a webhook again");
    let started = webhook_start(cluster).await?;
    report.figure("a webhook, from its start until it is ready", ms(started));
    Ok(())
}

/// The size of the archive of the image that was rolled out, by the key of what it was made of.
fn image_kib(part: &str) -> Result<u64> {
    let rolled_out = layout::machine(&format!("rolled-out/localhost_curfew-{part}_e2e"));
    let key = fs::read_to_string(rolled_out)
        .with_context(|| format!("no image of the {part} was rolled out"))?;
    let archive = layout::cache_dir()?.join(format!("images/curfew-{part}-{}.tar", key.trim()));
    let size = fs::metadata(&archive).with_context(|| archive.display().to_string())?;
    Ok(size.len().div_ceil(1024))
}

/// A webhook whose container has never been started again: the kubelet lets another wait.
async fn unrestarted(cluster: &TestCluster) -> Result<Pod> {
    let found = async || {
        let pods = cluster.pods_of("webhook").await?;
        anyhow::Ok(pods.into_iter().find(|pod| restarts(pod) == 0))
    };
    if let Some(pod) = found().await? {
        return Ok(pod);
    }
    restart_webhooks(cluster).await?;
    found().await?.context("no webhook runs")
}

/// Kills a webhook's process, so that the kubelet starts the container again, at the same address.
async fn webhook_start(cluster: &TestCluster) -> Result<Duration> {
    let pod = unrestarted(cluster).await?;
    let name = pod.name_any();
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let ip = ip.with_context(|| format!("{name} has no address"))?;
    let address = SocketAddr::new(ip.parse()?, METRICS_PORT);
    let url = format!("http://{address}/readyz");
    let old = process_of("webhook", &name).with_context(|| format!("no process of {name}"))?;
    kill_process(old)?;
    let end = Instant::now() + PATIENCE;
    let process = loop {
        match process_of("webhook", &name).filter(|pid| *pid != old) {
            Some(pid) => break Process::with_id(pid.try_into()?),
            None => sleep(LOOK).await,
        }
        ensure!(Instant::now() < end, "{name} does not start again");
    };
    let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    loop {
        let request = Request::get(&url).body(Full::<Bytes>::default())?;
        let answer = timeout(LIMIT, http.request(request)).await;
        if matches!(answer, Ok(Ok(answer)) if answer.status().is_success()) {
            break;
        }
        ensure!(Instant::now() < end, "{name} is not ready again");
        sleep(LOOK).await;
    }
    let took = process.age()?;
    disrupt::rolled_out(cluster, DEPLOYMENT).await?;
    Ok(took)
}
