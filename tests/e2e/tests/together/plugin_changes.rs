//! `kubectl pi extend`, `hold` and `release` through kubectl, and what the agents make of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_core::metadata::{EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Namespace, Scheduled, Workload, eventually,
    life::{TOLERANCE, run_touched, touch_seen},
    namespace::uid,
    table, within_namespace,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

const NODE: &str = NODES[0];
const PROMPT: Duration = Duration::from_secs(5);

/// Whether the pod lives on, a while after this time.
async fn outlives(namespace: &Namespace, record: &Scheduled, time: Timestamp) -> Result<()> {
    let watch = namespace.watch().await?;
    let end = later(time, 2)?;
    let going = watch.going(&record.uid, end).await;
    ensure!(going.is_err(), "the pod went at {going:?}");
    // The watch may have begun too late to see anything.
    let pod = namespace.pods().get(&record.name).await?;
    ensure!(
        uid(&pod)? == record.uid && pod.metadata.deletion_timestamp.is_none(),
        "the pod did not stay: {:?}",
        pod.metadata
    );
    ensure!(Timestamp::now() >= end, "the watch ended early: {going:?}");
    Ok(())
}

fn later(time: Timestamp, seconds: i64) -> Result<Timestamp> {
    Ok(time.checked_add(SignedDuration::from_secs(seconds))?)
}

#[tokio::test]
async fn extends_in_the_words_of_old() {
    within_namespace("extend", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let record = run_touched(namespace, &agents, "test-pod").await?;
        let deadline = record.deadline()?;
        let before = kubectl.ok(&["pi", "get", "test-pod"]).await?;
        table::check(&before, "test-pod", &[("EXTENSION", "<none>")])?;

        let said = kubectl.run(&["pi", "extend", "--duration=30m"]).await?;
        ensure!(
            said.stdout
                == "Successfully extended the termination time of pod/test-pod with a duration=30m\n",
            "{said:?}"
        );
        let extended = later(deadline, 30 * 60)?;
        ensure!(
            said.stderr.contains(&format!("evicted at {extended} (in ")),
            "{said:?}"
        );

        // When it returns, all say so.
        let after = kubectl.ok(&["pi", "get", "test-pod"]).await?;
        let expected = [("EXTENSION", "30m"), ("EXTENSION-REQUESTER", &*user)];
        table::check(&after, "test-pod", &expected)?;
        let shown = table::cell(&after, "test-pod", "EVICTION-TIME")?;
        ensure!(shown.starts_with(&format!("{extended} (in ")), "{after}");
        let now = agents.record_only_on(NODE, &record.uid).await?;
        ensure!(now.deadline()? == extended, "{now:?}");
        outlives(namespace, &record, deadline).await
    })
    .await;
}

#[tokio::test]
async fn an_extended_pod_goes_when_the_extension_ends() {
    within_namespace("extend-end", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let record = run_touched(namespace, &agents, "web").await?;
        let watch = namespace.watch().await?;
        namespace
            .kubectl
            .ok(&["pi", "extend", "web", "-d", "6s"])
            .await?;
        let extended = later(record.deadline()?, 6)?;
        watch.evicted(&record.uid, extended, TOLERANCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_extension_is_replaced_only_when_that_is_meant() {
    within_namespace("replace", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        run_touched(namespace, &agents, "web").await?;
        let extension = async || {
            let pod = namespace.pods().get("web").await?;
            anyhow::Ok(pod.annotations().get(EXTENSION).cloned())
        };
        let extend = async |args: &[&str]| {
            let args = [&["pi", "extend", "web"], args].concat();
            kubectl.run(&args).await
        };
        for how in ["--dry-run=client", "--dry-run=server"] {
            let said = extend(&["--duration=1h", how]).await?.success()?;
            ensure!(said.ends_with("dry run)\n"), "{said}");
            ensure!(extension().await?.is_none(), "{how}");
        }
        extend(&["--duration=1h"]).await?.success()?;
        // The same once more replaces nothing.
        extend(&["--duration=1h"]).await?.success()?;

        let said = extend(&["--duration=2h"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("--yes"),
            "{said:?}"
        );
        ensure!(extension().await?.as_deref() == Some("1h"));

        for (reply, left) in [("n", "1h"), ("y", "2h")] {
            let args = ["pi", "extend", "web", "--duration=2h"];
            let mut terminal = kubectl.start_on_a_terminal(&args)?;
            terminal.type_line(reply).await?;
            let mut seen = String::new();
            while let Ok(line) = terminal.line().await {
                seen += &line;
            }
            ensure!(seen.contains("is already extended by 1h"), "{seen}");
            ensure!(extension().await?.as_deref() == Some(left), "{seen}");
        }

        extend(&["--duration=3h", "--yes"]).await?.success()?;
        ensure!(extension().await?.as_deref() == Some("3h"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_extended_says_why() {
    within_namespace("wrong", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        namespace
            .run_pods(&[
                Workload::new("untouched").on(NODES[1]),
                Workload::new("web").on(NODE),
            ])
            .await?;
        let pod = namespace.pods().get("web").await?;
        touch_seen(namespace, &agents, &pod, &["true"]).await?;
        for (pod, duration, sentence) in [
            ("web", "-1h", "can only be extended"),
            ("web", "0", "at least one second"),
            ("web", "1d", "none of h, m, s"),
            ("web", "abc", "is not a duration"),
            ("web", "9999h", "by at most 8h0m0s"),
            ("untouched", "30m", "nobody interacted with pod/untouched"),
            ("nobody", "30m", r#"pods "nobody" not found"#),
        ] {
            let duration = format!("--duration={duration}");
            let said = kubectl.run(&["pi", "extend", pod, &duration]).await?;
            ensure!(
                said.code == Some(1) && said.stdout.is_empty() && said.stderr.contains(sentence),
                "{said:?}"
            );
        }
        for name in ["web", "untouched"] {
            let pod = namespace.pods().get(name).await?;
            let keys = pod.annotations();
            ensure!(
                !keys.contains_key(EXTENSION) && !keys.contains_key(EXTENSION_REQUESTER),
                "{keys:?}"
            );
        }
        let somebody = kubectl.impersonating("somebody", &[]);
        let said = somebody.run(&["pi", "extend", "web"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("(Forbidden)"),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn several_are_extended_by_label_or_all_at_once() {
    within_namespace("several", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = [Workload::new("a").on(NODE), Workload::new("b").on(NODE)];
        for pod in namespace.run_pods(&pods).await? {
            touch_seen(namespace, &agents, &pod, &["true"]).await?;
        }
        let said = kubectl.run(&["pi", "extend"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("--all"),
            "{said:?}"
        );
        let said = kubectl.ok(&["pi", "extend", "-l", "app=b"]).await?;
        ensure!(
            said.lines().count() == 1 && said.contains("pod/b "),
            "{said}"
        );
        let said = kubectl
            .ok(&["pi", "extend", "--all", "--duration=1h", "-y"])
            .await?;
        ensure!(said.contains("pod/a ") && said.contains("pod/b "), "{said}");
        let all = kubectl.ok(&["pi", "get"]).await?;
        for pod in ["a", "b"] {
            table::check(&all, pod, &[("EXTENSION", "1h")])?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_held_pod_stays_until_it_is_released() {
    within_namespace("hold", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let record = run_touched(namespace, &agents, "web").await?;
        let said = kubectl.run(&["pi", "hold", "web"]).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("--reason"),
            "{said:?}"
        );
        let said = kubectl
            .run(&["pi", "hold", "web", "--reason", "evidence"])
            .await?;
        ensure!(
            said.stdout == "pod/web held\n" && said.stderr.ends_with("), or when it is released\n"),
            "{said:?}"
        );
        let pod = namespace.pods().get("web").await?;
        let set = |key| pod.annotations().get(key).map(String::as_str);
        ensure!(set(HOLD) == Some("evidence") && set(HOLD_REQUESTER) == Some(&*user));
        let wide = kubectl.ok(&["pi", "get", "-o", "wide"]).await?;
        table::check(&wide, "web", &[("STATE", "held"), ("REASON", "evidence")])?;
        outlives(namespace, &record, record.deadline()?).await?;

        let watch = namespace.watch().await?;
        let began = Timestamp::now();
        let said = kubectl.ok(&["pi", "release", "web"]).await?;
        ensure!(said == "pod/web released\n", "{said}");
        watch.going(&record.uid, later(began, 5)?).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_detached_pod_is_replaced_and_serves_no_longer() {
    within_namespace("detach", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace
            .run_deployment(&Workload::new("web").on(NODE), 1)
            .await?
            .remove(0);
        kubectl
            .ok(&["create", "service", "clusterip", "web", "--tcp=80:80"])
            .await?;
        let serving = async || {
            let endpoints = namespace.endpoints("web").await?.into_iter();
            let pods = endpoints.filter_map(|endpoint| endpoint.target_ref?.uid);
            anyhow::Ok(pods.collect::<Vec<_>>())
        };
        let record = touch_seen(namespace, &agents, &pod, &["true"]).await?;
        eventually(PROMPT, "the pod serves", async || {
            Ok((serving().await? == [record.uid.clone()]).then_some(()))
        })
        .await?;

        let name = pod.name_any();
        let args = ["pi", "hold", &name, "--reason=evidence", "--detach"];
        let said = kubectl.ok(&args).await?;
        ensure!(
            said.contains("detached from replicaset/web-") && said.contains("service/web"),
            "{said}"
        );
        eventually(Duration::from_secs(30), "another pod serves", async || {
            let pods = serving().await?;
            Ok((pods.len() == 1 && pods[0] != record.uid).then_some(()))
        })
        .await?;
        let kept = namespace.pods().get(&name).await?;
        ensure!(uid(&kept)? == record.uid && kept.owner_references().is_empty());
        // Nothing of what the labels said is lost.
        let labels = kept.labels();
        for (key, value) in pod.labels() {
            let kept = labels.get(&format!("{key}-detached")) == Some(value);
            ensure!(kept && !labels.contains_key(key), "{key}: {labels:?}");
        }
        outlives(namespace, &record, record.deadline()?).await?;

        let watch = namespace.watch().await?;
        kubectl.ok(&["pi", "release", &name]).await?;
        let soon = later(Timestamp::now(), 5)?;
        watch.going(&record.uid, soon).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_blocks_an_eviction_is_seen_by_all() {
    within_namespace("blocked", async |namespace| {
        let kubectl = &namespace.kubectl;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace
            .run_deployment(&Workload::new("web").on(NODE), 1)
            .await?
            .remove(0);
        kubectl
            .ok(&[
                "create",
                "pdb",
                "strict",
                "--selector=app=web",
                "--min-available=1",
            ])
            .await?;
        let record = touch_seen(namespace, &agents, &pod, &["true"]).await?;
        let name = pod.name_any();
        let patience = Duration::from_secs(40);
        let table = eventually(patience, "the table says blocked", async || {
            let table = kubectl.ok(&["pi", "get"]).await?;
            Ok(table.contains("blocked").then_some(table))
        })
        .await?;
        let shown = table::cell(&table, &name, "EVICTION-TIME")?;
        ensure!(
            shown.starts_with(&record.deadline()?.to_string())
                && shown.ends_with(", blocked by PDB strict)"),
            "{table}"
        );
        let wide = kubectl.ok(&["pi", "get", "-A", "-o", "wide"]).await?;
        table::check(&wide, &name, &[("STATE", "blocked")])?;
        let own = wide.lines().find(|line| line.contains(&name));
        let says = own.is_some_and(|line| line.contains("needs 1 healthy pods and has 1"));
        ensure!(says, "{wide}");

        // Without the right to read Events it is only overdue.
        let reader = kubectl.impersonating("reader", &[]);
        kubectl
            .ok(&[
                "create",
                "role",
                "reader",
                "--verb=get,list",
                "--resource=pods",
            ])
            .await?;
        kubectl
            .ok(&[
                "create",
                "rolebinding",
                "reader",
                "--role=reader",
                "--user=reader",
            ])
            .await?;
        let wide = reader.ok(&["pi", "get", "-o", "wide"]).await?;
        table::check(&wide, &name, &[("STATE", "due")])
    })
    .await;
}
