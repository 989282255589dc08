//! The Debian packages that the cluster is made of, the browser of its tests, and how others are installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{progress, run};

/// What is needed, by what shows that it is there: other packages may provide it just as well.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The package.
    pub package: &'static str,
    /// Programs that it brings.
    pub programs: &'static [&'static str],
}

const NEEDS: [Need; 9] = [
    Need {
        package: "containerd",
        programs: &["containerd", "ctr", "containerd-shim-runc-v2"],
    },
    Need {
        package: "runc",
        programs: &["runc"],
    },
    Need {
        package: "containernetworking-plugins",
        programs: &[],
    },
    Need {
        package: "iptables",
        programs: &["iptables", "iptables-save", "ip6tables", "ip6tables-save"],
    },
    Need {
        package: "buildah",
        programs: &["buildah"],
    },
    Need {
        package: "busybox-static",
        programs: &[],
    },
    Need {
        package: "iproute2",
        programs: &["ip"],
    },
    Need {
        package: "util-linux",
        programs: &["setsid", "nsenter", "unshare"],
    },
    Need {
        package: "mount",
        programs: &["mount", "umount"],
    },
];

/// The smallest Chromium that Debian has.
const BROWSER_PACKAGE: &str = "chromium-headless-shell";
/// Where it is. The script of that name in the path starts it as a child, which lives on when one ends the
/// script.
const BROWSER: &str = "/usr/lib/chromium/chromium-headless-shell";
/// Any of these will do as well.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

const CNI_DIRS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const CNI_PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// The C library for programs of the other architecture, which the compiler only recommends.
pub const LIBC_FOR_ARM64: &str = "libc6-dev-arm64-cross";
const ARM64_LIBC: &str = "/usr/aarch64-linux-gnu/lib/libc.a";

/// Where the CNI plugins are.
pub fn cni_dir() -> Result<&'static Path> {
    let complete = |dir: &&Path| CNI_PLUGINS.iter().all(|plugin| dir.join(plugin).is_file());
    CNI_DIRS
        .iter()
        .map(Path::new)
        .find(complete)
        .context("the CNI plugins ptp, host-local and loopback are missing")
}

/// A busybox that needs no libraries.
pub fn static_busybox() -> Result<&'static Path> {
    // Only a dynamic program names its loader, and does so in its first page.
    let is_static = |path: &&Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        !bytes.is_empty()
            && !bytes[..bytes.len().min(4096)]
                .windows(6)
                .any(|at| at == b"ld-lin")
    };
    BUSYBOX
        .iter()
        .map(Path::new)
        .find(is_static)
        .context("a statically linked busybox is missing")
}

/// A Chromium, which tests look at pages with.
pub fn browser() -> Result<PathBuf> {
    let installed = Some(PathBuf::from(BROWSER)).filter(|path| path.is_file());
    let found = installed.or_else(|| BROWSERS.iter().find_map(|name| run::find(name)));
    found.context(
        "there is no Chromium here: `cargo run --package curfew-cluster -- tools` installs it",
    )
}

fn is_present(need: &Need) -> bool {
    match need.package {
        "containernetworking-plugins" => cni_dir().is_ok(),
        "busybox-static" => static_busybox().is_ok(),
        LIBC_FOR_ARM64 => Path::new(ARM64_LIBC).is_file(),
        _ => need.programs.iter().all(|program| run::exists(program)),
    }
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|need| !is_present(need))
        .map(|need| need.package)
        .collect()
}

/// Installs what the cluster lacks, naming it first.
pub fn ensure() -> Result<()> {
    ensure_these(&NEEDS)
}

/// Installs what is missing of these, naming it first.
pub fn ensure_these(needs: &[Need]) -> Result<()> {
    get(&missing(needs))?;
    let missing = missing(needs);
    if !missing.is_empty() {
        bail!(
            "the Debian packages {} are installed but do not bring what is needed",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Installs the browser of the tests where there is none, naming it first.
pub fn ensure_browser() -> Result<()> {
    if browser().is_err() {
        get(&[BROWSER_PACKAGE])?;
    }
    browser().map(drop)
}

fn get(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(", ");
    if !run::exists("apt-get") {
        bail!("please install what Debian calls {list}: this machine has no apt-get to do it with");
    }
    progress::step(&format!("Installing Debian packages: {list}"));
    // A new machine has no package lists yet, an old one has stale ones: fetch them only when it does not work without.
    if install(packages).is_err() {
        progress::note("fetching the package lists first");
        let updated = run::check(apt().arg("update"));
        install(packages).map_err(|error| {
            let error = updated.err().unwrap_or(error);
            error.context(format!("the Debian packages {list} cannot be installed"))
        })?;
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    run::check(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

/// apt-get, which asks nothing.
pub(crate) fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_when_one_program_is() {
        assert!(is_present(&Need {
            package: "sh",
            programs: &["sh"]
        }));
        assert!(!is_present(&Need {
            package: "sh",
            programs: &["sh", "curfew-no-such-program"]
        }));
    }
}
