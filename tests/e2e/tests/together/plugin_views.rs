//! `kubectl pi describe`, `node`, `get --watch` and `-o jsonpath`, and completion through kubectl.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Workload, kubectl::Running, life::run_touched, policies::long_ttl, table,
    within_namespace,
};
use serde_json::Value;
use tokio::time::timeout;

const NODE: &str = NODES[0];
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads until a line has all of this in it.
async fn line_with(running: &mut Running, parts: &[&str]) -> Result<String> {
    let found = async {
        loop {
            let line = running.line().await?;
            if parts.iter().all(|part| line.contains(part)) {
                return Ok(line);
            }
        }
    };
    timeout(PATIENCE, found)
        .await
        .with_context(|| format!("no line has {parts:?} within {PATIENCE:?}"))?
}

#[tokio::test]
async fn describe_tells_all_that_is_known() {
    within_namespace("describe", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let record = run_touched(namespace, &agents, "web").await?;
        kubectl
            .ok(&[
                "create",
                "pdb",
                "strict",
                "--selector=app=web",
                "--min-available=1",
            ])
            .await?;
        kubectl.ok(&["pi", "extend", "web", "-d", "1h"]).await?;
        kubectl
            .ok(&["pi", "hold", "web", "--reason=evidence"])
            .await?;
        let page = kubectl.ok(&["pi", "describe", "web"]).await?;
        let time = record.decisive.time;
        for fact in [
            format!("Node:               {NODE}\n"),
            "State:              held\n".to_owned(),
            format!("Extension:          1h, by {user}\n"),
            format!("Hold:               evidence, by {user}\n"),
            "Longest Extension:  8h0m0s\n".to_owned(),
            "Interactions:       1\n".to_owned(),
            format!("Deadline Set By:    {user} (User), exec into main, {time} ("),
            ": echo hello\n".to_owned(),
            "PodInteractionExtended".to_owned(),
            "PodInteractionHeld".to_owned(),
        ] {
            ensure!(page.contains(&fact), "{fact:?} is not in {page}");
        }
        table::check(
            &page[page.find("  NAME ").unwrap_or_default()..],
            "strict",
            &[("MIN-AVAILABLE", "1"), ("NEEDED", "1")],
        )?;
        let said = kubectl.run(&["pi", "describe", "nobody"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("not found"),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn node_shows_what_the_agent_knows() {
    within_namespace("node", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let record = run_touched(namespace, &agents, "web").await?;
        let table = kubectl.ok(&["pi", "node", NODE]).await?;
        let mine = table.lines().find(|line| line.starts_with(&namespace.name));
        let mine = mine.unwrap_or_default();
        ensure!(
            mine.contains("scheduled") && mine.contains(&record.deadline()?.to_string()),
            "{table}"
        );
        let json = kubectl.ok(&["pi", "node", NODE, "-o", "json"]).await?;
        let schedule: Value = serde_json::from_str(&json)?;
        let records = schedule["records"].as_array();
        ensure!(
            schedule["node"] == NODE
                && records.is_some_and(|all| all.iter().any(|one| one["uid"] == record.uid)),
            "{json}"
        );
        let said = kubectl.run(&["pi", "node", "node-9"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("(NotFound)"),
            "{said:?}"
        );
        let nobody = kubectl.impersonating("nobody", &[]);
        let said = nobody.run(&["pi", "node", NODE]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("(Forbidden)"),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_watch_shows_each_change() {
    within_namespace("watch", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        run_touched(namespace, &agents, "web").await?;
        let mut lines = kubectl.start(&["pi", "get", "-w", "-o", "wide"])?;
        let mut screen = kubectl.start_on_a_terminal(&["pi", "get", "-w"])?;
        let head = lines.line().await?;
        ensure!(head.starts_with("POD-NAME "), "{head}");
        line_with(&mut lines, &["web", "scheduled"]).await?;
        line_with(&mut screen, &["web", "(in "]).await?;
        // The extension is set by one hand and the time by another: each is a change.
        kubectl.ok(&["pi", "extend", "web", "-d", "1h"]).await?;
        line_with(&mut lines, &["web", "1h", "scheduled"]).await?;
        line_with(&mut screen, &["web", "1h", "(in 1h"]).await?;
        kubectl.ok(&["delete", "pod", "web"]).await?;
        let last = line_with(&mut lines, &["web", "gone"]).await?;
        ensure!(!last.contains('\u{1b}'), "{last:?}");
        line_with(&mut screen, &["No interacted pods found"]).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn templates_and_completion_work_through_kubectl() {
    within_namespace("words", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        long_ttl(namespace).await?;
        run_touched(namespace, &agents, "web").await?;
        namespace
            .run_pod(&Workload::new("untouched").on(NODES[1]))
            .await?;
        let template = r#"{range .items[*]}{.metadata.name}{"\t"}{.spec.nodeName}{"\n"}{end}"#;
        for verb in [
            &["pi", "get"][..],
            &["get", "pods", "-l", "curfew.dev/interacted"],
        ] {
            let output = format!("-ojsonpath={template}");
            let said = kubectl.ok(&[verb, &[&output]].concat()).await?;
            ensure!(said == format!("web\t{NODE}\n"), "{said:?}");
        }

        let plain = namespace.cluster.kubectl();
        let complete = async |words: &[&str]| {
            let words = [&["__complete", "pi"], words].concat();
            let said = plain.ok(&words).await?;
            anyhow::Ok(said.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        let namespaced = format!("--namespace={}", namespace.name);
        for verb in ["get", "extend", "hold", "describe"] {
            let found = complete(&[verb, &namespaced, ""]).await?;
            ensure!(
                found.len() == 2 && found[0].starts_with("web\t") && found[1] == ":4",
                "{verb}: {found:?}"
            );
        }
        let released = complete(&["release", &namespaced, ""]).await?;
        ensure!(released == [":4"], "{released:?}");
        // What is asked about beforehand may be any pod.
        let explained = complete(&["explain", &namespaced, ""]).await?;
        let names: Vec<_> = explained.iter().map(|line| line.trim()).collect();
        ensure!(names == ["untouched", "web", ":4"], "{explained:?}");
        // One is enough.
        let more = complete(&["explain", &namespaced, "web", ""]).await?;
        ensure!(more == [":4"], "{more:?}");
        let verbs = complete(&["exte"]).await?;
        ensure!(verbs[0].starts_with("extend\t"), "{verbs:?}");
        let nodes = complete(&["node", "node-"]).await?;
        ensure!(nodes.len() == 3, "{nodes:?}");
        let namespaces = complete(&["get", "-n", &namespace.name]).await?;
        ensure!(namespaces[0].trim() == namespace.name, "{namespaces:?}");
        Ok(())
    })
    .await;
}
