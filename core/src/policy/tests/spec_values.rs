//! What a spec may say, and how it is written.

use super::*;

#[test]
fn what_makes_no_sense_is_named() {
    let selector = |operator: &str, values: Value| json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}});
    for (spec, problem) in [
        (json!({"ttl": "1d"}), "\"1d\" is not a duration"),
        (json!({"ttl": "-1h"}), "it has a sign"),
        (json!({"ttl": "1500ms"}), "fraction of a second"),
        (
            json!({"ttl": "8761h"}),
            "spec.ttl: must be from 0s to 8760h",
        ),
        (
            json!({"maxExtension": "9999h"}),
            "spec.maxExtension: must be from 0s",
        ),
        (json!({"maxHold": "9999h"}), "spec.maxHold: "),
        (
            json!({"interactions": ["shell"]}),
            "unknown variant `shell`",
        ),
        (json!({"action": "Kill"}), "unknown variant `Kill`"),
        (json!({"priority": "high"}), "invalid type: string \"high\""),
        (json!({"nodes": ["a"]}), "unknown field `nodes`"),
        (
            json!({"harmlessCommands": [["ls"], []]}),
            "spec.harmlessCommands[1]: is empty",
        ),
        (
            json!({"harmlessCommands": [["*"]]}),
            "does not name the program",
        ),
        (
            json!({"harmlessCommands": [["bash", "-c", "*"]]}),
            "lets a shell run any command",
        ),
        (
            json!({"harmlessCommands": [["busybox", "/bin/sh", "*"]]}),
            "lets a shell run any",
        ),
        (
            json!({"users": ["alice", "a*b"]}),
            "spec.users[1]: \"a*b\" must name a user or group; * may only stand at the end",
        ),
        (json!({"groups": ["*"]}), "spec.groups[0]: \"*\" must name"),
        (
            json!({"groups": ["a**"]}),
            "spec.groups[0]: \"a**\" must name",
        ),
        (json!({"actors": ["Robot"]}), "unknown variant `Robot`"),
        (
            json!({"interactive": "yes"}),
            "invalid type: string \"yes\"",
        ),
        (
            json!({"workloads": ["deployments"]}),
            "spec.workloads[0]: \"deployments\" must be a kind",
        ),
        (
            json!({"workloads": ["Job", "CronJob"]}),
            "spec.workloads[1]: \"CronJob\" pods of a CronJob are controlled by its Jobs",
        ),
        (
            json!({"commands": [[]]}),
            "spec.commands[0]: [] must begin with",
        ),
        (
            json!({"commands": [["*"]]}),
            "spec.commands[0]: [*] must begin with",
        ),
        (json!({"commands": [["..."]]}), "[...] must begin with"),
        (
            json!({"commands": [["ls"], ["ls", "...", "-l"]]}),
            "spec.commands[1]: [ls, ..., -l] must contain ... only as the last word",
        ),
        (json!({"completingPods": "Keep"}), "unknown variant `Keep`"),
        (
            selector("In", json!([])),
            "matchExpressions[0]: In and NotIn need values",
        ),
        (selector("Exists", json!(["x"])), "must have none"),
        (
            selector("In", json!(["a b"])),
            "\"a b\" is not a valid label value",
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"not a key": "x"}}}),
            "spec.namespaceSelector.matchLabels: \"not a key\" is not a valid label key",
        ),
        (
            json!({"podSelector": {"matchLabels": {"A.b/c": "x"}}}),
            "is not a valid label key",
        ),
        (
            json!({"podSelector": {"matchLabels": {"a/b/c": "x"}}}),
            "is not a valid label key",
        ),
        (
            json!({"podSelector": {"matchLabels": {"a/": "x"}}}),
            "is not a valid label key",
        ),
    ] {
        let read = serde_json::from_value::<Spec>(spec.clone());
        let error = match read {
            Err(error) => error.to_string(),
            Ok(read) => read.check().unwrap_err().to_string(),
        };
        assert!(error.contains(problem), "{spec}: {error}");
    }
}

#[test]
fn what_was_left_out_is_not_written() {
    let written = serde_json::to_value(Spec::default()).unwrap();
    assert_eq!(
        written,
        json!({
            "priority": 0, "unmanagedPods": "Evict", "recordCommand": "Full",
            "protect": {"priorityAtLeast": 2_000_000_000, "namespaces": ["kube-system"]},
        })
    );
}
