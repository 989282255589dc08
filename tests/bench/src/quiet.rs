//! Whether the API server has done with what it was asked before.

use std::time::Duration;

use anyhow::{Result, ensure};
use axum::http::Request;
use curfew_e2e::{TestCluster, agents::total, eventually};

use crate::say;

const CPU: &str = "process_cpu_seconds_total";
/// The API server is quiet if it uses less than so many processors, which it is to do within this time.
const QUIET: f64 = 0.3;
const SETTLED: Duration = Duration::from_secs(300);

/// Waits until the API server has done with what was written before, and was quiet for so long. After hundreds of
/// megabytes it collects garbage for a while, and then an answer of either webhook takes as long as that leaves it. With
/// no time to be quiet in, nothing is waited for.
pub(crate) async fn settled(cluster: &TestCluster, rest: Duration) -> Result<()> {
    if rest.is_zero() {
        return Ok(());
    }
    say("waiting until the API server is quiet");
    let busy = async || anyhow::Ok(total(&metrics(cluster).await?, CPU));
    eventually(SETTLED, "the API server is quiet", async || {
        let before = busy().await?;
        tokio::time::sleep(rest).await;
        let share = (busy().await? - before) / rest.as_secs_f64();
        ensure!(share < QUIET, "it uses {share:.2} processors");
        Ok(Some(()))
    })
    .await
}

/// What the API server measures of itself.
pub(crate) async fn metrics(cluster: &TestCluster) -> Result<String> {
    let metrics = Request::get("/metrics").body(Vec::new())?;
    Ok(cluster.client.request_text(metrics).await?)
}
