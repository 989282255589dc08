//! The rules by which Grafana's dashboard-linter judges a dashboard, under its names for them. It is a program of
//! its own that not every machine can have; what it says of Loki does not concern us.

use serde_json::Value;

use crate::{
    dashboards::{Dashboard, Panel, Target, Variable, substitute},
    promql::{self, Selector},
};

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// The file of the dashboard.
    pub file: String,
    /// The title of the panel, where it is about one.
    pub panel: String,
    /// What is wrong.
    pub what: String,
}

/// A rule about a whole dashboard, a panel, or a query of it: what is wrong.
enum Rule {
    Dashboard(fn(&Dashboard) -> Vec<String>),
    Panel(fn(&Panel) -> Vec<String>),
    Query(fn(&[Selector]) -> Vec<String>),
}

const RULES: [(&str, Rule); 14] = [
    ("template-datasource-rule", Rule::Dashboard(datasource)),
    ("template-job-rule", Rule::Dashboard(job)),
    ("template-instance-rule", Rule::Dashboard(instance)),
    ("template-label-promql-rule", Rule::Dashboard(label_promql)),
    (
        "template-on-time-change-reload-rule",
        Rule::Dashboard(reload),
    ),
    ("uneditable-dashboard", Rule::Dashboard(uneditable)),
    ("panel-datasource-rule", Rule::Panel(panel_datasource)),
    (
        "panel-title-description-rule",
        Rule::Panel(title_description),
    ),
    ("panel-units-rule", Rule::Panel(units)),
    ("panel-no-targets-rule", Rule::Panel(no_targets)),
    (
        "target-job-rule",
        Rule::Query(|query| unmatched(query, "job")),
    ),
    (
        "target-instance-rule",
        Rule::Query(|query| unmatched(query, "instance")),
    ),
    ("target-rate-interval-rule", Rule::Query(rate_interval)),
    ("target-counter-agg-rule", Rule::Query(counter_agg)),
];
/// Has to be told apart from the others, because the queries are asked before.
const PROMQL: &str = "target-promql-rule";

/// Lengths of time that stand in for Grafana's, and that nobody would write.
const RATE_INTERVAL: (&str, &str) = ("__rate_interval", "1234567s");
const RANGE: (&str, &str) = ("__range", "7654321s");

/// Of Grafana's units, those that our metrics have.
const UNITS: [&str; 6] = [
    "bytes",
    "dateTimeFromNow",
    "dtdurations",
    "percentunit",
    "s",
    "short",
];
const DATASOURCE: &str = "${datasource}";

/// All that is wrong with a dashboard.
pub fn lint(dashboard: &Dashboard) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |rule, panel: &str, wrong: Vec<String>| {
        findings.extend(wrong.into_iter().map(|what| Finding {
            rule,
            file: dashboard.file.clone(),
            panel: panel.to_owned(),
            what,
        }));
    };
    for (name, rule) in &RULES {
        if let Rule::Dashboard(rule) = rule {
            note(name, "", rule(dashboard));
        }
    }
    for panel in dashboard.panels.iter().filter(|panel| panel.kind != "row") {
        for (name, rule) in &RULES {
            if let Rule::Panel(rule) = rule {
                note(name, &panel.title, rule(panel));
            }
        }
        for target in &panel.targets {
            match selectors(target) {
                Err(error) => note(PROMQL, &panel.title, vec![error.to_string()]),
                Ok(query) => {
                    for (name, rule) in &RULES {
                        if let Rule::Query(rule) = rule {
                            note(name, &panel.title, rule(&query));
                        }
                    }
                }
            }
        }
    }
    findings
}

/// The selections of a panel's query.
///
/// # Errors
/// When it is none.
pub fn selectors(target: &Target) -> anyhow::Result<Vec<Selector>> {
    promql::selectors(&target.query(&[RATE_INTERVAL, RANGE]))
}

fn wrong(is_wrong: bool, what: impl Into<String>) -> Vec<String> {
    if is_wrong {
        vec![what.into()]
    } else {
        Vec::new()
    }
}

fn is_templated(datasource: &Value) -> bool {
    datasource["uid"] == DATASOURCE
}

fn datasource(dashboard: &Dashboard) -> Vec<String> {
    let all: Vec<_> = dashboard
        .templating
        .list
        .iter()
        .filter(|variable| variable.kind == "datasource")
        .map(|variable| {
            (
                variable.name.as_str(),
                variable.label.as_str(),
                variable.query.as_str(),
            )
        })
        .collect();
    wrong(
        all != [("datasource", "Data source", "prometheus")],
        format!("the variables of data sources are {all:?}"),
    )
}

fn job(dashboard: &Dashboard) -> Vec<String> {
    variable(dashboard, "job", "Job")
}

fn instance(dashboard: &Dashboard) -> Vec<String> {
    variable(dashboard, "instance", "Instance")
}

fn variable(dashboard: &Dashboard, name: &str, label: &str) -> Vec<String> {
    let mut list = dashboard.templating.list.iter();
    match list.find(|variable| variable.name == name) {
        None => vec![format!("there is no variable {name}")],
        Some(found) => wrong(
            found.label != label
                || found.kind != "query"
                || !is_templated(&found.datasource)
                || !found.multi
                || found.all_value.as_deref() != Some(".+"),
            format!("the variable {name} is {found:?}"),
        ),
    }
}

fn queried(dashboard: &Dashboard) -> impl Iterator<Item = &Variable> {
    let list = dashboard.templating.list.iter();
    list.filter(|variable| variable.kind == "query")
}

fn label_promql(dashboard: &Dashboard) -> Vec<String> {
    let problem = |variable: &Variable| {
        let inner = variable
            .query
            .strip_prefix("label_values(")?
            .strip_suffix(')')?;
        promql::parse(inner.rsplit_once(',')?.0).ok()
    };
    queried(dashboard)
        .filter(|variable| problem(variable).is_none())
        .map(|variable| {
            format!(
                "the variable {} cannot be queried: {}",
                variable.name, variable.query
            )
        })
        .collect()
}

fn reload(dashboard: &Dashboard) -> Vec<String> {
    queried(dashboard)
        .filter(|variable| variable.refresh != 2)
        .map(|variable| format!("the variable {} stays when the time changes", variable.name))
        .collect()
}

fn uneditable(dashboard: &Dashboard) -> Vec<String> {
    wrong(
        dashboard.editable,
        "it can be edited in Grafana, and its file would not know",
    )
}

/// Whether a panel shows data.
fn has_data(panel: &Panel) -> bool {
    panel.kind != "text"
}

fn panel_datasource(panel: &Panel) -> Vec<String> {
    let mut all = vec![&panel.datasource];
    all.extend(panel.targets.iter().map(|target| &target.datasource));
    wrong(
        has_data(panel) && !all.into_iter().all(is_templated),
        "its data source is not the one that was chosen",
    )
}

fn title_description(panel: &Panel) -> Vec<String> {
    wrong(
        panel.title.is_empty() || panel.description.is_empty(),
        "it has no title or no description",
    )
}

fn units(panel: &Panel) -> Vec<String> {
    let defaults = &panel.field_config["defaults"];
    let overrides = panel.field_config["overrides"].as_array();
    let properties = overrides
        .into_iter()
        .flatten()
        .flat_map(|change| change["properties"].as_array().into_iter().flatten());
    let mut units: Vec<_> = properties
        .filter(|property| property["id"] == "unit")
        .map(|property| &property["value"])
        .collect();
    units.push(&defaults["unit"]);
    let known = |unit: &&Value| unit.as_str().is_some_and(|unit| UNITS.contains(&unit));
    wrong(
        has_data(panel) && !units.iter().all(known),
        format!("its units are {units:?}"),
    )
}

fn no_targets(panel: &Panel) -> Vec<String> {
    wrong(
        has_data(panel) && panel.targets.is_empty(),
        "it asks nothing",
    )
}

fn unmatched(query: &[Selector], label: &str) -> Vec<String> {
    let wanted = (label.to_owned(), "=~".to_owned(), format!("${label}"));
    query
        .iter()
        .filter(|selector| !selector.matchers.contains(&wanted))
        .map(|selector| format!("{:?} is not narrowed by ${label}", selector.metrics))
        .collect()
}

fn rate_interval(query: &[Selector]) -> Vec<String> {
    let stands_for = |selector: &Selector, name: (&str, &str)| {
        let seconds = selector.range.map(|range| range.as_secs());
        seconds == name.1.trim_end_matches('s').parse().ok()
    };
    query
        .iter()
        .filter(|selector| selector.range.is_some() && !stands_for(selector, RATE_INTERVAL))
        // How often something happened in all the time shown is no rate.
        .filter(|selector| {
            selector.function.as_deref() != Some("increase") || !stands_for(selector, RANGE)
        })
        .map(|selector| {
            format!(
                "the range of {:?} is not $__rate_interval",
                selector.metrics
            )
        })
        .collect()
}

fn counter_agg(query: &[Selector]) -> Vec<String> {
    const COUNTERS: [&str; 4] = ["_total", "_bucket", "_sum", "_count"];
    let counts = |selector: &&Selector| {
        let mut metrics = selector.metrics.iter();
        metrics.any(|metric| COUNTERS.iter().any(|ending| metric.ends_with(ending)))
    };
    query
        .iter()
        .filter(counts)
        .filter(|selector| !matches!(selector.function.as_deref(), Some("rate" | "increase")))
        .map(|selector| format!("{:?} only ever grows", selector.metrics))
        .collect()
}

/// What stands in a query for what Grafana knows of the time shown.
pub fn with_times(text: &str, rate_interval: &str, range: &str) -> String {
    substitute(text, &[(RATE_INTERVAL.0, rate_interval), (RANGE.0, range)])
}
