//! Curfew's own binaries: static ones for images that hold nothing else, and the kubectl plugin for this machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{layout::Checkout, progress, run};

/// What goes into images.
pub const IN_IMAGES: [&str; 2] = ["curfew-agent", "curfew-webhook"];

/// Builds what goes into images and returns where it is.
///
/// Static linking is asked for with the target spelled out, so that it does not reach build scripts and macros, and on
/// the command line, so that it stands beside its reason and not in everybody's configuration.
pub fn build_static(checkout: &Checkout) -> Result<PathBuf> {
    let triple = triple()?;
    let flags = format!("target.{triple}.rustflags=[\"-C\",\"target-feature=+crt-static\"]");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--target",
        &triple,
        "--config",
        &flags,
    ]);
    for package in IN_IMAGES {
        cargo.args(["--package", package]);
    }
    build(&mut cargo, checkout, "Curfew's images")?;
    static_dir(checkout)
}

/// Where [`build_static`] leaves what it builds.
pub fn static_dir(checkout: &Checkout) -> Result<PathBuf> {
    Ok(checkout.cargo_target_dir()?.join(triple()?).join("release"))
}

/// Builds the kubectl plugin and returns where it is.
pub fn build_plugin(checkout: &Checkout) -> Result<PathBuf> {
    build(
        Command::new("cargo").args(["build", "--package", "kubectl-pi"]),
        checkout,
        "the kubectl plugin",
    )?;
    Ok(checkout.cargo_target_dir()?.join("debug/kubectl-pi"))
}

/// Builds the kubectl plugin as it is released and returns where it is.
pub fn build_released_plugin(checkout: &Checkout) -> Result<PathBuf> {
    build(
        Command::new("cargo").args(["build", "--release", "--package", "kubectl-pi"]),
        checkout,
        "the kubectl plugin as it is released",
    )?;
    Ok(checkout.cargo_target_dir()?.join("release/kubectl-pi"))
}

/// Runs a build of cargo, which shows its own progress.
pub fn build(cargo: &mut Command, checkout: &Checkout, what: &str) -> Result<()> {
    progress::step(&format!("Building {what}"));
    checkout.run_cargo_here(run::without_package(cargo));
    run::shown(
        cargo,
        &format!("{what} could not be built; cargo says above why"),
    )
}

fn triple() -> Result<String> {
    host_triple(&run::output(Command::new("rustc").arg("-vV"))?)
}

fn host_triple(verbose_version: &str) -> Result<String> {
    let host = verbose_version
        .lines()
        .find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say for which machine it builds")
}

/// Copies a file unless the same bytes are there already; whether it did.
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = std::fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // A running program cannot be written to, but its name can be given to another.
    let temporary = to.with_added_extension("new");
    std::fs::copy(from, &temporary)
        .and_then(|_| std::fs::rename(&temporary, to))
        .with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found() -> Result<()> {
        let said = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host_triple(said)?, "x86_64-unknown-linux-gnu");
        assert!(host_triple("rustc").is_err());
        Ok(())
    }

    #[test]
    fn copies_only_what_changed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (from, to) = (dir.path().join("a"), dir.path().join("b/c"));
        std::fs::write(&from, "1")?;
        assert!(copy_if_changed(&from, &to)?);
        assert!(!copy_if_changed(&from, &to)?);
        std::fs::write(&from, "2")?;
        assert!(copy_if_changed(&from, &to)?);
        Ok(())
    }
}
