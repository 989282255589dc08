//! How long it takes to decide about an interaction, with 500 policies that all have to be asked: what an admission
//! spends on policies beside its requests. `cargo run --release --package curfew-core --example evaluation`

#![allow(clippy::print_stdout, reason = "it reports what it measured")]

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use curfew_core::{
    Kind,
    policy::{Policies, Policy, Spec, Subject},
    terms::DefaultTerms,
};
use serde_json::{Value, json};

const POLICIES: usize = 500;
const ROUNDS: usize = 2_000;

/// Policies of which none applies, each for a reason that takes all of its conditions to find.
fn policies(condition: &Value) -> serde_json::Result<Policies> {
    let mut spec = condition.clone();
    spec["namespaceSelector"] = json!({"matchLabels": {"env": "dev"}});
    spec["podSelector"] =
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["till", "cart"]}]});
    let spec: Spec = serde_json::from_value(spec)?;
    let all = (0..POLICIES).map(|n| Policy {
        name: format!("policy-{n}"),
        spec: spec.clone(),
    });
    Ok(all.collect())
}

fn main() -> serde_json::Result<()> {
    let labels = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = all
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let (namespace, pod) = (labels(&[("env", "dev")]), labels(&[("app", "cart")]));
    let argv: Vec<String> = (0..32).map(|n| format!("word-{n}")).collect();
    let groups: Vec<String> = (0..10).map(|n| format!("group-{n}")).collect();
    let subject = Subject {
        namespace: "shop",
        namespace_labels: &namespace,
        pod_labels: &pod,
        priority: 0,
        managed: true,
        of_job: false,
        workload: "Deployment",
        mirror: false,
        user: "system:serviceaccount:ci:runner",
        groups: &groups,
        kind: Kind::Exec,
        argv: &argv,
        stdin: false,
        tty: false,
        behaviour: None,
    };
    let zero = std::time::Duration::ZERO;
    let defaults = DefaultTerms {
        ttl: zero,
        max_extension: zero,
        max_hold: zero,
        enforcement: curfew_core::Enforcement::Enforce,
    };
    let accounts: Vec<_> = (0..256)
        .map(|n| format!("system:serviceaccount:other-{n}:*"))
        .collect();
    let typical = json!({"users": accounts[..4], "interactions": ["exec"], "ttl": "1h"});
    let before = json!({"users": ["bob"], "ttl": "1h"});
    let all_conditions = json!({
        "users": ["system:serviceaccount:ci:*"], "actors": ["ServiceAccount"], "interactions": ["exec"],
        "interactive": false, "workloads": ["StatefulSet", "DaemonSet", "Deployment"],
        "commands": [["kubectl", "get", "..."], ["ls", "*"], ["date"]],
    });
    // Only the last word of each differs.
    let command = [&argv[..31], &["other".to_owned()]].concat();
    let worst = json!({
        "users": accounts.iter().take(255).cloned().chain(["system:serviceaccount:ci:*".to_owned()]).collect::<Vec<_>>(),
        "actors": ["ServiceAccount"], "commands": vec![command; 64],
    });
    for (name, condition) in [
        ("one user (as before)", before),
        ("four accounts", typical),
        ("all conditions", all_conditions),
        ("the worst case", worst),
    ] {
        let policies = policies(&condition)?;
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                black_box(policies.decide(black_box(&subject), defaults));
                began.elapsed()
            })
            .collect();
        times.sort();
        let (median, late) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
        println!("{name}: median {median:?}, 99th percentile {late:?} for {POLICIES} policies");
    }
    Ok(())
}
