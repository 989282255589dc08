//! Where the version of Curfew stands in the source tree.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use curfew_cluster::run;
use semver::Version;

/// The first line of this kind in Cargo.toml is the version of the workspace.
const LINE: &str = "version = \"";

/// The files in which it stands, but for Cargo.toml and Cargo.lock.
pub const FILES: [&str; 6] = [
    "manifests/base/agent.yaml",
    "manifests/base/webhook.yaml",
    "manifests/base/kustomization.yaml",
    "manifests/chart/Chart.yaml",
    "README.md",
    "docs/install.md",
];

/// The version of a source tree.
///
/// # Errors
/// When its Cargo.toml names none.
pub fn current(root: &Path) -> Result<Version> {
    let text = fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml cannot be read")?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix(LINE)?.strip_suffix('"'))
        .context("Cargo.toml has no version of the workspace")?;
    Ok(Version::parse(version)?)
}

/// Sets the version of a source tree.
///
/// # Errors
/// When a file cannot be changed, or does not contain the present version.
pub fn set(root: &Path, version: &Version) -> Result<()> {
    let present = current(root)?;
    if present == *version {
        return Ok(());
    }
    set_in_files(root, &present, version)?;
    // The crates of the workspace only.
    run::check(
        Command::new("cargo")
            .args(["update", "--quiet", "--offline", "--workspace"])
            .current_dir(root),
    )
    .context("Cargo.lock cannot be changed")
}

/// Sets it everywhere but in Cargo.lock.
///
/// # Errors
/// When a file cannot be changed, or does not contain the present version.
pub fn set_in_files(root: &Path, present: &Version, version: &Version) -> Result<()> {
    let (present, version) = (present.to_string(), version.to_string());
    change(root, "Cargo.toml", |text| {
        let (old, new) = (format!("{LINE}{present}\""), format!("{LINE}{version}\""));
        text.replacen(&old, &new, 1)
    })?;
    FILES
        .iter()
        .try_for_each(|file| change(root, file, |text| replace(text, &present, &version)))
}

fn change(root: &Path, file: &str, how: impl FnOnce(&str) -> String) -> Result<()> {
    let path = root.join(file);
    let old = fs::read_to_string(&path).with_context(|| format!("{file} cannot be read"))?;
    let new = how(&old);
    ensure!(
        old != new,
        "{file} does not contain the version of Cargo.toml"
    );
    fs::write(&path, new).with_context(|| format!("{file} cannot be written"))
}

/// Replaces a version wherever it is not a part of a longer one, such as of an IP address.
fn replace(text: &str, old: &str, new: &str) -> String {
    let is_of_version = |c: char| c.is_ascii_digit() || c == '.';
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(old) {
        let mut follows = after.chars();
        let longer = before.ends_with(is_of_version)
            || follows.next().is_some_and(|c| match c {
                '.' => follows.next().is_some_and(|c| c.is_ascii_digit()),
                c => c.is_ascii_digit(),
            });
        out.push_str(before);
        out.push_str(if longer { old } else { new });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_versions_are_replaced() {
        let text = "a:0.1.0 v0.1.0. 10.1.0.0 0.1.01 0.1.0.5 \"0.1.0\"";
        let new = "a:0.2.0 v0.2.0. 10.1.0.0 0.1.01 0.1.0.5 \"0.2.0\"";
        assert_eq!(replace(text, "0.1.0", "0.2.0"), new);
    }

    #[test]
    fn a_file_without_the_version_is_an_error() -> Result<()> {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("a"), "0.1.1")?;
        let changed = change(root.path(), "a", |text| replace(text, "0.1.0", "0.2.0"));
        assert!(changed.is_err_and(|error| error.to_string().contains("does not contain")));
        Ok(())
    }
}
