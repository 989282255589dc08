//! What is usual for a workload: learned, reported, refused, and what follows for a pod that is misused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use curfew_e2e::{
    NODES, Namespace, Workload, eventually, figures,
    kubectl::Said,
    life,
    marks::noted,
    namespace::uid,
    policies::Policies,
    within_namespace,
    workload::{CONTAINER, IMAGE},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.org";
const MALLORY: &str = "mallory@example.org";
const MASTERS: &[&str] = &["system:masters"];
const PROFILE: &str = "deployment.web";
/// A profile is written at most once in 30 s.
const WRITTEN: Duration = Duration::from_secs(75);
/// As long as a change of a profile takes until both replicas know it.
const KNOWN: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);
/// How soon a misused pod has to be on its way out.
const AT_ONCE: Duration = life::PROMPT;
/// Between two rounds of a client's requests: without it, the client would take a processor from the tests beside it.
const PAUSE: Duration = Duration::from_millis(20);
/// How many interactions are learned.
const SAMPLES: usize = 30;
/// How many days ago learning began, as far as the policies know.
const DAYS: i64 = 15;
const PORT: u16 = 8080;

/// What somebody's command came to.
async fn exec(namespace: &Namespace, user: &str, pod: &Pod, command: &[&str]) -> Result<Said> {
    let name = pod.name_any();
    let args = [&["exec", &name, "-c", CONTAINER, "--"], command].concat();
    let kubectl = namespace.kubectl.impersonating(user, MASTERS);
    kubectl.run(&args).await
}

async fn allowed(namespace: &Namespace, user: &str, pod: &Pod, command: &[&str]) -> Result<()> {
    let said = exec(namespace, user, pod, command).await?;
    said.success().map(drop)
}

/// Somebody is refused, in these words.
async fn refused(
    namespace: &Namespace,
    user: &str,
    pod: &Pod,
    command: &[&str],
    words: &[&str],
) -> Result<()> {
    let said = exec(namespace, user, pod, command).await?;
    ensure!(said.code != Some(0), "{user} was not refused {command:?}");
    for word in words {
        ensure!(said.stderr.contains(word), "{word} is not in {said:?}");
    }
    Ok(())
}

async fn profile(namespace: &Namespace) -> Result<Option<Value>> {
    let args = ["get", "iprof", PROFILE, "-o", "json", "--ignore-not-found"];
    let text = namespace.kubectl.ok(&args).await?;
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(serde_json::from_str(text)?)),
    }
}

/// The profile, once it has so many samples.
async fn learned(namespace: &Namespace, samples: usize) -> Result<Value> {
    let what = format!("{samples} interactions are learned");
    eventually(WRITTEN, &what, async || {
        let found = profile(namespace).await?.context("there is no profile")?;
        let learned = found["status"]["samples"].as_u64();
        ensure!(
            learned <= Some(samples as u64),
            "more was learned than was done: {found}"
        );
        ensure!(learned == Some(samples as u64), "{learned:?}");
        Ok(Some(found))
    })
    .await
}

/// Three pods that serve, and the Service before them.
async fn serve(namespace: &Namespace) -> Result<Vec<Pod>> {
    let labels = json!({"app": "web"});
    let serve = format!(
        "mkdir /tmp/www && echo fine >/tmp/www/index.html && exec httpd -f -p {PORT} -h /tmp/www"
    );
    let container = json!({
        "name": CONTAINER, "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
    });
    // Long enough for clients to see that it goes: it serves until it is killed.
    let spec = json!({
        "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 5,
        "containers": [container],
    });
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels}, "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}]}},
    ]});
    let made = namespace
        .kubectl
        .feed(&["apply", "-f", "-"], &objects.to_string())
        .await?;
    made.success()?;
    namespace.ready_of("web", 3).await
}

/// A client that calls the ready endpoints of the Service again and again.
struct Caller {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<Vec<String>>,
}

impl Caller {
    fn start(namespace: &Namespace) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let namespace = namespace.clone();
        let (until, count) = (stop.clone(), answered.clone());
        let task = tokio::spawn(async move {
            let mut failed = Vec::new();
            while !until.load(Ordering::Acquire) {
                for address in ready(&namespace).await.unwrap_or_default() {
                    match call(&address).await {
                        Ok(()) => _ = count.fetch_add(1, Ordering::AcqRel),
                        Err(error) => {
                            failed.push(format!("{} {address}: {error:#}", Timestamp::now()))
                        }
                    }
                }
                sleep(PAUSE).await;
            }
            failed
        });
        Self {
            stop,
            answered,
            task,
        }
    }

    /// How many requests were answered, if none failed.
    async fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Release);
        let failed = self.task.await?;
        let answered = self.answered.load(Ordering::Acquire);
        ensure!(
            failed.is_empty(),
            "{} of {} requests failed: {failed:#?}",
            failed.len(),
            failed.len() + answered
        );
        Ok(answered)
    }
}

/// The addresses of the endpoints that are ready.
async fn ready(namespace: &Namespace) -> Result<Vec<String>> {
    let endpoints = namespace.endpoints("web").await?.into_iter();
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) == Some(true)
    });
    Ok(ready.flat_map(|endpoint| endpoint.addresses).collect())
}

async fn call(address: &str) -> Result<()> {
    let answer = timeout(Duration::from_secs(5), async {
        let mut stream = TcpStream::connect((address, PORT)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    });
    let answer = answer.await.context("no answer")??;
    ensure!(
        answer.contains(" 200 ") && answer.contains("fine"),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_workload_goes_through_its_four_stages() {
    within_namespace("behaviour", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let enough = |mut spec: Value| {
            (spec["minimumDays"], spec["minimumSamples"]) = (json!(14), json!(SAMPLES));
            spec
        };
        let learning = enough(json!({"learn": true, "ttl": "1h"}));
        policies.hold(&[("learning", learning)]).await?;
        let pods = serve(namespace).await?;

        // Normal: what two people do is learned.
        for (at, pod) in pods.iter().cycle().take(SAMPLES).enumerate() {
            let (user, command) = match at % 3 {
                0 => (ALICE, &["ls", "/"][..]),
                1 => (BOB, &["cat", "/etc/hostname"][..]),
                _ => (ALICE, &["cat", "/etc/hosts"][..]),
            };
            allowed(namespace, user, pod, command).await?;
        }
        let found = learned(namespace, SAMPLES).await?;
        ensure!(found["status"]["stage"] == "Learning", "{found}");
        // Nobody is judged by the first day.
        allowed(namespace, MALLORY, &pods[0], &["ls", "/"]).await?;
        learned(namespace, SAMPLES + 1).await?;
        let reset = ["pi", "profile", "reset", "deploy/web", "--yes"];
        namespace.kubectl.ok(&reset).await?;
        for (at, pod) in pods.iter().cycle().take(SAMPLES).enumerate() {
            let user = if at % 2 == 0 { ALICE } else { BOB };
            let command = if at % 3 == 0 {
                &["ls", "/"][..]
            } else {
                &["cat", "/etc/hosts"]
            };
            allowed(namespace, user, pod, command).await?;
        }
        learned(namespace, SAMPLES).await?;
        let began = Timestamp::now() - SignedDuration::from_hours(24 * DAYS);
        let began = Timestamp::from_second(began.as_second())?;
        let since = json!({"status": {"since": began.to_string()}}).to_string();
        let patch = [
            "patch",
            "iprof",
            PROFILE,
            "--subresource=status",
            "--type=merge",
            "-p",
            &since,
        ];
        namespace.kubectl.ok(&patch).await?;
        sleep(KNOWN).await;

        // A new user and a new program are reported.
        let irregular = |action: &str, ttl: &str| {
            enough(json!({"priority": 10, "behaviour": "Irregular", "action": action, "ttl": ttl}))
        };
        policies
            .hold(&[("irregular", irregular("Record", "1h"))])
            .await?;
        let (stranger, program) = (
            format!("{MALLORY} was never seen in deployment web"),
            "`wget` was never run there by a person",
        );
        allowed(namespace, MALLORY, &pods[0], &["ls", "/"]).await?;
        noted(
            namespace,
            &uid(&pods[0])?,
            SOON,
            &format!("irregular: {stranger}"),
        )
        .await?;
        exec(namespace, ALICE, &pods[1], &["wget", "--help"]).await?;
        noted(
            namespace,
            &uid(&pods[1])?,
            SOON,
            &format!("irregular: {program}"),
        )
        .await?;
        let name = pods[0].name_any();
        let described = namespace.kubectl.ok(&["pi", "describe", &name]).await?;
        ensure!(described.contains(&stranger), "{described}");
        let mallory = namespace.kubectl.impersonating(MALLORY, MASTERS);
        let explained = mallory
            .ok(&["pi", "explain", &name, "--", "ls", "/"])
            .await?;
        ensure!(
            explained.contains(&format!("irregular: {stranger}")),
            "{explained}"
        );

        // Vulnerable: they are refused, and what is usual goes on.
        policies
            .hold(&[("irregular", irregular("Deny", "1h"))])
            .await?;
        let policy = policies.name("irregular");
        refused(
            namespace,
            MALLORY,
            &pods[0],
            &["ls", "/"],
            &[&policy, &stranger],
        )
        .await?;
        refused(
            namespace,
            ALICE,
            &pods[0],
            &["wget", "--help"],
            &[&policy, program],
        )
        .await?;
        allowed(namespace, ALICE, &pods[0], &["ls", "/"]).await?;

        // Exploitable: the signature is refused to everybody, and other execs go on.
        let exploit = ["cat", "/etc/hosts", "/etc/passwd"];
        allowed(namespace, ALICE, &pods[0], &exploit).await?;
        let signature = json!({"priority": 20, "commands": [exploit], "action": "Deny"});
        policies.hold(&[("cve-2026-0001", signature)]).await?;
        let policy = policies.name("cve-2026-0001");
        refused(namespace, ALICE, &pods[0], &exploit, &[&policy]).await?;
        allowed(namespace, BOB, &pods[0], &["cat", "/etc/hosts"]).await?;

        // Misused: one of three pods goes at once, and the service goes on.
        let now = enough(
            json!({"priority": 30, "behaviour": "Irregular", "action": "Evict", "ttl": "0s"}),
        );
        policies.hold(&[("misused", now)]).await?;
        let caller = Caller::start(namespace);
        sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        // A profile has whole seconds.
        let misused_at = Timestamp::from_second(Timestamp::now().as_second())?;
        // It may be killed while it runs.
        drop(exec(namespace, MALLORY, &pods[0], &["ls", "/"]).await?);
        let misused = uid(&pods[0])?;
        eventually(AT_ONCE, "the misused pod is evicted", async || {
            let found = namespace.pods().get_opt(&name).await?;
            let stays = found.is_some_and(|pod| {
                pod.metadata.deletion_timestamp.is_none()
                    && pod.metadata.uid.as_ref() == Some(&misused)
            });
            Ok((!stays).then_some(()))
        })
        .await?;
        // With the exec itself, whose kubectl takes the most of it on a busy machine.
        let took = began.elapsed();
        let left = namespace.ready_of("web", 3).await?;
        sleep(Duration::from_secs(6)).await;
        let answered = caller.stop().await?;
        ensure!(answered > 100, "only {answered} requests");
        for pod in &pods[1..] {
            let stays = left.iter().any(|left| left.uid() == pod.uid());
            ensure!(stays, "{} went, too", pod.name_any());
        }
        let shown = format!(
            "evicted after {took:?}; {answered} requests of the client were answered, none failed"
        );
        figures::report(&namespace.cluster, "behaviour", &shown)?;

        // What was irregular stands in the profile, and was not learned. A profile is written by both replicas in turns, and
        // kubectl tries again what is refused: only the time tells that the last is there.
        let found = eventually(WRITTEN, "irregular interactions are counted", async || {
            let found = profile(namespace).await?.context("there is no profile")?;
            let status = &found["status"];
            let last: Option<Timestamp> =
                serde_json::from_value(status["lastIrregular"]["time"].clone())?;
            let is_last = last >= Some(misused_at) && status["irregular"].as_u64() >= Some(5);
            Ok(is_last.then_some(found))
        })
        .await?;
        ensure!(
            !found["status"]["learned"].to_string().contains(MALLORY),
            "{found}"
        );
        ensure!(
            found["status"]["lastIrregular"]["user"] == MALLORY,
            "{found}"
        );
        ensure!(found["status"]["stage"] == "Normal", "{found}");
        Ok(())
    })
    .await;
}

/// Applies the profile with this spec.
async fn write(namespace: &Namespace, spec: Value) -> Result<Said> {
    let object = json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile",
        "metadata": {"name": PROFILE}, "spec": spec});
    let args = ["apply", "-f", "-"];
    namespace.kubectl.feed(&args, &object.to_string()).await
}

#[tokio::test]
async fn a_profile_that_makes_no_sense_stops_nobody() {
    within_namespace("profile-unfit", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let irregular = json!({"priority": 1, "behaviour": "Irregular", "minimumDays": 0, "minimumSamples": 1,
            "action": "Deny"});
        let learning = json!({"learn": true, "ttl": "1h"});
        policies.hold(&[("irregular", irregular), ("learning", learning)]).await?;
        let workload = Workload::new("web").on(NODES[0]);
        let pod = namespace.run_deployment(&workload, 1).await?.remove(0);

        // What is too large or has another form, the API server refuses.
        let names: Vec<_> = (0..64).map(|at| format!("program-{at}")).collect();
        for (spec, words) in [
            (json!({"allowed": vec![json!({"programs": names}); 5]}), "at most 256 values"),
            (json!({"allowed": vec![json!({"unread": true}); 65]}), "must have at most 64 items"),
            (json!({"allowed": [{"hours": ["Someday"]}]}), "spec.allowed[0].hours[0]"),
            (json!({"stage": "Fine"}), "Unsupported value: \"Fine\""),
        ] {
            let said = write(namespace, spec).await?;
            ensure!(said.code != Some(0) && said.stderr.contains(words), "{words}: {said:?}");
        }

        // What only the webhook can judge is reported.
        write(namespace, json!({"allowed": [{"users": [ALICE]}, {}]})).await?.success()?;
        eventually(SOON, "the profile says that it is unfit", async || {
            let found = profile(namespace).await?.context("there is no profile")?;
            let condition = &found["status"]["conditions"][0];
            ensure!(condition["status"] == "False", "{found}");
            let message = condition["message"].as_str().unwrap_or_default();
            ensure!(message.starts_with("spec.allowed[1]: is empty"), "{message}");
            Ok(Some(()))
        })
        .await?;
        allowed(namespace, MALLORY, &pod, &["ls", "/"]).await?;

        // It is learned all the same, and deleting it meanwhile begins anew.
        learned(namespace, 1).await?;
        namespace.kubectl.ok(&["delete", "iprof", PROFILE]).await?;
        sleep(KNOWN).await;
        allowed(namespace, BOB, &pod, &["id"]).await?;
        let found = learned(namespace, 1).await?;
        ensure!(!found["status"]["learned"].to_string().contains(MALLORY), "{found}");
        // Now one interaction is enough, and the first who is new is refused.
        sleep(KNOWN).await;
        let words = [&policies.name("irregular"), "was never seen in deployment web"];
        refused(namespace, MALLORY, &pod, &["ls", "/"], &words).await?;

        // Of two people who edit it at the same time, the second is told; and learning takes nothing away.
        let mut first = profile(namespace).await?.context("there is no profile")?;
        let mut second = first.clone();
        first["spec"] = json!({"allowed": [{"users": [MALLORY]}, {"programs": ["ls"]}]});
        second["spec"] = json!({"allowed": [{"users": ["carol"]}]});
        let replace = ["replace", "-f", "-"];
        namespace.kubectl.feed(&replace, &first.to_string()).await?.success()?;
        let said = namespace.kubectl.feed(&replace, &second.to_string()).await?;
        ensure!(said.code != Some(0) && said.stderr.contains("Conflict"), "{said:?}");
        eventually(SOON, "who is allowed is let in", async || {
            let said = exec(namespace, MALLORY, &pod, &["ls"]).await?;
            Ok((said.code == Some(0)).then_some(()))
        })
        .await?;
        let found = eventually(WRITTEN, "it is learned", async || {
            let found = profile(namespace).await?.context("there is no profile")?;
            Ok((found["status"]["samples"].as_u64() > Some(1)).then_some(found))
        })
        .await?;
        ensure!(found["spec"] == first["spec"], "{found}");
        let page = namespace.kubectl.ok(&["pi", "profile", "show", "deploy/web"]).await?;
        for words in ["users mallory@example.org", "Learned:", "USERS"] {
            if !page.contains(words) {
                bail!("{words} is not in {page}");
            }
        }
        Ok(())
    })
    .await;
}
