//! Programs from pinned Go modules: built once, then found in the cache by what they were built from.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    layout,
    progress::{Long, note},
    run,
};

/// How often the clock moves.
const TICK: Duration = Duration::from_millis(500);
/// How many other builds stay in the cache beside the newest: as many as there are minors of Kubernetes.
const KEPT: usize = 6;

/// Names a build by everything that goes into it.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The lengths keep two parts from reading as one.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What a module is, and what of it is built.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its directory, from the root of the checkout.
    pub directory: &'static str,
    /// The files that decide what it builds, beside go.mod and go.sum.
    pub files: &'static [&'static str],
    /// What `go build` builds.
    pub packages: &'static str,
    /// The programs that come of it.
    pub programs: &'static [&'static str],
    /// Where they are in the cache.
    pub cache: &'static str,
    /// What people are told while it is built.
    pub name: &'static str,
}

/// The programs of a module of this checkout, and whether they are built.
#[derive(Debug)]
pub struct GoModule {
    source: Source,
    directory: PathBuf,
    mod_file: String,
    ldflags: String,
    /// What they were, or will be, built from.
    pub key: String,
    place: PathBuf,
}

impl GoModule {
    /// Looks for them. Of the module there may be several variants, each with a go.mod of its own: `mod_file`, whose
    /// checksums are in the file of the same name with the extension `sum`. The flags of the linker may depend on it.
    pub fn find(
        root: &Path,
        source: Source,
        mod_file: &str,
        ldflags: impl FnOnce(&str) -> Result<String>,
    ) -> Result<Self> {
        let directory = root.join(source.directory);
        let mod_path = directory.join(mod_file);
        let sums = mod_path.with_extension("sum");
        let others = source.files.iter().map(|name| directory.join(name));
        let mut files = Vec::new();
        for path in [mod_path, sums].into_iter().chain(others) {
            files.push(
                fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?,
            );
        }
        let go_mod = files.first().context("a module has a go.mod")?;
        let ldflags = ldflags(&String::from_utf8_lossy(go_mod))?;
        let go = run::output(Command::new("go").arg("version").current_dir(&directory))?;
        let rest = [ldflags.as_bytes(), go.trim().as_bytes()];
        let key = key(files.iter().map(Vec::as_slice).chain(rest));
        let place = layout::cache_dir()?.join(source.cache).join(&key);
        Ok(Self {
            source,
            directory,
            mod_file: mod_file.to_owned(),
            ldflags,
            key,
            place,
        })
    }

    /// Where a program is, or will be.
    pub fn program(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Whether they have to be built.
    pub fn is_missing(&self) -> bool {
        let mut programs = self.source.programs.iter();
        !programs.all(|program| self.program(program).exists())
    }

    /// Builds them if need be.
    pub fn ensure(&self) -> Result<()> {
        if !self.is_missing() {
            return Ok(());
        }
        fs::create_dir_all(&self.place)
            .with_context(|| format!("{} cannot be made", self.place.display()))?;
        let lock = File::create(self.place.join("lock"))?;
        lock.lock()?;
        if !self.is_missing() {
            return Ok(());
        }
        let new = self.place.join("new");
        fs::create_dir_all(&new)?;
        self.build(&new)?;
        for program in self.source.programs {
            fs::rename(new.join(program), self.program(program))
                .with_context(|| format!("{} has no {program}", self.source.directory))?;
        }
        drop(fs::remove_dir_all(&new));
        forget_old(&self.place);
        Ok(())
    }

    fn build(&self, new: &Path) -> Result<()> {
        let mut progress = Long::new(&format!("Building {}", self.source.name));
        let mut go = Command::new("go");
        go.args(["build", "-v", "-trimpath", "-ldflags", &self.ldflags])
            .arg(format!("-modfile={}", self.mod_file))
            .arg("-o")
            // It is a directory: each program gets the name of its package.
            .arg(new.join(""))
            .arg(self.source.packages);
        go.current_dir(&self.directory).env("CGO_ENABLED", "0");
        let mut child = go
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| run::not_started("go", &error))?;
        let stderr = child.stderr.take().context("go has no standard error")?;
        // Read beside, because the clock has to move on while go has nothing to say, as it does when it links.
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => {
                    progress.item(line.trim());
                    said.push(line);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => progress.tick(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        drop(reader.join());
        let status = child.wait()?;
        progress.done();
        if !status.success() {
            let last = said[said.len().saturating_sub(5)..].join(" | ");
            bail!(
                "{} could not be built ({status}): {last}",
                self.source.directory
            );
        }
        Ok(())
    }
}

fn forget_old(newest: &Path) {
    let Some(all) = newest.parent() else { return };
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let mut others: Vec<_> = fs::read_dir(all)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    others.retain(|path| path != newest);
    others.sort_by_key(|path| std::cmp::Reverse(modified(path)));
    for old in others.into_iter().skip(KEPT) {
        if fs::remove_dir_all(&old).is_ok() {
            note(&format!("removed the old build {}", old.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_knows_every_part() {
        let whole = key([b"ab".as_slice(), b"c"]);
        assert_eq!(whole, key([b"ab".as_slice(), b"c"]));
        assert_ne!(whole, key([b"a".as_slice(), b"bc"]));
        assert_ne!(whole, key([b"abc".as_slice()]));
        assert_eq!(whole.len(), 20);
    }

    #[test]
    fn a_build_is_missing_when_one_program_is() -> Result<()> {
        let place = tempfile::tempdir()?;
        let module = GoModule {
            source: Source {
                directory: "",
                files: &[],
                packages: ".",
                programs: &["one", "two"],
                cache: "",
                name: "",
            },
            directory: PathBuf::new(),
            mod_file: String::new(),
            ldflags: String::new(),
            key: String::new(),
            place: place.path().to_owned(),
        };
        fs::write(module.program("one"), "")?;
        assert!(module.is_missing());
        fs::write(module.program("two"), "")?;
        assert!(!module.is_missing());
        Ok(())
    }
}
