//! How single parts grow, by the benchmarks of criterion in `agent`, `core` and `webhook`: schedule, store, policies and
//! AdmissionReviews. They need no cluster; `make growth` measures the same for longer.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{layout::Checkout, run};
use serde_json::Value;
use tokio::process::Command;

use crate::{report::Report, say, tidy::tidily};

const PACKAGES: [&str; 3] = ["curfew-core", "curfew-agent", "curfew-webhook"];
const BENCHES: [&str; 4] = ["evaluation", "schedule", "store", "review"];
/// What is done with the schedule, and how many pods it has at least and at most.
const OPERATIONS: [&str; 4] = ["insert", "cancel", "extend", "pop"];
const FEW: &str = "100";
const MANY: &str = "1000000";
/// How many times as long an operation may take with most pods as with fewest: three times by the logarithm, and what
/// does not fit into the processor's caches. By the number of pods it would be 10,000 times.
const TIMES: f64 = 30.0;
/// What the benchmark of the store says of the disk begins so.
const ON_DISK: &str = "store of ";

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Measure each as long as `make growth` does, and not only until its figure is stable
    #[arg(long)]
    thorough: bool,
}

pub(crate) async fn run(settings: &Settings) -> Result<Report> {
    let work = async {
        say("building the benchmarks of criterion");
        let mut printed = String::new();
        for (name, program) in build().await? {
            say(&format!("how it grows: {name}"));
            printed += &measure(&program, settings)
                .await
                .with_context(|| format!("the benchmark {name}"))?;
        }
        report(&printed)
    };
    tidily(work, async { Ok(()) }).await
}

/// Builds the programs, and returns their names and where they are.
async fn build() -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["bench", "--no-run", "--message-format=json"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    for bench in BENCHES {
        cargo.args(["--bench", bench]);
    }
    Checkout::find()?.run_cargo_here(run::without_package(&mut cargo));
    let mut cargo = Command::from(cargo);
    cargo.stderr(Stdio::inherit());
    let built = output(cargo).await.context("the benchmarks, by cargo")?;
    let programs: Vec<_> = built.lines().filter_map(program).collect();
    ensure!(
        programs.len() == BENCHES.len(),
        "cargo has built {programs:?}"
    );
    Ok(programs)
}

/// The program of which a line of cargo's tells.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["kind"][0] != "bench" {
        return None;
    }
    let name = message["target"]["name"].as_str()?.to_owned();
    Some((name, message["executable"].as_str()?.into()))
}

/// What a benchmark prints.
async fn measure(program: &Path, settings: &Settings) -> Result<String> {
    let mut command = Command::new(program);
    // It compares with no earlier run.
    command.args(["--bench", "--noplot", "--discard-baseline"]);
    if !settings.thorough {
        command.arg("--quick");
    }
    // It tells there how far it is.
    command.stderr(Stdio::null());
    output(command).await
}

/// Runs to the end, or until nobody waits for it any more.
async fn output(mut command: Command) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let running = command.spawn().context("it cannot be started")?;
    let done = running.wait_with_output().await?;
    ensure!(done.status.success(), "it ended with {}", done.status);
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// What criterion has printed of a function.
#[derive(Debug, PartialEq, Eq)]
struct Figure {
    /// What it is about, and of what size.
    group: String,
    size: String,
    time: String,
    throughput: Option<String>,
}

fn report(printed: &str) -> Result<Report> {
    let figures = figures(printed);
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for figure in &figures {
        let told = match &figure.throughput {
            Some(throughput) => format!("{}: {} ({throughput})", figure.size, figure.time),
            None => format!("{}: {}", figure.size, figure.time),
        };
        let known = groups.iter_mut().find(|(name, _)| *name == figure.group);
        match known {
            Some((_, all)) => all.push(told),
            None => groups.push((figure.group.as_str(), vec![told])),
        }
    }
    let mut report = Report::default();
    for (name, all) in groups {
        report.figure(name, all.join("; "));
    }
    for line in printed.lines().filter(|line| line.starts_with(ON_DISK)) {
        if let Some((name, said)) = line.split_once(": ") {
            report.figure(name, said);
        }
    }
    for operation in OPERATIONS {
        let group = format!("schedule/{operation}");
        let of = |size: &str| {
            let mut figures = figures.iter();
            let figure = figures.find(|figure| figure.group == group && figure.size == size);
            let time = figure.and_then(|figure| seconds(&figure.time));
            time.with_context(|| format!("criterion does not tell {group}/{size}"))
        };
        let times = of(MANY)? / of(FEW)?;
        report.target(
            &format!("{group}, {MANY} pods next to {FEW}"),
            format!("{times:.1} times as long"),
            format!("at most {TIMES} times"),
            times <= TIMES,
        );
    }
    Ok(report)
}

/// The figures among what was printed.
fn figures(printed: &str) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut last = "";
    for line in printed.lines() {
        if let Some((name, estimates)) = line.split_once("time:   [") {
            // A long name has a line of its own.
            let name = match name.trim() {
                "" => last,
                name => name,
            };
            let (group, size) = name.rsplit_once('/').unwrap_or((name, ""));
            figures.extend(middle(estimates).map(|time| Figure {
                group: group.to_owned(),
                size: size.to_owned(),
                time,
                throughput: None,
            }));
        } else if let Some((_, estimates)) = line.split_once("thrpt:  [") {
            if let Some(figure) = figures.last_mut() {
                figure.throughput = middle(estimates);
            }
        } else {
            last = line.trim();
        }
    }
    figures
}

/// The estimate between its bounds: three values with their units.
fn middle(estimates: &str) -> Option<String> {
    let mut words = estimates.split_whitespace().skip(2);
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// A time as criterion writes it, in seconds.
fn seconds(time: &str) -> Option<f64> {
    let (value, unit) = time.split_once(' ')?;
    let unit = match unit {
        "ps" => 1e-12,
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(value.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
schedule/insert/100     time:   [1.1000 µs 1.2000 µs 1.3000 µs]
Found 1 outliers among 10 measurements (10.00%)
  1 (10.00%) high mild
schedule/insert/1000000 time:   [2.1000 µs 2.4000 µs 2.6000 µs]

store of 250 records: 300 bytes on disk for each, of which the value has 200
policies, all conditions/1000
                        time:   [1.0000 ms 1.5000 ms 2.0000 ms]
                        thrpt:  [1.0000 Kelem/s 2.0000 Kelem/s 3.0000 Kelem/s]
";

    #[test]
    fn what_criterion_prints_is_read() {
        let figure = |group: &str, size: &str, time: &str, throughput: Option<&str>| Figure {
            group: group.to_owned(),
            size: size.to_owned(),
            time: time.to_owned(),
            throughput: throughput.map(str::to_owned),
        };
        assert_eq!(
            figures(PRINTED),
            [
                figure("schedule/insert", "100", "1.2000 µs", None),
                figure("schedule/insert", "1000000", "2.4000 µs", None),
                figure(
                    "policies, all conditions",
                    "1000",
                    "1.5000 ms",
                    Some("2.0000 Kelem/s")
                ),
            ]
        );
        assert_eq!(seconds("2.5000 µs"), Some(2.5 * 1e-6));
        assert_eq!(seconds("2.5 weeks"), None);
    }

    #[test]
    fn an_operation_that_grows_with_the_pods_misses_the_target() {
        let of = |many: &str| {
            let lines = OPERATIONS.map(|operation| {
                format!(
                    "schedule/{operation}/100 time:   [1 ns 2 ns 3 ns]\n\
                     schedule/{operation}/1000000 time:   [1 {many} 2 {many} 3 {many}]\n"
                )
            });
            report(&(lines.concat() + PRINTED))
        };
        assert!(of("ns").unwrap().holds());
        let missed = of("µs").unwrap();
        assert!(!missed.holds());
        let text = missed.to_string();
        assert!(text.contains("1000.0 times as long"), "{text}");
        assert!(text.contains("300 bytes on disk"), "{text}");
        assert!(report(PRINTED).is_err());
    }

    #[test]
    fn only_benchmarks_are_run() {
        let line = |kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"store"}},"executable":"/x/store-1"}}"#
            )
        };
        let store = ("store".to_owned(), PathBuf::from("/x/store-1"));
        assert_eq!(program(&line("bench")), Some(store));
        assert_eq!(program(&line("lib")), None);
        assert_eq!(program("Compiling"), None);
    }
}
