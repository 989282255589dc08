//! That the set is what it says, and that the published figures are those that are computed.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;

use curfew_behaviour::{Figures, Label, Part, Workload, history, judge, read, section, workloads};
use curfew_core::behaviour::Thresholds;

/// The page with the figures.
const PAGE: &str = include_str!("../../../docs/behaviour.md");

fn count(workloads: &[Workload], part: Part, label: Label) -> usize {
    let cases = workloads.iter().flat_map(|workload| &workload.cases);
    cases
        .filter(|case| case.part() == part && case.label == label)
        .count()
}

#[test]
fn the_set_is_large_and_both_parts_have_all_kinds() {
    let workloads = workloads().unwrap();
    let names: Vec<_> = workloads
        .iter()
        .flat_map(|workload| &workload.cases)
        .map(|case| (case.label, &case.name))
        .collect();
    assert!(names.len() >= 300, "{}", names.len());
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "a name is there twice");
    for workload in &workloads {
        for part in [Part::Tuning, Part::Reported] {
            for label in [Label::Usual, Label::Hostile] {
                let some = count(std::slice::from_ref(workload), part, label);
                assert!(some >= 5, "{} {part:?} {label:?}: {some}", workload.name);
            }
        }
    }
}

#[test]
fn the_history_is_the_same_in_each_run() {
    for workload in workloads().unwrap() {
        let (one, other) = (history(&workload), history(&workload));
        assert_eq!(one, other, "{}", workload.name);
        assert!(one.len() > 60, "{}: {}", workload.name, one.len());
    }
}

#[test]
fn a_line_that_makes_no_sense_is_refused() {
    for line in [
        "habit nobody | exec app it | Mon-Fri 08-17 3 | ls",
        "usual x | routine | ana | exec app | Mon 10 | ls",
        "usual x | routine | ana | exec app it | Mon 25 | ls",
        "usual x | routine | ana | exec app it | Mon 10 | 'open",
        "usual x | routine | ana | run app it | Mon 10 | ls",
    ] {
        assert!(read("x", line).is_err(), "{line}");
    }
}

#[test]
fn the_published_figures_are_those_that_are_computed() {
    let workloads = workloads().unwrap();
    let outcomes = judge(&workloads, Part::Reported, &Thresholds::default());
    let computed = section(&outcomes);
    println!("{computed}");
    let figures = Figures::of(&outcomes);
    assert_eq!(
        figures.usual,
        count(&workloads, Part::Reported, Label::Usual)
    );
    assert_eq!(
        figures.hostile,
        count(&workloads, Part::Reported, Label::Hostile)
    );
    let (_, rest) = PAGE.split_once("<!-- figures -->\n").unwrap();
    let (published, _) = rest.split_once("<!-- end of figures -->").unwrap();
    assert_eq!(
        published.trim(),
        computed.trim(),
        "write what `cargo run -p curfew-behaviour --example judge -- reported --docs` prints into docs/behaviour.md"
    );
}
