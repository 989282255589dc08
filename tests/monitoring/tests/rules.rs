//! The alerts, as they stand in the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use curfew_cluster::{run, tools};
use curfew_monitoring::{
    promql, read, root,
    rules::{FILE, RUNBOOKS, Rules, TESTS},
    runbooks,
};
use serde_json::Value;

const HOME: &str = "https://github.com/curfew-dev/curfew/blob/main/docs/runbooks";
const SECTIONS: [&str; 4] = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"];

fn promtool(args: &[&str], files: &[PathBuf]) -> anyhow::Result<()> {
    tools::ensure()?;
    run::check(
        Command::new(tools::program("promtool")?)
            .args(args)
            .args(files),
    )
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(root().expect("it can be read").join(folder)).expect("it can be read");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    files
}

#[test]
fn promtool_finds_no_fault() {
    promtool(&["check", "rules"], &[root().unwrap().join(FILE)]).unwrap();
}

#[test]
fn they_fire_beyond_their_boundaries_and_not_before() {
    promtool(&["test", "rules"], &files(TESTS)).unwrap();
}

/// Of each alert's unit tests, whether it was expected to be silent and to fire; by the severity, too.
#[test]
fn each_is_tested_on_both_sides() {
    let mut fires = BTreeSet::new();
    let mut silent = BTreeSet::new();
    for file in files(TESTS) {
        let tests: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let tests = tests["tests"].as_array().unwrap().iter();
        for check in tests.flat_map(|test| test["alert_rule_test"].as_array().unwrap()) {
            let alert = check["alertname"].as_str().unwrap().to_owned();
            let expected = check["exp_alerts"].as_array().unwrap();
            if expected.is_empty() {
                silent.insert(alert.clone());
            }
            for one in expected {
                let severity = one["exp_labels"]["severity"].as_str().unwrap();
                fires.insert((alert.clone(), severity.to_owned()));
            }
        }
    }
    let rules = Rules::shipped().unwrap();
    for alert in rules.alerts() {
        let name = (alert.alert.clone(), alert.labels["severity"].clone());
        assert!(fires.contains(&name), "{name:?} never fires in a test");
        assert!(
            silent.contains(&alert.alert),
            "{} is never silent in a test",
            alert.alert
        );
    }
}

#[test]
fn people_are_told_what_it_means_and_where_to_read_on() {
    for alert in Rules::shipped().unwrap().alerts() {
        let name = &alert.alert;
        assert!(name.starts_with("Curfew"), "{name}");
        let severity = alert.labels["severity"].as_str();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
        let keys: Vec<_> = alert.annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "runbook_url", "summary"], "{name}");
        assert!(
            !alert.annotations["summary"].contains("{{"),
            "{name}: its summary is no heading"
        );
        assert_eq!(
            alert.annotations["runbook_url"],
            format!("{HOME}/{name}.md")
        );
    }
}

#[test]
fn each_has_a_runbook_and_no_runbook_is_left_over() {
    let rules = Rules::shipped().unwrap();
    let alerts: BTreeSet<_> = rules.alerts().map(|alert| alert.alert.clone()).collect();
    let runbooks: BTreeMap<_, _> = files(RUNBOOKS)
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let names: BTreeSet<_> = runbooks.keys().cloned().collect();
    assert_eq!(alerts, names);
    for (name, text) in &runbooks {
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings[0], format!("# {name}"));
        assert_eq!(headings[1..], SECTIONS, "{name}");
    }
}

/// The queries that runbooks tell people to try.
#[test]
fn the_queries_of_runbooks_are_queries_of_metrics_that_there_are() {
    let known = known_metrics();
    let mut queries = 0;
    for file in files(RUNBOOKS) {
        let text = fs::read_to_string(&file).unwrap();
        let blocks = text.split("```promql\n").skip(1);
        for block in blocks.map(|block| block.split("```").next().unwrap()) {
            for line in block.lines() {
                queries += 1;
                known_only(&file.display().to_string(), line, &known);
            }
        }
    }
    assert!(queries >= 10, "{queries}");
}

/// Of logs and lists; that the commands run is tried on the cluster.
#[test]
fn runbooks_search_for_what_can_be_found() {
    let mut sources = String::new();
    let mut folders: Vec<_> = [
        "agent/src",
        "agent/state/src",
        "webhook/src",
        "runtime/src",
        "core/src",
    ]
    .map(|folder| root().unwrap().join(folder))
    .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                // A message may be broken over two lines.
                false => sources.push_str(&fs::read_to_string(path).unwrap().replace("\\\n", "")),
            }
        }
    }
    let mut searches = 0;
    for command in runbooks::commands().unwrap() {
        for search in command.searches() {
            searches += 1;
            assert!(sources.contains(&search), "{command:?}: {search:?}");
        }
    }
    assert!(searches >= 10, "{searches}");
}

/// What both parts log of one interaction with a pod, from its admission to the end of the pod.
const ORDINARY: &str = r#"
{"level":"INFO","event":"interaction","id":"r-1","pod":"shop/cart-replica-1","user":"alice","recorded":"agent"}
{"level":"INFO","event":"stored","id":"r-1","pod":"shop/cart-replica-1","timer":"set","message":"stored"}
{"level":"INFO","event":"marked","ids":"r-1","pod":"shop/cart-replica-1","message":"marked"}
{"level":"INFO","event":"evicted","id":"r-1","pod":"shop/cart-replica-1","message":"evicted"}
{"level":"INFO","event":"gone","id":"r-1","pod":"shop/cart-replica-1","message":"gone"}
"#;

/// Whoever searches a log for a fault must not have to look for it among what is in order.
#[test]
fn a_search_of_a_log_finds_nothing_of_an_ordinary_day() {
    let mut searches = 0;
    for command in runbooks::commands().unwrap() {
        let Some((logs, search)) = command.line.split_once(" | ") else {
            continue;
        };
        // One lists who interacts.
        if !logs.contains(" logs ") || search.contains(r#""event":"interaction""#) {
            continue;
        }
        searches += 1;
        let mut shell = Command::new("sh")
            .args(["-c", search])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        stdin.write_all(ORDINARY.as_bytes()).unwrap();
        drop(stdin);
        let found = shell.wait_with_output().unwrap().stdout;
        let found = String::from_utf8_lossy(&found);
        assert!(found.is_empty(), "{command:?} finds {found}");
    }
    assert!(searches >= 10, "{searches}");
}

/// To kubectl, what stands behind a slash is the name of an object.
#[test]
fn a_right_to_a_subresource_is_asked_for_by_its_flag() {
    let mut asked = 0;
    for command in runbooks::commands().unwrap() {
        let Some((_, right)) = command.line.split_once(" can-i ") else {
            continue;
        };
        asked += 1;
        let words: Vec<_> = right.split(' ').take(2).collect();
        assert!(!words.concat().contains('/'), "{command:?}");
    }
    assert!(asked > 0);
}

#[test]
fn they_ask_for_metrics_that_there_are() {
    let known = known_metrics();
    for alert in Rules::shipped().unwrap().alerts() {
        known_only(&alert.alert, &alert.expr, &known);
    }
}

fn known_only(of: &str, query: &str, known: &BTreeSet<String>) {
    for metric in promql::selectors(query)
        .unwrap_or_else(|error| panic!("{of}: {error}"))
        .iter()
        .flat_map(|selector| &selector.metrics)
    {
        let plain = metric.strip_suffix("_bucket").unwrap_or(metric);
        assert!(
            plain == "up" || known.contains(plain),
            "{of}: there is no {metric}"
        );
    }
}

/// Those of the documented table, which other tests compare with a live scrape.
fn known_metrics() -> BTreeSet<String> {
    let page = read("docs/metrics.md").expect("it can be read");
    let names = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn the_operator_gets_the_same_rules() {
    assert_eq!(
        Rules::of_the_operator().unwrap(),
        Rules::shipped().unwrap(),
        "run `make rules`"
    );
}
