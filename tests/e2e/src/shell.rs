//! Runs command lines as they stand in the documentation.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tokio::time::timeout;

use crate::TestCluster;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs it in a shell as somebody would who followed the README, in a folder where one is given. Returns the exit
/// status, the output and what it said on standard error.
pub async fn run(
    cluster: &TestCluster,
    line: &str,
    folder: Option<&Path>,
) -> Result<(i32, String, String)> {
    let machine = &cluster.machine;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = tokio::process::Command::new("sh");
    if let Some(folder) = folder {
        shell.current_dir(folder);
    }
    let running = shell
        .args(["-c", line])
        .env("KUBECONFIG", machine.kubeconfig())
        .env("PATH", format!("{}:{path}", machine.bin_dir().display()))
        .env("KUBE_EDITOR", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, running)
        .await
        .with_context(|| format!("{line} does not end"))?
        .context("sh cannot be started")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().context("it was killed")?;
    Ok((code, text(output.stdout), text(output.stderr)))
}
