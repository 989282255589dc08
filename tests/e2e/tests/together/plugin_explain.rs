//! `kubectl pi explain` through kubectl: what it says beforehand is what comes of the interaction.

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Kubectl, NODES, Namespace, Scheduled, Workload, eventually, life,
    policies::Policies,
    rights::{kubectl_of, people, user},
    table, within_namespace,
};
use serde_json::json;

const NODE: &str = NODES[0];
const DENIED: &str = "denied@example.org";

async fn explain(kubectl: &Kubectl, words: &[&str]) -> Result<String> {
    kubectl
        .ok(&[&["pi", "explain", "web"], words].concat())
        .await
}

/// What stands behind this title.
fn fact<'a>(page: &'a str, title: &str) -> Result<&'a str> {
    let title = format!("{title}:");
    let mut lines = page.lines();
    let found = lines.find_map(|line| line.strip_prefix(&title));
    Ok(found
        .with_context(|| format!("no {title} in {page}"))?
        .trim())
}

/// What is said of each policy.
fn fates(page: &str) -> Result<&str> {
    let start = page.find("  POLICY ").context("no table")?;
    Ok(&page[start..])
}

fn ttl(record: &Scheduled) -> Result<i64> {
    let lives = record.deadline()?.duration_since(record.decisive.time);
    Ok(lives.as_secs())
}

/// Policies of every fate.
async fn apply(policies: &Policies<'_>, namespace: &Namespace) -> Result<()> {
    policies.apply("old", json!({"priority": 3})).await?;
    policies.reported("old").await?;
    // No schema can bound the keys of labels, so the API server takes this.
    let unfit = json!({"priority": 3, "namespaceSelector": {"matchLabels": {
        "kubernetes.io/metadata.name": namespace.name, "no key at all": "x"}}});
    policies
        .hold(&[
            ("deny", json!({"priority": 9, "users": [DENIED], "action": "Deny"})),
            ("else", json!({"priority": 8, "podSelector": {"matchLabels": {"app": "else"}}})),
            ("attach", json!({"priority": 7, "interactions": ["attach"]})),
            (
                "b",
                json!({"priority": 5, "ttl": "42s", "maxExtension": "2h", "harmlessCommands": [["ls", "*"]]}),
            ),
            ("c", json!({"priority": 5, "ttl": "43s"})),
            ("a", json!({"priority": 4, "ttl": "44s"})),
            ("old", unfit.clone()),
            ("never", unfit),
        ])
        .await?;
    for name in ["old", "never"] {
        policies.reported(name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    within_namespace("explain", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        apply(&policies, namespace).await?;
        let pod = namespace.run_pod(&Workload::new("web").on(NODE)).await?;

        let page = explain(kubectl, &["--", "ls", "/"]).await?;
        ensure!(
            fact(&page, "Pod")? == format!("{}/web", namespace.name),
            "{page}"
        );
        ensure!(
            fact(&page, "User")? == namespace.cluster.administrator().await?,
            "{page}"
        );
        ensure!(
            fact(&page, "Groups")?.contains("system:authenticated"),
            "{page}"
        );
        ensure!(fact(&page, "Interaction")? == "exec: ls /", "{page}");
        ensure!(fact(&page, "Policy")? == policies.name("b"), "{page}");
        ensure!(
            fact(&page, "Outcome")?.ends_with("lists the command as harmless"),
            "{page}"
        );
        for (name, priority, fate) in [
            (
                "deny",
                "9",
                "neither its users nor its groups contain the user".to_owned(),
            ),
            (
                "else",
                "8",
                "its podSelector does not select the pod".to_owned(),
            ),
            (
                "attach",
                "7",
                "its interactions do not contain this kind".to_owned(),
            ),
            ("b", "5", "applies".to_owned()),
            (
                "c",
                "5",
                format!(
                    "{} has the same priority, and its name comes first",
                    policies.name("b")
                ),
            ),
            (
                "a",
                "4",
                format!("{} has the higher priority 5", policies.name("b")),
            ),
        ] {
            let name = policies.name(name);
            table::check(
                fates(&page)?,
                &name,
                &[("PRIORITY", priority), ("RESULT", &fate)],
            )?;
        }
        for (name, priority, parts) in [
            (
                "old",
                "3",
                ["generation 1 is in force", "\"no key at all\""],
            ),
            ("never", "<none>", ["not in force: ", "\"no key at all\""]),
        ] {
            let name = policies.name(name);
            table::check(fates(&page)?, &name, &[("PRIORITY", priority)])?;
            let fate = table::cell(fates(&page)?, &name, "RESULT")?;
            ensure!(parts.iter().all(|part| fate.contains(part)), "{page}");
        }
        let record = life::touch(namespace, &agents, &pod, &["ls", "/"]).await?;
        ensure!(record.eviction_time.is_none(), "{record:?}");
        life::next_second(&record).await?;

        let page = explain(kubectl, &["-t", "--", "ls", "/"]).await?;
        ensure!(fact(&page, "Outcome")?.starts_with("Evict: "), "{page}");
        ensure!(
            fact(&page, "Harmless Commands")?.contains("without -i and -t"),
            "{page}"
        );
        ensure!(fact(&page, "Time To Live")? == "42s", "{page}");
        ensure!(fact(&page, "Longest Extension")? == "2h0m0s", "{page}");
        ensure!(
            fact(&page, "Longest Hold")?.starts_with("the webhook's default"),
            "{page}"
        );
        ensure!(!page.contains("Eviction Time"), "{page}");
        let record = life::touch_seen(namespace, &agents, &pod, &["id"]).await?;
        ensure!(ttl(&record)? == 42, "{record:?}");
        let page = explain(kubectl, &[]).await?;
        let time = record.deadline()?.to_string();
        ensure!(fact(&page, "Eviction Time")?.contains(&time), "{page}");

        let page = explain(kubectl, &["--kind=portforward"]).await?;
        ensure!(
            fact(&page, "Outcome")?.starts_with("Record: it is recorded and shown"),
            "{page}"
        );

        let denied = kubectl.impersonating(DENIED, &["system:masters"]);
        let page = explain(&denied, &["--", "ls", "/"]).await?;
        ensure!(fact(&page, "User")? == DENIED, "{page}");
        ensure!(fact(&page, "Policy")? == policies.name("deny"), "{page}");
        ensure!(fact(&page, "Outcome")?.starts_with("Deny: "), "{page}");
        let said = denied.run(&["exec", "web", "--", "ls", "/"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains(&policies.name("deny")),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_exempt_namespace_is_said_to_be_one() {
    within_namespace("explain-exempt", async |namespace| {
        namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        let label = [
            "label",
            "namespace",
            &namespace.name,
            "curfew.dev/exempt=true",
        ];
        namespace.cluster.kubectl().ok(&label).await?;
        let page = explain(&namespace.kubectl, &[]).await?;
        let outcome = fact(&page, "Outcome")?;
        ensure!(
            outcome.starts_with("none: ") && outcome.contains("curfew.dev/exempt=true"),
            "{page}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn whoever_may_not_read_policies_hears_who_may() {
    within_namespace("explain-rights", async |namespace| {
        people(namespace).await?;
        namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        let stranger = kubectl_of(namespace, "stranger");
        let said = stranger.run(&["pi", "explain", "web"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("(Forbidden)"),
            "{said:?}"
        );
        let (viewer, me) = (kubectl_of(namespace, "view"), user(namespace, "view"));
        let said = viewer.run(&["pi", "explain", "web"]).await?;
        let sentence = format!("error: {me} may not list interactionpolicies.curfew.dev");
        ensure!(
            said.code == Some(1)
                && said.stdout.is_empty()
                && said.stderr.starts_with(&sentence)
                && said.stderr.contains("ClusterRole curfew-view"),
            "{said:?}"
        );

        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": namespace.name, "ownerReferences": [namespace.as_owner().await?]},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "curfew-view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": me}],
        });
        let admin = namespace.cluster.kubectl();
        admin
            .feed(&["apply", "-f", "-"], &binding.to_string())
            .await?
            .success()?;
        let page = eventually(life::PROMPT * 20, "the role is in force", async || {
            explain(&viewer, &[]).await.map(Some)
        })
        .await?;
        ensure!(fact(&page, "User")? == me, "{page}");
        // Whoever may only look is told what the API server would say.
        ensure!(
            fact(&page, "But")?.starts_with(&format!("{me} may not create pods/exec here")),
            "{page}"
        );
        let page = explain(&kubectl_of(namespace, "view"), &["--kind=debug"]).await?;
        ensure!(fact(&page, "But")?.contains("patch pods/ephemeralcontainers"), "{page}");
        let page = explain(&namespace.kubectl, &[]).await?;
        ensure!(fact(&page, "But").is_err(), "{page}");
        Ok(())
    })
    .await;
}
