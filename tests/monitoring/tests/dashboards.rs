//! The dashboards, as they stand in the tree.

use std::collections::{BTreeMap, BTreeSet};

use curfew_monitoring::{
    dashboards::{self, Dashboard, Panel},
    lint, read,
    rules::{RUNBOOKS, Rules},
};
use serde_json::Value;

/// What a rule of the linter is not followed in, and why.
const EXCLUSIONS: [(&str, &str, &str, &str); 4] = [
    ("target-job-rule", "overview.json", "Alerts", ALERTS),
    ("target-instance-rule", "overview.json", "Alerts", ALERTS),
    ("target-job-rule", "overview.json", "Firing alerts", ALERTS),
    (
        "target-instance-rule",
        "overview.json",
        "Firing alerts",
        ALERTS,
    ),
];
const ALERTS: &str = "an alert about a budget or about all replicas bears no job and no instance";

/// What is not a metric of ours.
const FOREIGN: [&str; 2] = ["up", "ALERTS"];

fn panels() -> Vec<(Dashboard, Panel)> {
    let all = dashboards::shipped().expect("it can be read");
    all.into_iter()
        .flat_map(|dashboard| {
            let panels = dashboard.panels.clone();
            panels
                .into_iter()
                .map(move |panel| (dashboard.clone(), panel))
        })
        .collect()
}

#[test]
fn there_are_three_by_the_names_that_others_link_to() {
    let found: Vec<_> = dashboards::shipped()
        .unwrap()
        .into_iter()
        .map(|dashboard| (dashboard.file, dashboard.uid))
        .collect();
    let expected = [
        ("node.json", "curfew-node"),
        ("overview.json", "curfew-overview"),
        ("webhook.json", "curfew-webhook"),
    ];
    assert_eq!(
        found,
        expected.map(|(file, uid)| (file.to_owned(), uid.to_owned()))
    );
}

#[test]
fn the_linter_finds_no_fault_but_those_that_have_a_reason() {
    let mut unused: BTreeSet<_> = EXCLUSIONS.into_iter().collect();
    let mut faults = Vec::new();
    for finding in dashboards::shipped().unwrap().iter().flat_map(lint::lint) {
        let excluded = EXCLUSIONS.into_iter().find(|(rule, file, panel, _)| {
            (*rule, *file, *panel) == (finding.rule, &finding.file, &finding.panel)
        });
        match excluded {
            Some(exclusion) => drop(unused.remove(&exclusion)),
            None => faults.push(finding),
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(
        unused.is_empty(),
        "nothing is wrong there any more: {unused:?}"
    );
}

/// A dashboard that breaks every rule, so that each is seen to find what it is for.
#[test]
fn the_linter_finds_each_fault() {
    let broken: Dashboard = serde_json::from_value(serde_json::json!({
        "uid": "x", "title": "x", "editable": true, "links": [],
        "templating": {"list": [
            {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus", "refresh": 1, "multi": false},
            {"name": "pod", "label": "Pod", "type": "query", "query": "label_values(up{, pod)", "refresh": 1, "multi": false},
        ]},
        "panels": [
            {"id": 1, "type": "stat", "title": "", "gridPos": {"x": 0, "y": 0, "w": 1, "h": 1}},
            {"id": 2, "type": "stat", "title": "x", "gridPos": {"x": 0, "y": 0, "w": 1, "h": 1},
             "targets": [{"refId": "A", "expr": "rate(a_total[5m]) + b_total"}, {"refId": "B", "expr": "sum("}]},
        ],
    }))
    .unwrap();
    let found: BTreeSet<_> = lint::lint(&broken)
        .into_iter()
        .map(|finding| finding.rule)
        .collect();
    let rules = [
        "panel-datasource-rule",
        "panel-no-targets-rule",
        "panel-title-description-rule",
        "panel-units-rule",
        "target-counter-agg-rule",
        "target-instance-rule",
        "target-job-rule",
        "target-promql-rule",
        "target-rate-interval-rule",
        "template-datasource-rule",
        "template-instance-rule",
        "template-job-rule",
        "template-label-promql-rule",
        "template-on-time-change-reload-rule",
        "uneditable-dashboard",
    ];
    assert_eq!(found, rules.into_iter().collect());
}

#[test]
fn they_ask_for_metrics_that_there_are() {
    let page = read("docs/metrics.md").unwrap();
    for (dashboard, panel) in panels() {
        for metric in panel
            .targets
            .iter()
            .flat_map(|target| lint::selectors(target).unwrap())
            .flat_map(|selector| selector.metrics)
        {
            let plain = metric.strip_suffix("_bucket").unwrap_or(&metric);
            assert!(
                FOREIGN.contains(&plain) || page.contains(&format!("| `{plain}` |")),
                "{}, {}: there is no {metric}",
                dashboard.file,
                panel.title
            );
        }
    }
}

/// At three in the morning: what is wrong comes first, in colours, and then where.
#[test]
fn what_is_wrong_comes_first_and_then_where() {
    for dashboard in dashboards::shipped().unwrap() {
        let rows: Vec<_> = dashboard
            .panels
            .iter()
            .filter(|panel| panel.kind == "row")
            .collect();
        let titles: Vec<_> = rows.iter().map(|row| row.title.as_str()).collect();
        assert_eq!(
            titles[..2],
            ["Is anything wrong?", "Where?"],
            "{}",
            dashboard.file
        );
        let between =
            |panel: &&Panel| (rows[0].grid_pos.y..rows[1].grid_pos.y).contains(&panel.grid_pos.y);
        let first: Vec<_> = dashboard
            .panels
            .iter()
            .filter(between)
            .filter(|p| p.kind != "row")
            .collect();
        assert!(
            first.iter().all(|panel| panel.kind == "stat"),
            "{}",
            dashboard.file
        );
        let judged = |panel: &&&Panel| {
            let steps = panel.field_config["defaults"]["thresholds"]["steps"].as_array();
            steps.is_some_and(|steps| steps.len() > 1)
        };
        assert!(
            first.iter().filter(judged).count() >= 5,
            "{}",
            dashboard.file
        );
    }
}

#[test]
fn panels_do_not_lie_on_each_other() {
    for dashboard in dashboards::shipped().unwrap() {
        let mut taken = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for panel in &dashboard.panels {
            assert!(
                numbers.insert(panel.id),
                "{}: two panels {}",
                dashboard.file,
                panel.id
            );
            let place = panel.grid_pos;
            assert!(
                place.x + place.w <= 24,
                "{}: {}",
                dashboard.file,
                panel.title
            );
            for x in place.x..place.x + place.w {
                for y in place.y..place.y + place.h {
                    if let Some(other) = taken.insert((x, y), &panel.title) {
                        panic!("{}: {} lies on {other}", dashboard.file, panel.title);
                    }
                }
            }
        }
    }
}

/// Every link to a dashboard or a runbook leads to one that there is, and each dashboard links to the others.
#[test]
fn links_lead_somewhere() {
    let all = dashboards::shipped().unwrap();
    let uids: BTreeSet<_> = all.iter().map(|dashboard| dashboard.uid.clone()).collect();
    let alerts: BTreeSet<_> = Rules::shipped()
        .unwrap()
        .alerts()
        .map(|alert| alert.alert.clone())
        .collect();
    for dashboard in &all {
        let mut urls = Vec::new();
        collect(&Value::Array(dashboard.links.clone()), &mut urls);
        for other in uids.iter().filter(|uid| **uid != dashboard.uid) {
            let found = urls
                .iter()
                .any(|url| url.starts_with(&format!("/d/{other}?")));
            assert!(found, "{} does not link to {other}", dashboard.file);
        }
        dashboard
            .panels
            .iter()
            .for_each(|panel| collect(&panel.field_config, &mut urls));
        for url in urls {
            if let Some(rest) = url.strip_prefix("/d/") {
                let uid = rest.split('?').next().unwrap();
                assert!(uids.contains(uid), "{}: {url}", dashboard.file);
            } else if let Some((_, page)) = url.split_once(&format!("/{RUNBOOKS}/")) {
                let name = page.trim_end_matches(".md");
                let known = alerts.contains(name) || name == "${__data.fields.alertname}";
                assert!(known, "{}: {url}", dashboard.file);
            } else {
                assert!(url.ends_with(RUNBOOKS), "{}: {url}", dashboard.file);
            }
        }
    }
}

/// Every `url` in a piece of JSON.
fn collect(value: &Value, urls: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(url)) = fields.get("url") {
                urls.push(url.clone());
            }
            fields.values().for_each(|value| collect(value, urls));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, urls)),
        _ => {}
    }
}
