//! Judges one part of the set and prints what was wrong: `cargo run --example judge -- tuning`. With `--all` it prints
//! what was right, too, and with `--tolerated` it compares thresholds. `-- reported --docs` prints what stands in
//! `docs/behaviour.md`. Look at the part for tuning only, or the other one is worth nothing.
#![allow(clippy::print_stdout)]

use curfew_behaviour::{Label, Part, judge, section, table, workloads};
use curfew_core::behaviour::{Decision, Thresholds};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let part = match has("reported") {
        true => Part::Reported,
        false => Part::Tuning,
    };
    let workloads = workloads()?;
    let outcomes = judge(&workloads, part, &Thresholds::default());
    if has("--docs") {
        print!("{}", section(&outcomes));
        return Ok(());
    }
    for outcome in outcomes
        .iter()
        .filter(|outcome| has("--all") || outcome.is_wrong())
    {
        let what = match (outcome.case.label, outcome.is_wrong()) {
            (Label::Usual, true) => "false alarm",
            (Label::Hostile, true) => "miss",
            (_, false) => "right",
        };
        println!(
            "{what}: {} ({}): {}",
            outcome.case.name,
            outcome.case.reason,
            outcome.case.command()
        );
        match &outcome.decision {
            Decision::Usual { noticed } => noticed
                .iter()
                .for_each(|reason| println!("    noticed: {reason}")),
            other => println!("    {other}"),
        }
    }
    println!("{}", table(&outcomes));
    for tolerated in [0, 2, 3].into_iter().filter(|_| has("--tolerated")) {
        let thresholds = Thresholds {
            tolerated,
            ..Thresholds::default()
        };
        let outcomes = judge(&workloads, part, &thresholds);
        println!("{tolerated} weak reasons tolerated:\n{}", table(&outcomes));
    }
    Ok(())
}
