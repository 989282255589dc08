//! The story, part by part.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use curfew_core::{
    Kind, duration,
    metadata::{INTERACTED, LABEL, PREFIX},
};
use curfew_e2e::{
    Agents, NODES, Namespace, Scheduled, TestCluster, Workload, agents::sample, eventually, life,
    marks, namespace::uid, workload::CONTAINER,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace as Object, Pod};
use kube::{Api, ResourceExt};
use tokio::time::{MissedTickBehavior, interval};

use crate::screen::Screen;

const NAMESPACE: &str = "curfew-demo";
const WORKLOAD: &str = "shop";
/// Where somebody reaches into a pod, and where nobody does.
const TOUCHED: &str = NODES[1];
const UNTOUCHED: &str = NODES[0];
const SERIES: [&str; 4] = [
    r#"curfew_agent_pending_evictions{state="scheduled"}"#,
    "curfew_agent_next_eviction_timestamp_seconds",
    r#"curfew_agent_interactions_total{action="Evict",actor="User",kind="exec"}"#,
    r#"curfew_agent_evictions_total{result="accepted"}"#,
];

pub(crate) async fn tell(screen: &mut Screen) -> Result<()> {
    let cluster = TestCluster::connect().await?;
    remove(&cluster).await?;
    let namespace = Namespace::create(&cluster, NAMESPACE).await?;
    let told = Story { namespace, screen }.tell().await;
    let removed = remove(&cluster).await;
    told.and(removed)
}

/// Removes the namespace of this run or of one that was broken off.
async fn remove(cluster: &TestCluster) -> Result<()> {
    let namespaces: Api<Object> = Api::all(cluster.client.clone());
    if namespaces.get_opt(NAMESPACE).await?.is_none() {
        return Ok(());
    }
    namespaces.delete(NAMESPACE, &Default::default()).await?;
    let what = format!("the namespace {NAMESPACE} is gone");
    eventually(Duration::from_secs(60), &what, async || {
        Ok(namespaces.get_opt(NAMESPACE).await?.is_none().then_some(()))
    })
    .await
}

struct Story<'a> {
    namespace: Namespace,
    screen: &'a mut Screen,
}

impl Story<'_> {
    async fn tell(mut self) -> Result<()> {
        let agents = Agents::connect(&self.namespace.cluster).await?;
        let pod = self.deploy().await?;
        let watch = self.namespace.watch().await?;
        let before = evictions(&agents).await?;
        let record = self.interact(&agents, &pod).await?;
        self.look(&record).await?;
        self.ask_agents(&agents, &record).await?;

        self.screen.step("The countdown");
        let late = {
            let evicted = pin!(life::evicted(&self.namespace, &watch, &record));
            count_down(self.screen, &record, evicted).await?
        };
        let line = format!(
            "the pod was evicted {} ms after its deadline",
            late.as_millis()
        );
        self.screen.fact(&line);
        self.replaced(&agents, &record, before).await
    }

    /// Runs a command for its output.
    async fn show(&mut self, args: &[&str]) -> Result<String> {
        self.screen.command(&format!("kubectl {}", args.join(" ")));
        let output = self.namespace.kubectl.ok(args).await?;
        self.screen.output(&output);
        Ok(output)
    }

    async fn deploy(&mut self) -> Result<Pod> {
        self.screen.step("A workload runs on both nodes");
        let workload = Workload::new(WORKLOAD).spread();
        let pods = self
            .namespace
            .run_deployment(&workload, NODES.len())
            .await?;
        self.show(&["get", "pods", "-o", "wide", "-L", LABEL])
            .await?;
        for pod in &pods {
            marks::clean(pod)?;
        }
        let on = |node| pods.iter().find(move |pod| node_of(pod) == Some(node));
        on(UNTOUCHED).with_context(|| format!("no pod runs on {UNTOUCHED}"))?;
        let pod = on(TOUCHED).with_context(|| format!("no pod runs on {TOUCHED}"))?;
        self.screen
            .fact("one pod on each node, none of them marked");
        Ok(pod.clone())
    }

    async fn interact(&mut self, agents: &Agents, pod: &Pod) -> Result<Scheduled> {
        self.screen.step(&format!(
            "Someone changes something in the pod on {TOUCHED}"
        ));
        let name = pod.name_any();
        let script = "echo debug=on >/tmp/app.conf; cat /tmp/app.conf";
        self.screen
            .command(&format!("kubectl exec {name} -- sh -c '{script}'"));
        let said = self
            .namespace
            .kubectl
            .run(&["exec", &name, "--", "sh", "-c", script])
            .await?;
        let user = self.namespace.cluster.administrator();
        // Asked at once, before anything else takes time.
        let record = agents.record_only_on(TOUCHED, &uid(pod)?).await;
        self.screen.output(&said.clone().success()?);
        let record = record?;
        let expected = life::Expected {
            kind: Kind::Exec,
            user: &user.await?,
            container: Some(CONTAINER),
            command: &format!("sh -c '{script}'"),
        };
        expected.check(&record.last)?;
        self.screen.fact(&format!(
            "when it returned, after {} ms, the agent of {TOUCHED} had recorded it",
            said.took.as_millis()
        ));
        marks::told(&self.namespace, &record, life::PROMPT).await?;
        self.screen
            .fact("within a second it was visible on the pod and in an Event");
        Ok(record)
    }

    async fn look(&mut self, record: &Scheduled) -> Result<()> {
        self.screen.step("What everyone can see");
        let marked = self
            .show(&[
                "get",
                "pods",
                "-l",
                &format!("{LABEL}={INTERACTED}"),
                "-o",
                "name",
            ])
            .await?;
        ensure!(
            marked.trim_end() == format!("pod/{}", record.name),
            "marked is {marked:?}"
        );

        self.screen
            .command(&format!("kubectl get pod {} -o yaml", record.name));
        let pod = self.namespace.pods().get(&record.name).await?;
        marks::check(&pod, record)?;
        let ours = pod
            .annotations()
            .iter()
            .filter(|(key, _)| key.starts_with(PREFIX));
        let lines: Vec<_> = ours
            .map(|(key, value)| format!("    {key}: {value}"))
            .collect();
        self.screen
            .output(&format!("  annotations:\n{}", lines.join("\n")));

        let pod = format!("pod/{}", record.name);
        let events = self
            .show(&["events", "--for", &pod, "--types=Warning"])
            .await?;
        ensure!(
            events.contains(" PodInteraction "),
            "the Event is not there"
        );

        let table = self.show(&["pi", "get"]).await?;
        let deadline = record.deadline()?.to_string();
        let shown = table
            .lines()
            .any(|line| line.contains(&record.name) && line.contains(&deadline));
        ensure!(shown, "kubectl pi get does not show the pod");
        self.screen
            .fact(&format!("the pod will be evicted at {deadline}"));
        Ok(())
    }

    async fn ask_agents(&mut self, agents: &Agents, record: &Scheduled) -> Result<()> {
        self.screen.step("What the agents know");
        for agent in agents.iter() {
            let records = agent.schedule().await?.records;
            let here: Vec<_> = records
                .iter()
                .filter(|other| other.namespace == NAMESPACE)
                .collect();
            self.screen
                .output(&format!("{}: {} of the pods here", agent.node, here.len()));
            for record in here {
                let Scheduled {
                    name, state, last, ..
                } = record;
                self.screen.output(&format!(
                    "  {name}: {state}, {} by {}",
                    last.kind, last.user
                ));
            }
        }
        agents.record_only_on(TOUCHED, &record.uid).await?;
        self.screen
            .fact(&format!("the agent of {UNTOUCHED} knows nothing about it"));

        self.screen
            .output(&format!("/metrics of the agent of {TOUCHED}:"));
        let metrics = agents.of(TOUCHED)?.metrics().await?;
        for series in SERIES {
            let value = sample(&metrics, series).with_context(|| format!("no metric {series}"))?;
            self.screen.output(&format!("  {series} {value}"));
        }
        ensure!(
            sample(&metrics, SERIES[0]) >= Some(1.0),
            "no eviction is pending"
        );
        let next = sample(&metrics, SERIES[1]).unwrap_or_default();
        ensure!(
            next > 0.0 && next <= record.deadline()?.as_second() as f64,
            "the next is at {next}"
        );
        ensure!(
            sample(&metrics, SERIES[2]) >= Some(1.0),
            "no exec was counted"
        );
        Ok(())
    }

    async fn replaced(&mut self, agents: &Agents, record: &Scheduled, before: f64) -> Result<()> {
        self.screen.step("Afterwards");
        let pod = format!("pod/{}", record.name);
        let events = self.show(&["events", "--for", &pod]).await?;
        ensure!(
            events.contains(" PodInteractionEvicted "),
            "the Event is not there"
        );
        let pods = self.namespace.ready_of(WORKLOAD, NODES.len()).await?;
        self.show(&["get", "pods", "-o", "wide", "-L", LABEL])
            .await?;
        for pod in &pods {
            ensure!(uid(pod)? != record.uid, "the pod is still there");
            marks::clean(pod)?;
        }
        if !pods.iter().any(|pod| node_of(pod) == Some(TOUCHED)) {
            bail!("no pod on {TOUCHED} took its place");
        }
        self.screen
            .fact("a new pod took its place, clean and unmarked");
        life::forgotten(agents, record).await?;
        let after = evictions(agents).await?;
        ensure!(
            after > before,
            "the eviction was not counted: {before} and {after}"
        );
        self.screen
            .fact("no agent has a record any more, and the eviction was counted");
        Ok(())
    }
}

/// Shows how much time is left until the eviction has come to its end.
async fn count_down(
    screen: &mut Screen,
    record: &Scheduled,
    mut evicted: std::pin::Pin<&mut impl Future<Output = Result<SignedDuration>>>,
) -> Result<SignedDuration> {
    let deadline = record.deadline()?;
    let all = deadline.duration_since(record.decisive.time).unsigned_abs();
    screen.output(&format!(
        "time to live {}, until {deadline}",
        duration::format(all)
    ));
    let mut ticks = interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = evicted.as_mut() => break outcome,
            _ = ticks.tick() => {
                let left = deadline.duration_since(Timestamp::now()).as_secs().max(0);
                screen.countdown(left as u32, all.as_secs() as u32);
            }
        }
    };
    screen.settle();
    outcome
}

/// How many evictions the API server has granted the agent.
async fn evictions(agents: &Agents) -> Result<f64> {
    let metrics = agents.of(TOUCHED)?.metrics().await?;
    Ok(sample(&metrics, SERIES[3]).unwrap_or_default())
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}
