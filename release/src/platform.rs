//! What is built for which machines, and with which compilers.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use curfew_cluster::{
    packages::{LIBC_FOR_ARM64, Need},
    progress, run,
};

/// A kind of machine, and how programs for it are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, as Go and OCI images name it.
    pub os: &'static str,
    /// The processor, as Go and OCI images name it.
    pub arch: &'static str,
    /// The target of rustc.
    pub triple: &'static str,
    /// The C compiler, which also links; none where programs cannot be built here.
    pub compiler: Option<&'static str>,
    /// More flags of rustc.
    pub flags: &'static [&'static str],
    /// What runs its programs here.
    pub runner: Runner,
}

/// What runs the programs of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// They run by themselves.
    Itself,
    /// Another program runs them.
    Through(&'static str),
    /// Nothing here does.
    Nothing,
}

const GCC_AMD64: &str = "x86_64-linux-gnu-gcc";
const GCC_ARM64: &str = "aarch64-linux-gnu-gcc";
const GCC_WINDOWS: &str = "x86_64-w64-mingw32-gcc";
/// Runs programs for arm64 on any machine.
const QEMU_ARM64: &str = "qemu-aarch64-static";

const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];

/// The platforms of the images.
pub const IMAGES: [Platform; 2] = [
    Platform {
        os: "linux",
        arch: "amd64",
        triple: "x86_64-unknown-linux-gnu",
        compiler: Some(GCC_AMD64),
        flags: &STATIC,
        runner: Runner::Itself,
    },
    Platform {
        os: "linux",
        arch: "arm64",
        triple: "aarch64-unknown-linux-gnu",
        compiler: Some(GCC_ARM64),
        flags: &STATIC,
        runner: Runner::Through(QEMU_ARM64),
    },
];

/// The platforms of the plugin. On Linux it is linked with musl: it runs on any distribution, and a static glibc
/// could not look up names there.
pub const ALL: [Platform; 5] = [
    Platform {
        os: "linux",
        arch: "amd64",
        triple: "x86_64-unknown-linux-musl",
        compiler: Some(GCC_AMD64),
        flags: &[],
        runner: Runner::Itself,
    },
    Platform {
        os: "linux",
        arch: "arm64",
        triple: "aarch64-unknown-linux-musl",
        compiler: Some(GCC_ARM64),
        flags: &[],
        runner: Runner::Through(QEMU_ARM64),
    },
    Platform {
        os: "windows",
        arch: "amd64",
        triple: "x86_64-pc-windows-gnu",
        compiler: Some(GCC_WINDOWS),
        // The linker would write down when it ran.
        flags: &["-C", "link-arg=-Wl,--no-insert-timestamp"],
        runner: Runner::Nothing,
    },
    // Apple's frameworks are only on its own machines.
    Platform {
        os: "darwin",
        arch: "amd64",
        triple: "x86_64-apple-darwin",
        compiler: None,
        flags: &[],
        runner: Runner::Nothing,
    },
    Platform {
        os: "darwin",
        arch: "arm64",
        triple: "aarch64-apple-darwin",
        compiler: None,
        flags: &[],
        runner: Runner::Nothing,
    },
];

/// Those of [`ALL`] for which the plugin is built here.
pub const PLUGIN: [Platform; 3] = [ALL[0], ALL[1], ALL[2]];

impl Platform {
    /// A program, to be run here; none where nothing here runs it.
    pub fn runs(&self, program: &Path) -> Option<Command> {
        match self.runner {
            Runner::Itself => Some(Command::new(program)),
            Runner::Through(runner) => {
                let mut command = Command::new(runner);
                command.arg(program);
                Some(command)
            }
            Runner::Nothing => None,
        }
    }

    /// What a program of this name is called.
    pub fn file_name(&self, program: &str) -> String {
        match self.os {
            "windows" => format!("{program}.exe"),
            _ => program.to_owned(),
        }
    }
}

/// The packages that building takes.
pub fn needs() -> Vec<Need> {
    let need = |package, programs| Need { package, programs };
    vec![
        need("buildah", &["buildah"]),
        need("gcc-x86-64-linux-gnu", &[GCC_AMD64]),
        need("gcc-aarch64-linux-gnu", &[GCC_ARM64]),
        need(LIBC_FOR_ARM64, &[]),
        need("gcc-mingw-w64-x86-64-win32", &[GCC_WINDOWS]),
        need("qemu-user-static", &[QEMU_ARM64]),
    ]
}

/// Has rustup get the standard libraries that are missing, naming them first.
///
/// # Errors
/// When rustup cannot get them.
pub fn ensure_targets() -> Result<()> {
    let mut missing = Vec::new();
    for platform in IMAGES.iter().chain(&PLUGIN) {
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "target-libdir", "--target", platform.triple]);
        if !Path::new(run::output(&mut rustc)?.trim()).is_dir() {
            missing.push(platform.triple);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    progress::step(&format!(
        "Getting Rust's standard library for {}",
        missing.join(", ")
    ));
    run::check(
        Command::new("rustup")
            .args(["target", "add"])
            .args(&missing),
    )
    .context("the standard libraries of other platforms are missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_of_the_plugin_is_named_once() {
        let mut names: Vec<_> = ALL.iter().map(|one| (one.os, one.arch)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(PLUGIN.iter().all(|platform| platform.compiler.is_some()));
    }
}
