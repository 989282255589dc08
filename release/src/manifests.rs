//! The chart as an archive, and the manifests as files that `kubectl apply -f` takes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use curfew_cluster::{go_module::GoModule, go_tools, run};

use crate::{archive, source::Source};

const CHART: &str = "manifests/chart";
/// The folder in the archive of a chart has the chart's name.
const CHART_NAME: &str = "curfew";

/// The files, each with the components that it contains and what its head says of it.
const FILES: [(&str, &[&str], &str); 4] = [
    ("install.yaml", &[], "Pods that people touch are evicted."),
    (
        "install-dry-run.yaml",
        &["dry-run"],
        "A dry run: it tells which pods would be evicted, and evicts none.",
    ),
    (
        "install-legacy.yaml",
        &["legacy"],
        "For Kubernetes 1.32 to 1.35. Pods that people touch are evicted.",
    ),
    (
        "install-legacy-dry-run.yaml",
        &["legacy", "dry-run"],
        "For Kubernetes 1.32 to 1.35. A dry run: it tells which pods would be evicted, and evicts none.",
    ),
];

/// Packages the chart.
///
/// # Errors
/// When Helm refuses it.
pub fn package_chart(source: &Source, output: &Path) -> Result<()> {
    let tools = go_tools::ensure(&source.tree)?;
    let scratch = source.scratch()?;
    let version = source.version.to_string();
    let mut helm = program(&tools, "helm");
    helm.args(["package", "--version", &version, "--app-version", &version])
        .arg("--destination")
        .arg(scratch.path())
        .arg(source.path(CHART));
    run::check(&mut helm)?;
    // Helm decides what is in it, and writes down when it was packed. So it is packed once more.
    let name = format!("{CHART_NAME}-{version}.tgz");
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(scratch.path().join(&name));
    run::check(tar.arg("--directory").arg(scratch.path()))?;
    let archive = output.join(&name);
    archive::pack(source, scratch.path(), &[CHART_NAME], &archive)?;
    run::check(
        program(&tools, "helm")
            .args(["lint", "--strict"])
            .arg(&archive),
    )
}

/// Writes the manifests.
///
/// # Errors
/// When kustomize fails.
pub fn write_install_files(source: &Source, output: &Path) -> Result<()> {
    let tools = go_tools::ensure(&source.tree)?;
    for (name, components, said) in FILES {
        // kustomize takes no absolute paths.
        let scratch = source.scratch()?;
        let mut text = "resources: [../../manifests/base]\ncomponents:\n".to_owned();
        for component in components {
            text += &format!("- ../../manifests/components/{component}\n");
        }
        fs::write(scratch.path().join("kustomization.yaml"), text)?;
        let mut kustomize = program(&tools, "kustomize");
        let objects = run::output(kustomize.arg("build").arg(scratch.path()))?;
        let head = format!(
            "# Curfew {}. {said}\n#\n#   kubectl apply -f {name}\n",
            source.version
        );
        fs::write(output.join(name), head + &objects)
            .with_context(|| format!("{name} cannot be written"))?;
    }
    Ok(())
}

fn program(tools: &GoModule, name: &str) -> Command {
    let mut command = Command::new(tools.program(name));
    command.env("HELM_CONFIG_HOME", "/nonexistent");
    command
}
