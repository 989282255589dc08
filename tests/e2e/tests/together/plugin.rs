//! `kubectl pi get` through kubectl, on marks that Curfew made.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, NODES, Scheduled, Workload, marks, namespace::uid, policies::long_ttl, table,
    within_namespace,
};
use serde_json::Value;

const NODE: &str = "node-1";

fn check(table: &str, record: &Scheduled, expected: &[(&str, &str)]) -> Result<()> {
    table::check(table, &record.name, expected)?;
    let deadline = record.deadline()?.to_string();
    let shown = table::cell(table, &record.name, "EVICTION-TIME")?;
    ensure!(
        shown.starts_with(&deadline) && shown.contains("(in "),
        "{shown} is not {deadline}"
    );
    Ok(())
}

#[tokio::test]
async fn get_shows_what_stands_on_the_pods() {
    within_namespace("get", async |namespace| {
        let kubectl = &namespace.kubectl;
        let said = kubectl.run(&["pi", "get"]).await?;
        let nothing = format!(
            "No interacted pods found in {} namespace.\n",
            namespace.name
        );
        ensure!(
            (said.code, &*said.stdout, &said.stderr) == (Some(0), "", &nothing),
            "{said:?}"
        );

        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        long_ttl(namespace).await?;
        let web = namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        namespace
            .run_pod(&Workload::new("untouched").on(NODES[1]))
            .await?;
        kubectl
            .ok(&["exec", "web", "--", "sh", "-c", "printf '\\033[1mbold'"])
            .await?;
        let record = agents.record_only_on(NODE, &uid(&web)?).await?;
        marks::told(namespace, &record, Duration::from_secs(5)).await?;

        let short = [
            ("POD-NAME", "web"),
            ("INTERACTOR", &*user),
            ("EXTENSION", "<none>"),
            ("EXTENSION-REQUESTER", "<none>"),
        ];
        let table = kubectl.ok(&["pi", "get"]).await?;
        ensure!(
            table.starts_with("POD-NAME ") && table.lines().count() == 2,
            "{table}"
        );
        check(&table, &record, &short)?;
        check(&kubectl.ok(&["pi", "get", "web"]).await?, &record, &short)?;
        check(
            &kubectl
                .ok(&["pi", "get", "-l", "app=web", "-o", "table"])
                .await?,
            &record,
            &short,
        )?;
        ensure!(
            kubectl
                .ok(&["pi", "get", "-l", "app=other"])
                .await?
                .is_empty()
        );

        let everywhere = kubectl.ok(&["pi", "get", "-A", "-l", "app=web"]).await?;
        // Other tests have pods of this name, too.
        table::check(&everywhere, &namespace.name, &[("POD-NAME", "web")])?;
        let time = table::cell(&everywhere, &namespace.name, "EVICTION-TIME")?;
        ensure!(
            time.starts_with(&record.deadline()?.to_string()),
            "{everywhere}"
        );
        let wide = kubectl.ok(&["pi", "get", "-o", "wide"]).await?;
        check(
            &wide,
            &record,
            &[
                ("NODE", NODE),
                ("ACTOR", "User"),
                ("INTERACTION", "exec"),
                ("STATE", "scheduled"),
            ],
        )?;
        ensure!(!wide.contains('\u{1b}') && wide.contains("bold"), "{wide}");

        ensure!(kubectl.ok(&["pi", "get", "-o", "name"]).await? == "pod/web\n");
        let list: Value = serde_json::from_str(&kubectl.ok(&["pi", "get", "-o", "json"]).await?)?;
        ensure!(
            list["kind"] == "List" && list["items"][0]["metadata"]["name"] == "web",
            "{list}"
        );
        ensure!(list["items"][0]["spec"]["nodeName"] == NODE, "{list}");
        let pod = kubectl.ok(&["pi", "get", "pod/web", "-o", "yaml"]).await?;
        ensure!(pod.starts_with("apiVersion: v1\nkind: Pod\n"), "{pod}");
        // What is printed is what kubectl takes.
        kubectl.feed(&["get", "-f", "-"], &pod).await?.success()?;

        let said = kubectl
            .run(&["pi", "get", "web", "nobody", "untouched"])
            .await?;
        check(&said.stdout, &record, &short)?;
        ensure!(said.code == Some(1), "{said:?}");
        ensure!(
            said.stderr
                .contains(r#"Error from server (NotFound): pods "nobody" not found"#),
            "{said:?}"
        );
        ensure!(said.stderr.contains("untouched"), "{said:?}");
        Ok(())
    })
    .await;
}
