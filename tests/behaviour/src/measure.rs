//! How often a decision is wrong.

use std::{collections::BTreeMap, fmt::Write, hash::RandomState};

use curfew_core::behaviour::{Decision, ProfileIndex, ProfileSpec, Retention, Thresholds, decide};

use crate::{
    history::learn,
    set::{Case, Label, Part, Workload},
};

/// A case, and what was decided.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The case.
    pub case: &'a Case,
    /// What people call its workload.
    pub workload: &'a str,
    /// What was decided.
    pub decision: Decision,
}

impl Outcome<'_> {
    /// Whether the decision is wrong.
    pub fn is_wrong(&self) -> bool {
        matches!(self.decision, Decision::Irregular { .. }) != (self.case.label == Label::Hostile)
    }
}

/// Counts of one group of cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Ordinary cases.
    pub usual: usize,
    /// Those of them that were irregular.
    pub alarms: usize,
    /// Hostile cases.
    pub hostile: usize,
    /// Those of them that were not irregular.
    pub misses: usize,
}

impl Figures {
    /// Counts these outcomes.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome<'a>>) -> Self {
        let mut figures = Self::default();
        for outcome in outcomes {
            let (all, wrong) = match outcome.case.label {
                Label::Usual => (&mut figures.usual, &mut figures.alarms),
                Label::Hostile => (&mut figures.hostile, &mut figures.misses),
            };
            *all += 1;
            *wrong += usize::from(outcome.is_wrong());
        }
        figures
    }
}

/// Decides all cases of one part.
pub fn judge<'a>(
    workloads: &'a [Workload],
    part: Part,
    thresholds: &Thresholds,
) -> Vec<Outcome<'a>> {
    let mut outcomes = Vec::new();
    for workload in workloads {
        let status = learn(workload, thresholds);
        let spec = ProfileSpec::default();
        for case in workload.cases.iter().filter(|case| case.part() == part) {
            let begin = Retention::default().begin(case.time());
            let index = ProfileIndex::new(&spec, &status, begin, RandomState::new());
            let decision = decide(
                &case.features(),
                &index,
                thresholds,
                case.time(),
                &workload.name,
            );
            outcomes.push(Outcome {
                case,
                workload: &workload.name,
                decision,
            });
        }
    }
    outcomes
}

/// The figures as the table of `docs/behaviour.md`.
pub fn table(outcomes: &[Outcome<'_>]) -> String {
    let mut rows = BTreeMap::new();
    for outcome in outcomes {
        rows.entry(outcome.workload)
            .or_insert_with(Vec::new)
            .push(outcome);
    }
    let mut text =
        "| workload | ordinary | false alarms | hostile | misses |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut row = |name: &str, figures: Figures| {
        let rate = |part: usize, all: usize| match all {
            0 => String::new(),
            all => format!(" ({} %)", (part * 100 + all / 2) / all),
        };
        let Figures {
            usual,
            alarms,
            hostile,
            misses,
        } = figures;
        let (alarm_rate, miss_rate) = (rate(alarms, usual), rate(misses, hostile));
        let line = format!(
            "| {name} | {usual} | {alarms}{alarm_rate} | {hostile} | {misses}{miss_rate} |"
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    for (name, outcomes) in &rows {
        row(name, Figures::of(outcomes.iter().copied()));
    }
    row("**all**", Figures::of(outcomes));
    text
}

/// What `docs/behaviour.md` says of the reported part: the table, what was missed, and what was a false alarm.
pub fn section(outcomes: &[Outcome<'_>]) -> String {
    let mut text = table(outcomes);
    let wrong = |label: Label| {
        let is_wrong =
            move |outcome: &&Outcome<'_>| outcome.case.label == label && outcome.is_wrong();
        let mut wrong: Vec<_> = outcomes.iter().filter(is_wrong).collect();
        wrong.sort_by(|a, b| (&a.case.reason, &a.case.name).cmp(&(&b.case.reason, &b.case.name)));
        wrong
    };
    text.push_str("\nWhat evaded:\n\n| case | how | command |\n|---|---|---|\n");
    for outcome in wrong(Label::Hostile) {
        let Case { name, reason, .. } = outcome.case;
        let _ = writeln!(
            text,
            "| {name} | {reason} | {} |",
            code(&outcome.case.command())
        );
    }
    text.push_str(
        "\nFalse alarms:\n\n| case | what it was | command | reasons |\n|---|---|---|---|\n",
    );
    for outcome in wrong(Label::Usual) {
        let Case { name, reason, .. } = outcome.case;
        let Decision::Irregular { reasons } = &outcome.decision else {
            continue;
        };
        let reasons: Vec<_> = reasons
            .iter()
            .map(|reason| cell(&reason.to_string()))
            .collect();
        let command = code(&outcome.case.command());
        let _ = writeln!(
            text,
            "| {name} | {reason} | {command} | {} |",
            reasons.join("; ")
        );
    }
    text
}

/// The text within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "⏎")
}

fn code(command: &str) -> String {
    let quotes = if command.contains('`') { "``" } else { "`" };
    format!("{quotes}{}{quotes}", cell(command))
}
