//! Subcommands of cargo that are built once per machine from crates of pinned versions, and found in the cache.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{layout, progress, run};

/// A crate with one program of the same name.
#[derive(Clone, Copy, Debug)]
pub struct CargoTool {
    /// The name of both.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// About how long it takes to build it.
    pub takes: &'static str,
}

/// Checks licences, sources, duplicates and advisories of all crates in Cargo.lock.
pub const DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    takes: "four minutes on two cores",
};

/// Writes the list of what a program is made of.
pub const CYCLONEDX: CargoTool = CargoTool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    takes: "two minutes on two cores",
};

impl CargoTool {
    /// Builds it if need be, and returns where it is.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn ensure(&self) -> Result<PathBuf> {
        let all = layout::cache_dir()?.join("cargo-tools");
        let place = all.join(format!("{}-{}", self.name, self.version));
        let program = place.join("bin").join(self.name);
        if program.is_file() {
            return Ok(program);
        }
        fs::create_dir_all(&place)
            .with_context(|| format!("{} cannot be made", place.display()))?;
        let lock = File::create(place.join("lock"))?;
        lock.lock()?;
        if program.is_file() {
            return Ok(program);
        }
        progress::step(&format!(
            "Building {} {} (once per machine; about {})",
            self.name, self.version, self.takes
        ));
        let build = place.join("build");
        let mut cargo = Command::new("cargo");
        // Its lock file is the one that its authors tested.
        cargo.args(["install", "--locked", "--force", self.name, "--version"]);
        cargo.arg(self.version).arg("--root").arg(&place);
        cargo
            .env("CARGO_TARGET_DIR", &build)
            .current_dir(&place)
            .env_remove("RUSTFLAGS");
        let failed = format!("{} could not be built; cargo says above why", self.name);
        let built = run::shown(&mut cargo, &failed);
        drop(fs::remove_dir_all(&build));
        built?;
        ensure!(program.is_file(), failed);
        Ok(program)
    }
}
