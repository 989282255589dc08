//! kustomize and Helm, the real programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use curfew_cluster::{go_module::GoModule, go_tools, layout::Checkout, run};

use crate::objects::{self, Objects};

/// The folder of the chart, from the root of the source tree.
pub const CHART: &str = "manifests/chart";

/// The components, each with the argument for Helm that stands for it, in an order in which they go together: `evidence`
/// changes an object of `openshift`.
pub const COMPONENTS: [(&str, &str); 10] = [
    ("dry-run", "--set=defaults.enforcement=DryRun"),
    ("host-network", "--set=webhook.hostNetwork=true"),
    ("legacy", "--set=legacy=true"),
    ("monitoring", "--set=monitoring.enabled=true"),
    ("openshift", "--set=openshift.enabled=true"),
    ("evidence", "--set=evidence.enabled=true"),
    ("policy-readers", "--set=policyReaders.enabled=true"),
    ("port-10250", "--set=webhook.ports.admission=10250"),
    ("priorities", "--set=priorities.enabled=true"),
    ("selinux", "--set=agent.seLinuxType=spc_t"),
];

/// The source tree, and the programs.
#[derive(Debug)]
pub struct Renderer {
    checkout: Checkout,
    tools: GoModule,
}

impl Renderer {
    /// Gets the programs if need be.
    ///
    /// # Errors
    /// Outside of a checkout, or when they cannot be built.
    pub fn new() -> Result<Self> {
        let checkout = Checkout::find()?;
        let tools = go_tools::ensure(&checkout)?;
        Ok(Self { checkout, tools })
    }

    /// The root of the source tree.
    pub fn root(&self) -> &Path {
        self.checkout.root()
    }

    /// The folder of the chart.
    pub fn chart(&self) -> PathBuf {
        self.root().join(CHART)
    }

    /// One of the programs, to be run in the source tree.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.tools.program(name));
        // Neither the configuration of whoever runs the tests nor a cluster may matter.
        command
            .current_dir(self.root())
            .env("HELM_CONFIG_HOME", "/nonexistent")
            .env("KUBECONFIG", "/nonexistent");
        command
    }

    /// What the base and these components are.
    ///
    /// # Errors
    /// When kustomize fails.
    pub fn kustomize(&self, components: &[&str]) -> Result<Objects> {
        // kustomize takes no absolute paths, so the kustomization stands in the source tree.
        let target = self.root().join("target");
        fs::create_dir_all(&target)?;
        let folder = tempfile::Builder::new()
            .prefix("kustomize-")
            .tempdir_in(target)?;
        let mut text = "resources: [../../manifests/base]\ncomponents:\n".to_owned();
        for component in components {
            text += &format!("- ../../manifests/components/{component}\n");
        }
        fs::write(folder.path().join("kustomization.yaml"), text)?;
        let built = run::output(self.program("kustomize").arg("build").arg(folder.path()))?;
        objects::read(&built)
    }

    /// `helm template` of this chart, a folder or an archive.
    ///
    /// # Errors
    /// When Helm refuses the values or cannot render the chart; it says why.
    pub fn template(&self, chart: &Path, arguments: &[&str]) -> Result<String> {
        let mut helm = self.program("helm");
        helm.args(["template", "curfew"])
            .arg(chart)
            .args(["--namespace", "default"])
            .args(arguments);
        let output = helm.output().context("helm cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The objects of the chart with these arguments.
    ///
    /// # Errors
    /// As [`Self::template`].
    pub fn helm(&self, arguments: &[&str]) -> Result<Objects> {
        objects::read(&self.template(&self.chart(), arguments)?)
    }
}
