//! Installs Curfew with Helm.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{deploy::VALUES, go_tools};
use tokio::{process::Command, time::timeout};

use crate::TestCluster;

/// The name of the release.
const RELEASE: &str = "curfew";
/// Not Curfew's: that is part of the release.
const NAMESPACE: &str = "default";
const LIMIT: Duration = Duration::from_secs(120);

/// Helm for a cluster, with the chart of this checkout.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    chart: PathBuf,
    kubeconfig: PathBuf,
    values: PathBuf,
}

impl Helm {
    /// Gets Helm if need be.
    pub fn new(cluster: &TestCluster) -> Result<Self> {
        let machine = &cluster.machine;
        Ok(Self {
            program: go_tools::ensure(machine.source())?.program("helm"),
            chart: machine.checkout().join("manifests/chart"),
            kubeconfig: machine.kubeconfig(),
            values: machine.checkout().join(VALUES),
        })
    }

    /// Installs Curfew, and does not wait until it is ready. Returns what Helm says.
    pub async fn install(&self) -> Result<String> {
        self.apply("install", &[]).await
    }

    /// Changes values.
    pub async fn upgrade(&self, values: &[&str]) -> Result<String> {
        self.apply("upgrade", values).await
    }

    /// Removes Curfew. Returns before everything is gone.
    pub async fn uninstall(&self) -> Result<String> {
        self.run(&["uninstall", RELEASE, "--ignore-not-found"])
            .await
    }

    /// The releases that there are.
    pub async fn releases(&self) -> Result<String> {
        self.run(&["list", "--all-namespaces", "--short"]).await
    }

    async fn apply(&self, command: &str, values: &[&str]) -> Result<String> {
        let (chart, file) = (self.chart.to_string_lossy(), self.values.to_string_lossy());
        let mut arguments = vec![command, RELEASE, &chart, "--values", &file];
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        self.run(&arguments).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let running = Command::new(&self.program)
            .args(arguments)
            .args(["--namespace", NAMESPACE])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, running)
            .await
            .with_context(|| format!("helm {arguments:?} does not end"))?
            .context("helm cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
