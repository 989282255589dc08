//! Curfew's programs, for each platform.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use curfew_cluster::rust_binaries;
pub use curfew_cluster::rust_binaries::IN_IMAGES;

use crate::{
    platform::{ALL, Platform},
    source::Source,
};

/// The package and the program of the plugin.
pub const PLUGIN: &str = "kubectl-pi";

/// Programs that were built for a platform.
#[derive(Clone, Debug)]
pub struct Built {
    /// The platform.
    pub platform: Platform,
    /// The folder that they are in.
    pub folder: PathBuf,
}

impl Built {
    /// Where a program is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(self.platform.file_name(name))
    }
}

/// Builds what goes into the images.
///
/// # Errors
/// When cargo fails.
pub fn for_images(source: &Source, platform: &Platform) -> Result<Built> {
    build(source, platform, &IN_IMAGES)
}

/// Builds the plugin.
///
/// # Errors
/// When cargo fails.
pub fn plugin(source: &Source, platform: &Platform) -> Result<Built> {
    build(source, platform, &[PLUGIN])
}

/// The plugins in a folder, in one of its own for each platform: `kubectl-pi_darwin_arm64/kubectl-pi`.
///
/// # Errors
/// When there is none.
pub fn from_elsewhere(folder: &Path) -> Result<Vec<Built>> {
    let found: Vec<_> = ALL
        .iter()
        .map(|platform| Built {
            platform: *platform,
            folder: folder.join(format!("{PLUGIN}_{}_{}", platform.os, platform.arch)),
        })
        .filter(|built| built.program(PLUGIN).is_file())
        .collect();
    if found.is_empty() {
        bail!("{} contains no plugin", folder.display());
    }
    Ok(found)
}

fn build(source: &Source, platform: &Platform, packages: &[&str]) -> Result<Built> {
    let compiler = platform
        .compiler
        .with_context(|| format!("nothing here builds for {}", platform.triple))?;
    let triple = platform.triple;
    let mut flags: Vec<String> = platform
        .flags
        .iter()
        .map(|flag| (*flag).to_owned())
        .collect();
    // Messages of panics contain the paths of sources, which are others on each machine.
    for (path, name) in [(source.tree.root(), "/curfew"), (&cargo_home()?, "/cargo")] {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", triple]);
    cargo
        .arg("--config")
        .arg(format!("target.{triple}.rustflags={flags:?}"))
        .arg("--config")
        .arg(format!("target.{triple}.linker={compiler:?}"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo
        .env(format!("CC_{}", triple.replace('-', "_")), compiler)
        .env("SOURCE_DATE_EPOCH", source.epoch());
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CFLAGS"] {
        cargo.env_remove(name);
    }
    let what = format!("{} for {}", packages.join(" and "), triple);
    rust_binaries::build(&mut cargo, &source.tree, &what)?;
    let folder = source.tree.cargo_target_dir()?.join(triple).join("release");
    Ok(Built {
        platform: *platform,
        folder,
    })
}

fn cargo_home() -> Result<PathBuf> {
    let given = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = given.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME says where the crates are")?;
    fs::canonicalize(&home).with_context(|| format!("{} cannot be read", home.display()))
}
