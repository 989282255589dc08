//! `kubectl pi` as kubectl's users expect it: names with their kind, selectors for every verb, help,
//! states in the default table, and policies for those who have rights in their namespace only.

use anyhow::ensure;
use curfew_core::metadata::{HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Workload, eventually,
    life::{run_touched, touch_seen},
    policies::long_ttl,
    rights::{kubectl_of, people, user},
    table, within_namespace,
};
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;

const NODE: &str = NODES[0];
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_hold_is_replaced_only_when_that_is_meant() {
    within_namespace("rehold", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        long_ttl(namespace).await?;
        run_touched(namespace, &agents, "web").await?;
        people(namespace).await?;
        let first = ["pi", "hold", "web", "--reason=evidence"];
        kubectl_of(namespace, "admin").ok(&first).await?;
        let hold = async || {
            let pod = namespace.pods().get("web").await?;
            let keys = [HOLD, HOLD_REQUESTER].map(|key| pod.annotations().get(key).cloned());
            anyhow::Ok(keys.map(Option::unwrap_or_default))
        };
        let other = user(namespace, "admin");
        let before = ["evidence".to_owned(), other.clone()];
        let said = kubectl.run(&["pi", "hold", "web", "--reason=mine"]).await?;
        let fact =
            format!("already held by {other}, with the reason: evidence; use --yes to replace it");
        ensure!(
            said.code == Some(1) && said.stderr.contains(&fact),
            "{said:?}"
        );
        ensure!(hold().await? == before);
        // The same once more replaces nothing.
        kubectl_of(namespace, "admin").ok(&first).await?;
        for (reason, complaint) in [
            ("  ", "must not be empty"),
            ("two\nlines", "control character"),
            ("\u{202e}", "no visible characters"),
        ] {
            let reason = format!("--reason={reason}");
            let said = kubectl.run(&["pi", "hold", "web", "-y", &reason]).await?;
            ensure!(
                said.code == Some(1) && said.stderr.contains(complaint),
                "{said:?}"
            );
        }
        ensure!(hold().await? == before);
        kubectl
            .ok(&["pi", "hold", "web", "--reason=mine", "--yes"])
            .await?;
        ensure!(hold().await?[0] == "mine");
        for duration in ["30m1h", "1.5s", "1h1h", "5000ms"] {
            let duration = format!("--duration={duration}");
            let said = kubectl.run(&["pi", "extend", "web", &duration]).await?;
            ensure!(
                said.code == Some(1) && said.stderr.starts_with("error: --duration="),
                "{said:?}"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn every_verb_takes_selectors_and_the_default_table_tells_states() {
    within_namespace("states", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        long_ttl(namespace).await?;
        let pods = [Workload::new("a").on(NODE), Workload::new("b").on(NODE)];
        for pod in namespace.run_pods(&pods).await? {
            touch_seen(namespace, &agents, &pod, &["true"]).await?;
        }
        let said = kubectl
            .ok(&["pi", "hold", "--all", "--reason=evidence"])
            .await?;
        ensure!(said == "pod/a held\npod/b held\n", "{said}");
        kubectl
            .ok(&["create", "service", "clusterip", "b", "--tcp=80:80"])
            .await?;
        let args = ["pi", "hold", "-l", "app=b", "--reason=evidence", "--detach"];
        kubectl.ok(&args).await?;
        let shown = kubectl.ok(&["pi", "get"]).await?;
        ensure!(
            table::cell(&shown, "a", "EVICTION-TIME")?.ends_with(", held)")
                && table::cell(&shown, "b", "EVICTION-TIME")?.ends_with(", held, detached)"),
            "{shown}"
        );
        let page = kubectl.ok(&["pi", "describe", "-l", "app=a"]).await?;
        ensure!(
            page.contains("State:              held\n") && !page.contains("Name:               b"),
            "{page}"
        );

        // It is not gone before somebody says so.
        let keep = json!({"metadata": {"finalizers": ["curfew.example.com/keep"]}}).to_string();
        kubectl
            .ok(&["patch", "pod", "a", "--type=merge", "-p", &keep])
            .await?;
        kubectl.ok(&["delete", "pod", "a", "--wait=false"]).await?;
        let shown = kubectl.ok(&["pi", "get", "pod", "a"]).await?;
        let let_go = json!({"metadata": {"finalizers": null}}).to_string();
        kubectl
            .ok(&["patch", "pod", "a", "--type=merge", "-p", &let_go])
            .await?;
        ensure!(
            table::cell(&shown, "a", "EVICTION-TIME")?.contains(", terminating for "),
            "{shown}"
        );
        let said = kubectl.ok(&["pi", "release", "--all"]).await?;
        ensure!(said.contains("pod/b released\n"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn help_names_and_wrong_flags_are_answered_as_by_kubectl() {
    within_namespace("habits", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        long_ttl(namespace).await?;
        run_touched(namespace, &agents, "web").await?;
        let help = kubectl.ok(&["pi"]).await?;
        ensure!(help.contains("Usage:") && help.contains("extend"), "{help}");
        for words in [&["pi", "get", "pod", "web"][..], &["pi", "get", "pods"]] {
            let shown = kubectl.ok(words).await?;
            table::check(&shown, "web", &[("POD-NAME", "web")])?;
        }
        let everywhere = kubectl.ok(&["pi", "get", "pods", "-A"]).await?;
        ensure!(everywhere.starts_with("NAMESPACE "), "{everywhere}");
        let said = kubectl.run(&["pi", "get", "--frobnicate"]).await?;
        ensure!(
            said.code == Some(1)
                && said.stderr.contains("--frobnicate")
                && !said.stderr.contains("-- --frobnicate"),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn policies_can_be_shown_to_people_of_a_namespace() {
    within_namespace("readers", async |namespace| {
        let kubectl = &namespace.kubectl;
        people(namespace).await?;
        namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        let viewer = user(namespace, "view");
        let explain = ["pi", "explain", "web"];
        let said = kubectl_of(namespace, "view").run(&explain).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("components/policy-readers"),
            "{said:?}"
        );
        // As it is shipped, but for this one group: other tests run on the same cluster.
        let folder = namespace
            .cluster
            .machine
            .checkout()
            .join("manifests/components/policy-readers");
        let folder = folder.to_string_lossy();
        let name = format!("readers-{}", namespace.name);
        let shipped = namespace
            .cluster
            .kubectl()
            .ok(&["kustomize", &folder])
            .await?;
        let binding = shipped
            .replace("curfew-policy-readers", &name)
            .replace("system:authenticated", &name);
        ensure!(binding.matches(&name).count() == 2, "{binding}");
        let admin = namespace.cluster.kubectl();
        admin
            .feed(&["apply", "-f", "-"], &binding)
            .await?
            .success()?;
        let reader = kubectl.impersonating(&viewer, &[&name]);
        let explained = eventually(SOON, "the policies can be read", async || {
            let said = reader.run(&explain).await?;
            Ok((said.code == Some(0)).then_some(said.stdout))
        })
        .await;
        admin.ok(&["delete", "clusterrolebinding", &name]).await?;
        let explained = explained?;
        ensure!(explained.contains("Interaction:"), "{explained}");
        Ok(())
    })
    .await;
}
