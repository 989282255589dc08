//! The commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use curfew_cluster::{cargo_tools, layout::Checkout, packages, preflight, progress, run};
use semver::Version;

use crate::{
    archive, binaries, image, manifests,
    platform::{self, ALL, IMAGES, PLUGIN},
    plugin, sbom,
    source::Source,
    trial, version,
};

/// Makes the artifacts of a release
#[derive(Debug, Parser)]
#[command(name = "curfew-release", version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make all artifacts of the commit HEAD in target/release-VERSION
    Build {
        /// The version, such as 0.2.0
        #[arg(long)]
        version: Version,
        /// A folder with plugins that were built elsewhere, as kubectl-pi_OS_ARCH
        #[arg(long, env = "CURFEW_PLUGINS", value_name = "FOLDER")]
        plugins: Option<PathBuf>,
    },
    /// Set the version in the working tree, as the commit of a release does
    Version {
        /// The version, such as 0.2.0
        version: Version,
    },
    /// Check the licences, the sources and the duplicates of all crates that Curfew is made of
    Deny {
        /// What to check instead, such as `advisories`, which downloads a database
        checks: Vec<String>,
    },
}

/// What is checked without the internet.
const CHECKS: [&str; 3] = ["bans", "licenses", "sources"];

/// Runs the command line.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let done = Checkout::find().and_then(|checkout| match command {
        Action::Build { version, plugins } => build(&checkout, &version, plugins.as_deref()),
        Action::Version { version } => version::set(checkout.root(), &version),
        Action::Deny { checks } => deny(&checkout, &checks),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn build(checkout: &Checkout, version: &Version, plugins: Option<&Path>) -> Result<()> {
    let began = Instant::now();
    preflight::check_tools()?;
    let plugins = plugins
        .map(|folder| fs::canonicalize(folder).context("the folder of plugins cannot be read"))
        .transpose()?;
    packages::ensure_these(&platform::needs())?;
    platform::ensure_targets()?;
    let source = Source::export(checkout, version)?;
    let output = checkout.root().join(format!("target/release-{version}"));
    drop(fs::remove_dir_all(&output));
    fs::create_dir_all(&output).with_context(|| format!("{} cannot be made", output.display()))?;

    let programs: Vec<_> = IMAGES
        .iter()
        .map(|platform| binaries::for_images(&source, platform))
        .collect::<Result<_>>()?;
    let mut built: Vec<_> = PLUGIN
        .iter()
        .map(|platform| binaries::plugin(&source, platform))
        .collect::<Result<_>>()?;
    if let Some(folder) = &plugins {
        built.extend(binaries::from_elsewhere(folder)?);
    }
    trial::run(&source, &programs, &built)?;

    progress::step("Packing");
    for name in binaries::IN_IMAGES {
        image::make(&source, name, &programs, &output)?;
    }
    for program in &built {
        plugin::pack(&source, program, &output)?;
    }
    plugin::fill_in_krew(&source, &output)?;
    manifests::package_chart(&source, &output)?;
    manifests::write_install_files(&source, &output)?;
    sbom::write(&source, &output)?;
    archive::write_sums(&output)?;
    show(&output, began)?;
    let missing: Vec<_> = ALL
        .iter()
        .filter(|platform| !built.iter().any(|one| one.platform == **platform))
        .map(|platform| format!("{}/{}", platform.os, platform.arch))
        .collect();
    if !missing.is_empty() {
        progress::note(&format!(
            "not here: the plugin for {}, which this machine cannot link (see --plugins)",
            missing.join(" and ")
        ));
    }
    Ok(())
}

fn show(output: &Path, began: Instant) -> Result<()> {
    progress::step(&format!(
        "{} ({})",
        output.display(),
        progress::clock(began.elapsed())
    ));
    for path in archive::files(output)? {
        let kib = fs::metadata(&path)?.len().div_ceil(1024);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        progress::note(&format!("{kib:>7} KiB  {name}"));
    }
    Ok(())
}

fn deny(checkout: &Checkout, checks: &[String]) -> Result<()> {
    let program = cargo_tools::DENY.ensure()?;
    // It reads the crates of all platforms, and a build downloads only those of its own.
    let mut fetch = Command::new("cargo");
    fetch
        .current_dir(checkout.root())
        .args(["fetch", "--locked"]);
    run::shown(&mut fetch, "the crates cannot be downloaded")?;
    let mut deny = Command::new(program);
    deny.current_dir(checkout.root());
    match checks {
        // Cargo.lock and the crates say all that these need.
        [] => deny
            .args(["--offline", "--locked", "check", "--hide-inclusion-graph"])
            .args(CHECKS),
        checks => deny.args(["--locked", "check"]).args(checks),
    };
    run::shown(&mut deny, "cargo-deny found something: it says above what")
}
