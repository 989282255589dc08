//! Archives that are the same bytes whenever and wherever they are made of the same files, and checksums.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use curfew_cluster::run;
use sha2::{Digest, Sha256};

use crate::source::Source;

/// The file with the checksums of all others, as `sha256sum --check` reads it.
pub const SUMS: &str = "SHA256SUMS";

/// Packs names in a folder into an archive. One that ends in `gz` is compressed.
///
/// # Errors
/// When tar fails.
pub fn pack(source: &Source, folder: &Path, names: &[&str], archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=ustar"]);
    // Neither who packs nor when nor with which umask may matter.
    tar.args([
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",
    ]);
    tar.arg(format!("--mtime=@{}", source.epoch()));
    if archive
        .extension()
        .is_some_and(|ending| ending == "gz" || ending == "tgz")
    {
        tar.arg("--use-compress-program=gzip -9 --no-name");
    }
    tar.arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder);
    run::check(tar.args(names))
}

/// The files in a folder, by name.
///
/// # Errors
/// When it cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// The SHA-256 of a file, as digits.
///
/// # Errors
/// When it cannot be read.
pub fn sum(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}

/// Writes [`SUMS`].
///
/// # Errors
/// When a file cannot be read or written.
pub fn write_sums(folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines += &format!("{}  {name}\n", sum(&path)?);
    }
    fs::write(folder.join(SUMS), lines).context("the checksums cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_are_known() -> Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("b"), "abc")?;
        fs::write(folder.path().join("a"), "")?;
        write_sums(folder.path())?;
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        // The example of FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sums = fs::read_to_string(folder.path().join(SUMS))?;
        assert_eq!(sums, format!("{empty}  a\n{abc}  b\n"));
        Ok(())
    }
}
