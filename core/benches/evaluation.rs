//! How long it takes to decide about an interaction, with policies that all have to be asked: what an admission spends
//! on policies beside its requests.

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use curfew_core::{
    Enforcement, Kind,
    policy::{Policies, Policy, Spec, Subject},
    terms::DefaultTerms,
};
use serde_json::{Value, json};

const COUNTS: [usize; 5] = [1, 10, 100, 500, 1000];

/// Policies of which none applies, each for a reason that takes all of its conditions to find.
fn policies(count: usize, condition: &Value) -> Policies {
    let mut spec = condition.clone();
    spec["namespaceSelector"] = json!({"matchLabels": {"env": "dev"}});
    spec["podSelector"] =
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["till", "cart"]}]});
    let spec: Spec = serde_json::from_value(spec).expect("a policy");
    let all = (0..count).map(|n| Policy {
        name: format!("policy-{n}"),
        spec: spec.clone(),
    });
    all.collect()
}

/// What the policies ask, from the usual to the worst case that is allowed.
fn conditions(argv: &[String]) -> [(&'static str, Value); 4] {
    let accounts: Vec<_> = (0..256)
        .map(|n| format!("system:serviceaccount:other-{n}:*"))
        .collect();
    let own = "system:serviceaccount:ci:*";
    // Only the last word of each differs.
    let command = [&argv[..31], &["other".to_owned()]].concat();
    let users = accounts[..255].iter().map(String::as_str).chain([own]);
    let users: Vec<_> = users.collect();
    [
        ("one user", json!({"users": ["bob"], "ttl": "1h"})),
        (
            "four accounts",
            json!({"users": accounts[..4], "interactions": ["exec"], "ttl": "1h"}),
        ),
        (
            "all conditions",
            json!({
                "users": [own], "actors": ["ServiceAccount"], "interactions": ["exec"],
                "interactive": false, "workloads": ["StatefulSet", "DaemonSet", "Deployment"],
                "commands": [["kubectl", "get", "..."], ["ls", "*"], ["date"]],
            }),
        ),
        (
            "the worst case",
            json!({"users": users, "actors": ["ServiceAccount"], "commands": vec![command; 64]}),
        ),
    ]
}

fn decide(criterion: &mut Criterion) {
    let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let (namespace, pod) = (labels("env", "dev"), labels("app", "cart"));
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
    let defaults = DefaultTerms {
        ttl: Duration::ZERO,
        max_extension: Duration::ZERO,
        max_hold: Duration::ZERO,
        enforcement: Enforcement::Enforce,
    };
    for (name, condition) in conditions(&argv) {
        let mut group = criterion.benchmark_group(format!("policies, {name}"));
        for count in COUNTS {
            let policies = policies(count, &condition);
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| black_box(policies.decide(black_box(&subject), defaults)));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decide
}
criterion_main!(benches);
