//! Runs all unit tests many times beside a load on all processors, and names each test that ever failed:
//! `make flaky ARGS="--rounds 50"`.
//!
//! The tests are built once, and their programs are run as cargo would, several at a time.

#![allow(clippy::print_stdout, reason = "this is what people read of it")]

mod programs;
mod report;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;

use crate::{programs::Program, report::Report};

/// A program that runs for longer hangs, and is ended.
const LIMIT: Duration = Duration::from_secs(600);

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Runs the unit tests many times on a busy machine, and names those that fail by chance
#[derive(Debug, Parser)]
#[command(name = "make flaky")]
struct Args {
    /// How often each test runs
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// The number of threads that only use CPU time; by default one for each processor
    #[arg(long)]
    load: Option<usize>,
    /// The number of test programs that run at the same time
    #[arg(long, default_value_t = 2)]
    at_a_time: usize,
    /// Only run the tests of these packages, such as curfew-agent
    packages: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut programs = programs::build(&args.packages)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("the source tree is gone")?;
    let logs = root.join("target/flaky");
    fs::create_dir_all(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
    let processors = thread::available_parallelism()?.get();
    let load = Load::start(args.load.unwrap_or(processors));
    if let Ok(seed) = std::env::var("PROPTEST_RNG_SEED") {
        println!("properties run with PROPTEST_RNG_SEED={seed}");
    }
    let mut report = Report::default();
    for round in 1..=args.rounds {
        let begun = Instant::now();
        let runs = run_all(&programs, args.at_a_time, &logs, round)?;
        let mut took = BTreeMap::new();
        for run in runs {
            took.insert(run.name.clone(), run.took);
            report.add(&run.name, run.failed, &run.log);
        }
        // The longest first: nothing waits for it in the end.
        programs.sort_by_key(|program| std::cmp::Reverse(took.get(&program.name).copied()));
        let seconds = begun.elapsed().as_secs();
        println!(
            "round {round} of {}: {seconds} s, {} tests have failed so far",
            args.rounds,
            report.len()
        );
    }
    drop(load);
    print!("{}", report.text(args.rounds));
    Ok(match report.len() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Threads that only take processor time, until this is dropped.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One program, run once.
struct Run {
    name: String,
    /// The tests that failed.
    failed: Vec<String>,
    log: PathBuf,
    took: Duration,
}

/// Runs each program once, so many at a time. The output of those that fail is kept.
fn run_all(programs: &[Program], at_a_time: usize, logs: &Path, round: u32) -> Result<Vec<Run>> {
    let queue = Mutex::new(programs.iter());
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next()
    };
    let worker = || {
        let mut runs = Vec::new();
        while let Some(program) = next() {
            runs.push(run(program, logs, round)?);
        }
        Ok(runs)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time.max(1)).map(|_| scope.spawn(worker)).collect();
        let mut runs = Vec::new();
        for worker in workers {
            let of_one: Result<Vec<Run>> = worker
                .join()
                .map_err(|_| anyhow::anyhow!("running a program panicked"))?;
            runs.extend(of_one?);
        }
        Ok(runs)
    })
}

fn run(program: &Program, logs: &Path, round: u32) -> Result<Run> {
    let log = logs.join(format!("{}-{round}.log", program.name.replace(' ', "-")));
    let output = File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
    let begun = Instant::now();
    let mut child = Command::new(&program.path)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.path.display()))?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if begun.elapsed() > LIMIT => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => thread::sleep(POLL),
        }
    };
    let took = begun.elapsed();
    let failed = match status {
        Some(status) if status.success() => {
            fs::remove_file(&log)?;
            Vec::new()
        }
        Some(status) => {
            let text = fs::read(&log)?;
            let failed = report::failed_tests(&String::from_utf8_lossy(&text));
            match failed.is_empty() {
                true => vec![format!("(the program itself: {status})")],
                false => failed,
            }
        }
        None => vec![format!("(it did not end within {} s)", LIMIT.as_secs())],
    };
    Ok(Run {
        name: program.name.clone(),
        failed,
        log,
        took,
    })
}
