//! Searches for counterexamples at random: first the properties of the unit tests with a new seed, then the fuzz
//! targets, one after the other: `make fuzz ARGS="--seconds 600"`. A named test is to keep what is found.

#![allow(clippy::print_stderr, reason = "this is what people read of it")]

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use curfew_fuzz_targets::{TARGETS, Target};

/// What runs the properties, beside the fuzz targets.
const PROPERTIES: &str = "properties";

/// The packages that have properties.
const PACKAGES: [&str; 2] = ["curfew-core", "kubectl-pi"];

/// Runs the properties with a new seed, and the fuzz targets with inputs from libFuzzer
#[derive(Debug, Parser)]
#[command(name = "make fuzz")]
struct Args {
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// The number of cases for each property
    #[arg(long, default_value_t = 100_000)]
    cases: u32,
    /// The seed of the properties; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Only run properties whose test names contain this
    #[arg(long, default_value = "")]
    test: String,
    /// Only run these: `properties`, or names of fuzz targets
    targets: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut names = vec![PROPERTIES];
    names.extend(TARGETS.iter().map(|target| target.name));
    if let Some(unknown) = args
        .targets
        .iter()
        .find(|name| !names.contains(&name.as_str()))
    {
        bail!(
            "there is no target {unknown}; there are {}",
            names.join(", ")
        );
    }
    let wanted = |name: &str| args.targets.is_empty() || args.targets.iter().any(|one| one == name);
    let mut found = false;
    if wanted(PROPERTIES) {
        found |= !search(&args)?;
    }
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| wanted(target.name))
        .collect();
    if !targets.is_empty() {
        ready()?;
    }
    for target in targets {
        found |= !run(target, args.seconds)?;
    }
    Ok(match found {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Whether all properties held. Other unit tests of their packages run with them, which takes no time.
fn search(args: &Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    eprintln!("properties run with PROPTEST_RNG_SEED={seed}");
    let status = Command::new("cargo")
        .args(["test", "--profile", "search"])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .args(["--", &args.test])
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env("PROPTEST_CASES", args.cases.to_string())
        .env("PROPTEST_MAX_GLOBAL_REJECTS", args.cases.to_string())
        .status()
        .context("cargo cannot be started")?;
    Ok(status.success())
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
