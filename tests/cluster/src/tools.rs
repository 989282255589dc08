//! Programs that tests run and that nobody wants installed: Debian's packages of Prometheus start services. So
//! the packages are downloaded and unpacked into the cache, and what they bring is run from there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{layout, packages, progress, run};

/// What is needed of which package.
const TOOLS: [(&str, &[&str]); 2] = [
    ("prometheus", &["prometheus", "promtool"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager"]),
];
/// Where packages put programs.
const BIN: &str = "usr/bin";

/// Where the packages are unpacked.
fn cache() -> Result<PathBuf> {
    Ok(layout::cache_dir()?.join("tools"))
}

/// The packages whose programs are not all there.
fn missing(cache: &Path) -> Vec<&'static str> {
    let there =
        |package: &str, program: &str| cache.join(package).join(BIN).join(program).is_file();
    TOOLS
        .iter()
        .filter(|(package, programs)| !programs.iter().all(|program| there(package, program)))
        .map(|(package, _)| *package)
        .collect()
}

/// Where a program is.
///
/// # Errors
/// When it is not one of those that [`ensure`] gets.
pub fn program(name: &str) -> Result<PathBuf> {
    let cache = cache()?;
    TOOLS
        .iter()
        .map(|(package, _)| cache.join(package).join(BIN).join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!("{name} is not there: `cargo run -p curfew-cluster -- tools` gets it")
        })
}

/// Gets what is missing, naming it first.
///
/// # Errors
/// When a package cannot be downloaded or does not bring what it should.
pub fn ensure() -> Result<()> {
    let cache = cache()?;
    if missing(&cache).is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    // Several tests may want them at the same time.
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let packages = missing(&cache);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(", ");
    if !run::exists("apt-get") {
        bail!("{list} cannot be had: this machine has no apt-get to download it with");
    }
    progress::step(&format!(
        "Downloading Debian packages, which are not installed: {list}"
    ));
    packages
        .iter()
        .try_for_each(|package| unpack(&cache, package))?;
    match missing(&cache).as_slice() {
        [] => Ok(()),
        missing => bail!(
            "the Debian packages {} do not bring what they should",
            missing.join(", ")
        ),
    }
}

/// Downloads a package and unpacks it below its name.
fn unpack(cache: &Path, package: &str) -> Result<()> {
    let (place, new) = (cache.join(package), cache.join(format!("{package}.new")));
    // Left over from a run that was broken off.
    drop(fs::remove_dir_all(&new));
    fs::create_dir_all(&new)?;
    let download = || {
        run::check(
            packages::apt()
                .current_dir(&new)
                .args(["download", package]),
        )
    };
    // A new machine has no package lists yet, and old ones name packages that are gone.
    if download().is_err() {
        progress::note("fetching the package lists first");
        let updated = run::check(packages::apt().arg("update"));
        download().map_err(|error| {
            let error = updated.err().unwrap_or(error);
            error.context(format!("the Debian package {package} cannot be downloaded"))
        })?;
    }
    let archive = fs::read_dir(&new)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .with_context(|| format!("apt-get downloaded no package {package}"))?;
    run::check(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&new),
    )?;
    fs::remove_file(&archive)?;
    drop(fs::remove_dir_all(&place));
    fs::rename(&new, &place).with_context(|| format!("{} cannot be made", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_when_one_program_is() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let put = |path: &str| -> Result<()> {
            let path = cache.path().join(path);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            Ok(fs::write(path, "")?)
        };
        put("prometheus/usr/bin/prometheus")?;
        put("prometheus-alertmanager/usr/bin/prometheus-alertmanager")?;
        assert_eq!(missing(cache.path()), ["prometheus"]);
        put("prometheus/usr/bin/promtool")?;
        assert!(missing(cache.path()).is_empty());
        Ok(())
    }
}
