//! The object itself: what `kubectl apply` refuses, and what `kubectl` shows.

use anyhow::ensure;
use curfew_e2e::{Agents, Workload, life, policies::Policies, within_namespace};
use serde_json::{Value, json};

use super::{DEFAULT_TTL, NODE, ttl};

fn requirement(operator: &str, values: Value) -> Value {
    let requirement = json!({"key": "app", "operator": operator, "values": values});
    json!({"podSelector": {"matchExpressions": [requirement]}})
}

#[tokio::test]
async fn nonsense_is_refused_with_a_sentence() {
    within_namespace("policy-nonsense", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let sense = json!({"users": ["u"], "ttl": "1h30m", "harmlessCommands": [["ls", "*"]]});
        policies.apply("sense", sense).await?;
        let sense = json!({"users": ["u"], "interactions": ["exec", "bypass"], "action": "Evict", "ttl": "10m0s",
                           "whenChanged": "Now", "whenUnchanged": "Release"});
        policies.apply("more-sense", sense).await?;
        let length = "must be a duration in whole hours, minutes and seconds";
        let cases = [
            (json!({"ttl": "1d"}), "spec.ttl", length),
            (json!({"ttl": "-1h"}), "spec.ttl", length),
            (json!({"ttl": "abc"}), "spec.ttl", length),
            (json!({"ttl": ""}), "spec.ttl", length),
            (json!({"ttl": "1500ms"}), "spec.ttl", length),
            (
                json!({"ttl": "99999h"}),
                "spec.ttl",
                "must be from 0s to 8760h",
            ),
            (json!({"ttl": 600}), "spec.ttl", "must be of type string"),
            (
                json!({"maxExtension": "9999h"}),
                "spec.maxExtension",
                "must be from 0s to 8760h",
            ),
            (json!({"maxHold": "-0s"}), "spec.maxHold", length),
            (
                json!({"priority": -1}),
                "spec.priority",
                "should be greater than or equal to 0",
            ),
            (
                json!({"interactions": ["shell"]}),
                "spec.interactions[0]",
                "supported values: \"exec\"",
            ),
            (
                json!({"interactions": []}),
                "spec.interactions",
                "leave it out to match all kinds",
            ),
            (
                json!({"interactions": ["exec", "exec"]}),
                "spec.interactions[1]",
                "Duplicate value",
            ),
            (
                json!({"action": "Kill"}),
                "spec.action",
                "supported values: \"Evict\", \"Record\", \"Deny\"",
            ),
            (
                json!({"users": []}),
                "spec.users",
                "an empty list matches nobody",
            ),
            (
                json!({"groups": [""]}),
                "spec.groups[0]",
                "should be at least 1 chars long",
            ),
            (
                json!({"users": (0..257).map(|n| format!("u{n}")).collect::<Vec<_>>()}),
                "spec.users",
                "must have at most 256 items",
            ),
            (
                json!({"harmlessCommands": [[]]}),
                "spec.harmlessCommands",
                "must not contain an empty argv",
            ),
            (
                json!({"harmlessCommands": [["*"]]}),
                "spec.harmlessCommands",
                "the first word names the program",
            ),
            (
                json!({"harmlessCommands": [["sh", "-c", "*"]]}),
                "spec.harmlessCommands",
                "must not contain a shell together with the word *",
            ),
            (
                json!({"harmlessCommands": [["ls"]], "action": "Deny"}),
                "spec",
                "action Deny also denies harmless commands",
            ),
            (
                json!({"protect": {"priorityAtLeast": 0}}),
                "spec.protect.priorityAtLeast",
                "must be greater than 0",
            ),
            (
                json!({"recordCommand": "Some"}),
                "spec.recordCommand",
                "supported values: \"Full\"",
            ),
            (
                requirement("In", json!([])),
                "matchExpressions[0]",
                "In and NotIn need values",
            ),
            (
                requirement("Exists", json!(["a"])),
                "matchExpressions[0]",
                "DoesNotExist must have none",
            ),
            (
                requirement("Near", json!(["a"])),
                "matchExpressions[0].operator",
                "supported values: \"In\"",
            ),
            (
                json!({"interactions": ["exec", "bypass"], "action": "Deny"}),
                "spec",
                "a bypass has begun when it is seen",
            ),
            (
                json!({"interactions": ["bypass"], "interactive": false}),
                "spec",
                "of a bypass only container and command are seen",
            ),
            (
                json!({"action": "Record", "whenUnchanged": "Release"}),
                "spec",
                "only action Evict starts one",
            ),
            (
                json!({"action": "Deny", "whenChanged": "Now"}),
                "spec",
                "only action Evict starts one",
            ),
            (
                json!({"interactions": ["attach", "debug"], "whenUnchanged": "Release"}),
                "spec",
                "only of exec and bypass it is seen when they end",
            ),
            (
                json!({"ttl": "0h0s", "whenUnchanged": "Release"}),
                "spec",
                "with ttl 0s the pod is evicted before",
            ),
            (
                json!({"whenChanged": "Soon"}),
                "spec.whenChanged",
                "supported values: \"AtDeadline\", \"Now\"",
            ),
            (
                json!({"whenUnchanged": "Keep"}),
                "spec.whenUnchanged",
                "supported values: \"Evict\", \"Release\"",
            ),
            (json!({"tll": "1h"}), "spec.tll", "unknown field"),
        ];
        for (spec, field, sentence) in cases {
            let said = policies.try_apply("nonsense", &spec).await?;
            let refused = said.code == Some(1)
                && said.stderr.contains(field)
                && said.stderr.contains(sentence);
            ensure!(refused, "{spec}: {said:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn kubectl_shows_and_explains_policies() {
    within_namespace("policy-shown", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let spec = json!({"priority": 7, "action": "Evict", "enforcement": "DryRun", "ttl": "90m",
                          "maxExtension": "2h"});
        let name = policies.apply("shown", spec).await?.name;
        let policy = policies.reported("shown").await?;
        let condition = &policy["status"]["conditions"][0];
        ensure!(
            condition["status"] == "True" && condition["reason"] == "Followed",
            "{policy}"
        );
        // Defaults that do not depend on flags can be seen.
        ensure!(
            policy["spec"]["protect"]["namespaces"] == json!(["kube-system"]),
            "{policy}"
        );

        let kubectl = namespace.cluster.kubectl();
        let table = kubectl.ok(&["get", "ipol", &name]).await?;
        let cells: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let head = [
            "NAME",
            "PRIORITY",
            "ACTION",
            "ENFORCEMENT",
            "TTL",
            "MAX-EXTENSION",
            "ACCEPTED",
            "AGE",
        ];
        ensure!(cells[0] == head, "{table}");
        ensure!(
            cells[1][..7] == [&name, "7", "Evict", "DryRun", "90m", "2h", "True"],
            "{table}"
        );

        for (path, texts) in [
            (
                "ipol",
                &[
                    "what happens after an interaction with a pod",
                    "InteractionPolicy",
                ][..],
            ),
            (
                "ipol.spec",
                &[
                    "the one with the highest priority is used",
                    "harmlessCommands",
                    "--default-ttl",
                ],
            ),
            (
                "ipol.spec.action",
                &["ENUM: Evict Record Deny", "Deny: the interaction is denied"],
            ),
            ("ipol.spec.harmlessCommands", &["matches exactly one word"]),
            ("ipol.spec.protect.priorityAtLeast", &["2000000000"]),
            (
                "ipol.spec.podSelector.matchExpressions",
                &["NotIn also matches"],
            ),
        ] {
            let told = kubectl.ok(&["explain", path]).await?;
            // It breaks lines where they are full.
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            for text in texts {
                ensure!(told.contains(text), "{path}: {text:?} is not in {told}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn of_a_policy_that_cannot_be_followed_the_last_version_that_could_holds_and_that_is_told() {
    within_namespace("policy-unfit", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        // No schema can bound the keys of labels, so the API server takes this.
        let mut unfit = json!({"ttl": "52s", "namespaceSelector": {"matchLabels": {
            "kubernetes.io/metadata.name": namespace.name, "no key at all": "x"}}});
        policies.apply("never-fit", unfit.clone()).await?;
        policies.apply("p", json!({"ttl": "51s"})).await?;
        policies.reported("p").await?;
        unfit["priority"] = json!(1);
        let applied = policies.apply("p", unfit).await?;
        let workloads = ["a", "b"].map(|name| Workload::new(name).on(NODE));
        let pods = namespace.run_pods(&workloads).await?;
        applied.holds().await;
        let record = life::touch(namespace, &agents, &pods[0], &["true"]).await?;
        ensure!(ttl(&record) == Some(51), "{record:?}");

        let policy = policies.reported("p").await?;
        let condition = &policy["status"]["conditions"][0];
        let message = condition["message"].as_str().unwrap_or_default();
        ensure!(
            condition["status"] == "False" && condition["reason"] == "Unfit",
            "{policy}"
        );
        ensure!(
            message.contains("\"no key at all\" is not a valid label key"),
            "{message}"
        );
        ensure!(
            message.contains("generation 1 of this policy is in force instead"),
            "{message}"
        );
        ensure!(
            policy["status"]["inForce"]["spec"]["ttl"] == "51s",
            "{policy}"
        );
        let never = policies.reported("never-fit").await?;
        let message = never["status"]["conditions"][0]["message"].as_str();
        let message = message.unwrap_or_default();
        ensure!(
            message.contains("no version of this policy is in force"),
            "{never}"
        );

        policies.delete("p").await?.holds().await;
        let record = life::touch(namespace, &agents, &pods[1], &["true"]).await?;
        ensure!(ttl(&record) == Some(DEFAULT_TTL), "{record:?}");
        Ok(())
    })
    .await;
}
