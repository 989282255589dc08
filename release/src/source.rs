//! The commit that a release is made of, exported, with the version set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use curfew_cluster::{layout::Checkout, progress, run};
use jiff::Timestamp;
use semver::Version;

use crate::version;

/// The folder below cargo's target directory in which releases are built.
const TARGET: &str = "release-build";

/// An exported commit.
#[derive(Clone, Debug)]
pub struct Source {
    /// The tree, which cargo builds into a folder of its own.
    pub tree: Checkout,
    /// The commit.
    pub commit: String,
    /// When it was committed. Every time in the artifacts is this one.
    pub time: Timestamp,
    /// The version.
    pub version: Version,
}

impl Source {
    /// Exports the commit HEAD of a checkout.
    ///
    /// # Errors
    /// When git fails, or the version cannot be set.
    pub fn export(checkout: &Checkout, version: &Version) -> Result<Self> {
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(checkout.root()).args(arguments);
            Ok::<_, anyhow::Error>(run::output(&mut git)?.trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"])?;
        let seconds = git(&["log", "-1", "--format=%ct"])?;
        let time = Timestamp::from_second(seconds.parse()?)?;
        progress::step(&format!("Making {version} of the commit {commit}"));
        if !git(&["status", "--porcelain"])?.is_empty() {
            progress::note("what is not committed is left out");
        }
        let build = checkout.cargo_target_dir()?.join(TARGET);
        let root = build.join("source");
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
        let packed = build.join("source.tar");
        git(&[
            "archive",
            "--format=tar",
            "-o",
            &packed.to_string_lossy(),
            &commit,
        ])?;
        // Cargo builds what is newer than what it has built, so the files must not be as old as the commit.
        run::check(
            Command::new("tar")
                .args(["--extract", "--touch", "--file"])
                .arg(&packed)
                .arg("--directory")
                .arg(&root),
        )?;
        fs::remove_file(&packed)?;
        version::set(&root, version)?;
        Ok(Self {
            tree: checkout.other_tree(&root, &format!("{TARGET}/target"))?,
            commit,
            time,
            version: version.clone(),
        })
    }

    /// A path in the tree.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.tree.root().join(path)
    }

    /// The time of the commit, in seconds since 1970.
    pub fn epoch(&self) -> String {
        self.time.as_second().to_string()
    }

    /// A new folder for what is made on the way, which is gone with what is returned.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        let target = self.path("target");
        fs::create_dir_all(&target)?;
        Ok(tempfile::tempdir_in(target)?)
    }
}
