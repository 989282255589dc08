//! The programs of the end-to-end tests, and how one is run.

use std::{
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::run;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::outcome::Outcome;

/// As many as in `make test`.
const THREADS: &str = "--test-threads=8";
/// A program that runs for longer hangs, and is ended. `together` has more than a hundred tests.
const LIMIT: Duration = Duration::from_secs(3600);
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The names of all programs, in the order of `cargo test`.
pub(crate) fn programs(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("tests/e2e/tests");
    let entries = fs::read_dir(&folder).context("there are no end-to-end tests")?;
    let mut programs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        let is_program = is_file || path.join("main.rs").exists();
        if let Some(stem) = path.file_stem().filter(|_| is_program) {
            programs.push(stem.to_string_lossy().into_owned());
        }
    }
    programs.sort();
    ensure!(!programs.is_empty(), "there are no end-to-end tests");
    Ok(programs)
}

/// Builds all programs.
pub(crate) fn build(root: &Path) -> Result<()> {
    let mut cargo = cargo(root);
    cargo.args(["--no-run", "--tests"]);
    run::shown(&mut cargo, "the end-to-end tests cannot be built")
}

/// Runs one program to its end, and keeps all that it says in its log.
pub(crate) fn run(root: &Path, program: &str, log: &Path) -> Result<Outcome> {
    let mut cargo = cargo(root);
    cargo
        .args(["--test", program, "--", THREADS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // It is ended with all that it has started.
        .process_group(0);
    let mut child = cargo
        .spawn()
        .map_err(|error| run::not_started("cargo", &error))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let stderr = child.stderr.take().context("cargo has no output")?;
    let (stdout, stderr) = (read(stdout), read(stderr));
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > LIMIT {
            killpg(Pid::from_raw(child.id().try_into()?), Signal::SIGKILL)?;
        }
        thread::sleep(POLL);
    }
    let (stdout, stderr) = (
        stdout.join().unwrap_or_default(),
        stderr.join().unwrap_or_default(),
    );
    let output = format!("{stdout}\n{stderr}");
    fs::write(log, &output).with_context(|| format!("{} cannot be written", log.display()))?;
    Ok(Outcome::read(program, &output))
}

fn read(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until a failure is more than nothing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--package", "curfew-e2e"])
        .current_dir(root);
    run::without_package(&mut cargo);
    cargo
}
