//! The Kubernetes binary: built once from pinned Go modules, then found in the cache by what it was built from.

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
    layout::{self, Checkout},
    progress::{Long, note},
    run,
};

const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];
/// Who keeps a version: what the programs say of themselves, and what the API server's audit log says of its clients.
const VERSION_PACKAGES: [&str; 2] = [
    "k8s.io/component-base/version",
    "k8s.io/client-go/pkg/version",
];
/// How often the clock moves.
const TICK: Duration = Duration::from_millis(500);
/// How many binaries of other versions stay in the cache beside the newest.
const KEPT: usize = 2;

/// The directory of the Go module.
fn module(checkout: &Checkout) -> PathBuf {
    checkout.root().join("tests/cluster/kube")
}

/// Which Kubernetes go.mod pins. The binary has to be told: without it kubectl cannot parse its own version.
fn version(go_mod: &str) -> Result<&str> {
    let line = go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    line.map(str::trim)
        .context("tests/cluster/kube/go.mod does not pin k8s.io/kubernetes")
}

fn ldflags(version: &str) -> Result<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("{version} is not a version of Kubernetes");
    };
    let stamps = VERSION_PACKAGES.iter().flat_map(|package| {
        let values = [
            ("gitVersion", version),
            ("gitMajor", major),
            ("gitMinor", minor),
        ];
        values.map(|(name, value)| format!(" -X {package}.{name}={value}"))
    });
    Ok(format!("-s -w{}", stamps.collect::<String>()))
}

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

/// The binary that this checkout asks for, and whether it is built.
#[derive(Debug)]
pub struct KubeBinary {
    module: PathBuf,
    ldflags: String,
    /// What it was, or will be, built from.
    pub key: String,
    /// Where it is, or will be.
    pub path: PathBuf,
}

impl KubeBinary {
    /// Looks for it.
    pub fn find(checkout: &Checkout) -> Result<Self> {
        let module = module(checkout);
        let mut sources = Vec::new();
        for name in SOURCES {
            let path = module.join(name);
            sources.push(
                fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?,
            );
        }
        let ldflags = ldflags(version(&String::from_utf8_lossy(&sources[0]))?)?;
        let go = run::output(Command::new("go").arg("version").current_dir(&module))?;
        let rest = [ldflags.as_bytes(), go.trim().as_bytes()];
        let key = key(sources.iter().map(Vec::as_slice).chain(rest));
        let path = layout::cache_dir()?.join("kube").join(&key).join("kube");
        Ok(Self {
            module,
            ldflags,
            key,
            path,
        })
    }

    /// Whether it has to be built.
    pub fn is_missing(&self) -> bool {
        !self.path.exists()
    }

    /// Builds it if need be.
    pub fn ensure(&self) -> Result<()> {
        if !self.is_missing() {
            return Ok(());
        }
        let dir = self
            .path
            .parent()
            .context("the cache has no directory for the binary")?;
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let lock = File::create(dir.join("lock"))?;
        lock.lock()?;
        if !self.is_missing() {
            return Ok(());
        }
        let mut progress =
            Long::new("Building Kubernetes (once per machine; about ten minutes on two cores)");
        let new = self.path.with_extension("new");
        let mut go = Command::new("go");
        go.args(["build", "-v", "-trimpath", "-ldflags", &self.ldflags, "-o"])
            .arg(&new)
            .arg(".");
        go.current_dir(&self.module).env("CGO_ENABLED", "0");
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
            bail!("Kubernetes could not be built ({status}): {last}");
        }
        fs::rename(&new, &self.path)?;
        forget_old(dir);
        Ok(())
    }

    /// Puts it, under the name of each part, where the running cluster needs it. A link if that is possible, so that
    /// emptying the cache does not take it from under the cluster.
    pub fn install(&self, parts: &[&str]) -> Result<()> {
        let bin = layout::machine("bin");
        fs::create_dir_all(&bin)?;
        let kube = bin.join("kube");
        if !kube.exists() && fs::hard_link(&self.path, &kube).is_err() {
            let new = bin.join("kube.new");
            fs::copy(&self.path, &new).context("the Kubernetes binary cannot be copied")?;
            fs::rename(&new, &kube)?;
        }
        for part in parts {
            link("kube".as_ref(), &bin.join(part))?;
        }
        Ok(())
    }
}

/// Makes `path` a symbolic link to `target`, whatever it was.
pub fn link(target: &Path, path: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|current| current == target) {
        return Ok(());
    }
    drop(fs::remove_file(path));
    std::os::unix::fs::symlink(target, path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

fn forget_old(newest: &Path) {
    let Some(all) = newest.parent() else { return };
    let modified = |path: &Path| {
        fs::metadata(path.join("kube"))
            .and_then(|meta| meta.modified())
            .ok()
    };
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
    fn the_version_is_stamped() -> Result<()> {
        let go_mod = "require (\n\tk8s.io/kubectl v0.0.0\n\tk8s.io/kubernetes v1.36.3\n)\n";
        let flags = ldflags(version(go_mod)?)?;
        assert!(
            flags.starts_with("-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X "),
            "{flags}"
        );
        assert!(
            flags.ends_with(" -X k8s.io/client-go/pkg/version.gitMinor=36"),
            "{flags}"
        );
        Ok(())
    }
}
