//! Runs the fuzz targets, one after the other: `make fuzz ARGS="--seconds 600"`.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use curfew_fuzz_targets::{TARGETS, Target};

/// Tries the fuzz targets with inputs that libFuzzer thinks of
#[derive(Debug, Parser)]
#[command(name = "make fuzz")]
struct Args {
    /// How long each target is tried
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these targets
    targets: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let known = |name: &String| TARGETS.iter().any(|target| target.name == name);
    if let Some(unknown) = args.targets.iter().find(|name| !known(name)) {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!(
            "there is no target {unknown}; there are {}",
            names.join(", ")
        );
    }
    ready()?;
    let mut found = false;
    for target in &TARGETS {
        if args.targets.is_empty() || args.targets.iter().any(|name| name == target.name) {
            found |= !run(target, args.seconds)?;
        }
    }
    Ok(match found {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Looks whether there is what the fuzzer needs.
fn ready() -> Result<()> {
    let works = |command: &mut Command| {
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        silent.status().is_ok_and(|status| status.success())
    };
    if !works(cargo().arg("--version")) {
        bail!("the nightly compiler is missing: rustup toolchain install nightly");
    }
    if !works(cargo().args(["fuzz", "--version"])) {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    // `cargo run` tells this program of the stable compiler, which would come first.
    cargo.env_remove("RUSTUP_TOOLCHAIN").arg("+nightly");
    cargo
}

/// Whether a target held. What libFuzzer finds worth keeping goes to target/, findings to
/// fuzz/artifacts.
fn run(target: &Target, seconds: u32) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = root.join("target/fuzz-corpus").join(target.name);
    std::fs::create_dir_all(&found)
        .with_context(|| format!("{} cannot be made", found.display()))?;
    let status = cargo()
        .current_dir(root.join("fuzz"))
        .env("CARGO_TARGET_DIR", root.join("target/fuzz"))
        .args(["fuzz", "run", target.name])
        .arg(found)
        .args(target.folders().iter().filter(|folder| folder.is_dir()))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.max_len))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .status()
        .context("cargo cannot be started")?;
    Ok(status.success())
}
