//! The Kubernetes binary, from pinned Go modules.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    go_module::{GoModule, Source},
    kubernetes::{self, Minor},
    layout::{self, Checkout},
};

const SOURCE: Source = Source {
    directory: kubernetes::DIRECTORY,
    files: &["main.go"],
    packages: ".",
    programs: &["kube"],
    cache: "kube",
    name: "Kubernetes (once per machine; about ten minutes on two cores)",
};
/// Who keeps a version: what the programs say of themselves, and what the API server's audit log says of its clients.
const VERSION_PACKAGES: [&str; 2] = [
    "k8s.io/component-base/version",
    "k8s.io/client-go/pkg/version",
];

/// The binary has to be told its version: without it kubectl cannot parse its own.
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

/// The binary that this checkout asks for, and whether it is built.
#[derive(Debug)]
pub struct KubeBinary {
    module: GoModule,
    /// Its minor.
    pub minor: Minor,
    /// What it was, or will be, built from.
    pub key: String,
    /// Where it is, or will be.
    pub path: PathBuf,
}

impl KubeBinary {
    /// Looks for the one of this minor, or else of the default.
    pub fn find(checkout: &Checkout, minor: Option<Minor>) -> Result<Self> {
        let pinned = kubernetes::pinned(checkout, minor)?;
        let module = GoModule::find(checkout.root(), SOURCE, &pinned.mod_file, |_| {
            ldflags(&pinned.version)
        })?;
        Ok(Self {
            minor: pinned.minor,
            key: module.key.clone(),
            path: module.program("kube"),
            module,
        })
    }

    /// Whether it has to be built.
    pub fn is_missing(&self) -> bool {
        self.module.is_missing()
    }

    /// Builds it if need be.
    pub fn ensure(&self) -> Result<()> {
        self.module.ensure()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_stamped() -> Result<()> {
        let flags = ldflags("v1.36.3")?;
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
