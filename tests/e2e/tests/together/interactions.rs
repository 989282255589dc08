//! Every other way into a pod: attach, debug, run, cp, port-forward, and exec past kubectl.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_core::{Kind, duration, metadata};
use curfew_e2e::{
    Agents, Namespace, Workload, eventually, life,
    life::Expected,
    marks,
    namespace::{is_ready, uid},
    within_namespace,
    workload::{CONTAINER, IMAGE},
};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::{
    ResourceExt,
    api::{AttachParams, PostParams},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const NODE: &str = "node-2";
const TICKS: &str = "while true; do echo tick; sleep 1; done";

/// Whatever started a timer ends in the same way.
async fn lives_out(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    expected: &Expected<'_>,
) -> Result<()> {
    let watch = namespace.watch().await?;
    let record = life::recorded(namespace, agents, NODE, pod, expected).await?;
    life::evicted(namespace, &watch, &record).await?;
    life::forgotten(agents, &record).await
}

#[tokio::test]
async fn attach() {
    within_namespace("attach", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let pod = namespace
            .run_pod(&Workload::new("pod").on(NODE).script(TICKS))
            .await?;
        let mut attached = namespace.kubectl.start(&["attach", "pod"])?;
        ensure!(attached.line().await? == "tick");
        let expected = Expected {
            kind: Kind::Attach,
            user: &user,
            container: Some(CONTAINER),
            command: "",
        };
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

#[tokio::test]
async fn a_debug_container() {
    within_namespace("debug", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let image = format!("--image={IMAGE}");
        let args = [
            "debug",
            "pod",
            &image,
            "--target=main",
            "--container=lens",
            "--",
            "sleep",
            "300",
        ];
        let said = namespace.kubectl.run(&args).await?;
        ensure!(said.code == Some(0), "{said:?}");
        let expected = Expected {
            kind: Kind::Debug,
            user: &user,
            container: Some("lens"),
            command: "sleep 300",
        };
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        // Here kubectl shows what the webhook has to say.
        let deadline = record.deadline()?.to_string();
        ensure!(
            said.stderr.contains(&deadline),
            "no warning of {deadline}: {said:?}"
        );
        let now = namespace.pods().get("pod").await?;
        let added = now
            .spec
            .and_then(|spec| spec.ephemeral_containers)
            .unwrap_or_default();
        ensure!(added.len() == 1 && added[0].target_container_name.as_deref() == Some("main"));
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

/// Its review is more than 5 MB: JSON escapes each sign sixfold, and the pod is in it twice.
#[tokio::test]
async fn a_debug_container_in_a_big_pod() {
    within_namespace("debug-big", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let mut pod = Workload::new("pod").on(NODE).pod()?;
        let spec = pod.spec.as_mut().context("a pod without a spec")?;
        spec.containers[0].env = Some(
            (0..60)
                .map(|number| EnvVar {
                    name: format!("BIG_{number}"),
                    value: Some("<&".repeat(3750)),
                    ..EnvVar::default()
                })
                .collect(),
        );
        namespace
            .pods()
            .create(&PostParams::default(), &pod)
            .await?;
        let pod = namespace.ready("pod").await?;
        let image = format!("--image={IMAGE}");
        let args = [
            "debug",
            "pod",
            &image,
            "--container=lens",
            "--",
            "sleep",
            "300",
        ];
        let said = namespace.kubectl.run(&args).await?;
        ensure!(said.code == Some(0), "{said:?}");
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        ensure!(record.last.kind == Kind::Debug, "{record:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_exec_that_names_no_container() {
    within_namespace("unnamed", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let params = AttachParams::default().stdin(false).stderr(false);
        ensure!(params.container.is_none());
        let mut process = namespace
            .pods()
            .exec("pod", ["echo", "hi"], &params)
            .await?;
        let mut output = String::new();
        let mut stdout = process.stdout().context("no output")?;
        stdout.read_to_string(&mut output).await?;
        process.join().await?;
        ensure!(output == "hi\n", "{output:?}");
        let expected = Expected {
            kind: Kind::Exec,
            user: &user,
            container: Some(CONTAINER),
            command: "echo hi",
        };
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

#[tokio::test]
async fn cp() {
    within_namespace("cp", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("note");
        fs::write(&file, "a note\n")?;
        let args = ["cp", &file.to_string_lossy(), "pod:/tmp/note"];
        namespace.kubectl.ok(&args).await?;
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        // kubectl looks where to and then unpacks, and within one second neither of them is the first.
        let commands = [&record.decisive, &record.last].map(|did| did.command.as_str());
        ensure!(
            commands.iter().any(|command| command.starts_with("tar ")),
            "{record:?}"
        );
        let expected = Expected {
            kind: Kind::Exec,
            user: &user,
            container: Some(CONTAINER),
            command: record.last.command.as_str(),
        };
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

#[tokio::test]
async fn run_on_a_terminal() {
    within_namespace("run", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let image = format!("--image={IMAGE}");
        let place = format!(
            r#"--overrides={{"spec":{{"terminationGracePeriodSeconds":0,"nodeSelector":{{"kubernetes.io/hostname":"{NODE}"}}}}}}"#
        );
        let args = [
            "run",
            "shell",
            "-it",
            &image,
            "--restart=Never",
            "--image-pull-policy=Never",
            &place,
            "--",
            "sh",
        ];
        let mut shell = namespace.kubectl.start_on_a_terminal(&args)?;
        shell.type_line("echo $((6*7))").await?;
        while shell.line().await?.trim_end() != "42" {}
        let pod = namespace.pods().get("shell").await?;
        let expected = Expected {
            kind: Kind::Attach,
            user: &user,
            container: Some("shell"),
            command: "",
        };
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

#[tokio::test]
async fn a_port_forward_is_recorded_and_starts_no_timer() {
    within_namespace("forward", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let serving = "echo served >/tmp/index.html; exec httpd -f -p 8080 -h /tmp";
        let pod = namespace
            .run_pod(&Workload::new("pod").on(NODE).script(serving))
            .await?;
        let watch = namespace.watch().await?;
        let mut forward = namespace
            .kubectl
            .start(&["port-forward", "pod/pod", ":8080"])?;
        let line = forward.line().await?;
        let address = line
            .strip_prefix("Forwarding from ")
            .and_then(|rest| rest.split(' ').next());
        let address = address.with_context(|| format!("{line:?} names no address"))?;

        let expected = Expected {
            kind: Kind::Portforward,
            user: &user,
            container: None,
            command: "",
        };
        let record = life::recorded(namespace, &agents, NODE, &pod, &expected).await?;
        ensure!(
            record.eviction_time.is_none() && record.state == "recorded",
            "{record:?}"
        );
        let served = eventually(
            Duration::from_secs(10),
            "the forwarded port serves",
            async || Ok(Some(fetch(address).await?)),
        );
        ensure!(served.await?.ends_with("served\n"));

        // A sibling's whole time to live later it is still there.
        namespace
            .run_pod(&Workload::new("sibling").on(NODE))
            .await?;
        namespace
            .kubectl
            .ok(&["exec", "sibling", "--", "true"])
            .await?;
        let sibling = uid(&namespace.pods().get("sibling").await?)?;
        let sibling = agents.record_only_on(NODE, &sibling).await?;
        life::evicted(namespace, &watch, &sibling).await?;
        ensure!(
            watch.end(&record.uid).going.is_none(),
            "a port-forward led to an eviction"
        );
        let still = namespace.pods().get("pod").await?;
        ensure!(is_ready(&still));
        marks::check(&still, &agents.record_only_on(NODE, &record.uid).await?)?;

        // And it does not shield the pod from what follows a shell.
        namespace.kubectl.ok(&["exec", "pod", "--", "true"]).await?;
        let expected = Expected {
            kind: Kind::Exec,
            user: &user,
            container: Some(CONTAINER),
            command: "true",
        };
        lives_out(namespace, &agents, &pod, &expected).await
    })
    .await;
}

async fn fetch(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(
        answer.starts_with("HTTP/1.") && answer.contains(" 200 "),
        "{answer:?}"
    );
    Ok(answer)
}

#[tokio::test]
async fn a_pod_whose_annotations_are_nearly_full_tells_the_most_important() {
    // With its key, and little room beside it.
    const FILLER: &str = "example.com/filler";
    const ROOM: usize = 250;
    within_namespace("full", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let mut pod = Workload::new("pod").on(NODE).pod()?;
        let filler = "x".repeat(metadata::MAX_ANNOTATIONS - FILLER.len() - ROOM);
        pod.metadata.annotations = Some([(FILLER.to_owned(), filler)].into());
        namespace
            .pods()
            .create(&PostParams::default(), &pod)
            .await?;
        let pod = namespace.ready("pod").await?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pod, &["echo", "hello"]).await?;

        let deadline = record.deadline()?.to_string();
        let expected = [
            (metadata::EVICTION_TIME, deadline.as_str()),
            (metadata::INTERACTOR, record.decisive.user.as_str()),
            (metadata::INTERACTION, "exec"),
        ];
        eventually(life::PROMPT * 5, "the shortest set of marks", async || {
            let pod = namespace.pods().get("pod").await?;
            let labelled = pod.labels().get(metadata::LABEL).map(String::as_str);
            ensure!(labelled == Some(metadata::INTERACTED), "{:?}", pod.labels());
            for (key, value) in expected {
                let found = pod.annotations().get(key).map(String::as_str);
                ensure!(found == Some(value), "{key} is {found:?}");
            }
            Ok(Some(()))
        })
        .await?;
        let shown = namespace.kubectl.ok(&["pi", "get"]).await?;
        ensure!(
            shown.contains(&deadline) && shown.contains(&record.decisive.user),
            "{shown}"
        );
        // The pod does not say how long it has to live, and its agent does.
        let ttl = record.deadline()?.duration_since(record.decisive.time);
        let ttl = duration::format(ttl.try_into()?);
        ensure!(shown.contains(&ttl), "{shown}");
        let described = namespace
            .kubectl
            .ok(&["pi", "describe", "pod", "pod"])
            .await?;
        for told in ["the agent of", "Longest Extension", &ttl, "echo hello"] {
            ensure!(described.contains(told), "{told:?}: {described}");
        }
        let me = namespace.cluster.administrator().await?;
        let requester = format!("{}={me}", metadata::EXTENSION_REQUESTER);
        let extension = format!("{}=1m", metadata::EXTENSION);
        let extend = ["annotate", "pod", "pod", &extension, &requester];
        let said = namespace.kubectl.run(&extend).await?;
        let refused = said.stderr.contains("nearly full") || said.stderr.contains("Too long");
        ensure!(said.code != Some(0) && refused, "{said:?}");
        watch
            .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
            .await?;
        Ok(())
    })
    .await;
}
