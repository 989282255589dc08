//! What comes after the policy was made: a policy that has to be in force, and pods that it is about.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use curfew_core::metadata;
use futures::future::join_all;
use kube::{ResourceExt, api::PostParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{FRESH, FRESH_TTL, LIMIT, PATIENCE, Scene, Touched, labelled};
use crate::{
    NODES, Workload,
    agents::total,
    disasters::facts::{Fresh, IN_FORCE},
    disrupt, eventually,
    namespace::uid,
    policies::Policies,
};

impl Scene {
    /// Makes anew the pods for the new policy that went with the disaster.
    pub async fn replant(&self) -> Result<()> {
        for (at, name) in FRESH.iter().enumerate() {
            let workload = Workload::new(name)
                .on(NODES[at % NODES.len()])
                .in_group("fresh");
            eventually(PATIENCE, &format!("{name} is there"), async || {
                match self.namespace.pods().get_opt(name).await? {
                    Some(pod) if pod.metadata.deletion_timestamp.is_none() => Ok(Some(())),
                    _ => {
                        let pod = workload.pod()?;
                        self.namespace
                            .pods()
                            .create(&PostParams::default(), &pod)
                            .await?;
                        Ok(Some(()))
                    }
                }
            })
            .await?;
        }
        for name in FRESH {
            self.namespace.ready(name).await?;
        }
        Ok(())
    }

    /// Makes a policy, reaches into the pods that it is about as soon as it has to be in force, and returns what they
    /// got and when all replicas of the webhook knew it.
    pub async fn renew(&self) -> Result<(Vec<Fresh>, Option<Duration>)> {
        let policies = Policies::new(&self.namespace).await?;
        let spec = json!({"podSelector": labelled("fresh"), "ttl": FRESH_TTL});
        let said = timeout(LIMIT, policies.try_apply("fresh", &spec)).await??;
        said.success()?;
        let made = Instant::now();
        let (fresh, in_force) = tokio::join!(
            async {
                sleep(IN_FORCE).await;
                join_all(FRESH.iter().map(|name| self.reach(name, made))).await
            },
            self.known(made)
        );
        let first: Option<Duration> = fresh.iter().filter_map(|(_, after)| *after).max();
        if let Some(first) = first.filter(|first| *first > IN_FORCE + Duration::from_secs(3)) {
            let first = first.as_secs_f64();
            self.figure(format!(
                "all execs admitted only {first:.1} s after the policy was made"
            ));
        }
        Ok((
            fresh.into_iter().map(|(fresh, _)| fresh).collect(),
            in_force,
        ))
    }

    /// Reaches into a pod that the new policy is about, until that is admitted.
    pub(super) async fn reach(&self, pod: &str, made: Instant) -> (Fresh, Option<Duration>) {
        let admitted = eventually(PATIENCE, "an exec is admitted", async || {
            Ok(self.exec(pod).await.is_ok().then(|| made.elapsed()))
        })
        .await
        .ok();
        let told = async || -> Result<Touched> {
            let marked = eventually(LIMIT * 2, "the mark", async || {
                let pod = timeout(LIMIT, self.namespace.pods().get(pod)).await??;
                let marked = pod.annotations().contains_key(metadata::EVICTION_TIME);
                Ok(marked.then_some(pod))
            })
            .await?;
            let deadline = &marked.annotations()[metadata::EVICTION_TIME];
            Ok(Touched {
                pod: pod.to_owned(),
                uid: uid(&marked)?,
                node: disrupt::node_of(&marked).unwrap_or_default().to_owned(),
                deadline: deadline.parse()?,
                leaving: false,
            })
        };
        let mut ttl = None;
        if admitted.is_some() {
            match told().await {
                Ok(touched) => {
                    let pods = self.namespace.pods();
                    let marks = timeout(LIMIT, pods.get(pod)).await;
                    ttl = marks
                        .ok()
                        .and_then(Result::ok)
                        .and_then(|pod| pod.annotations().get(metadata::TTL).cloned());
                    self.notes().touched.push(touched);
                }
                Err(error) => {
                    self.find(format!("{pod} was reached into and not marked: {error:#}"))
                }
            }
        }
        let fresh = Fresh {
            pod: pod.to_owned(),
            ttl,
        };
        (fresh, admitted)
    }

    /// How long it took until all replicas of the webhook counted all policies.
    async fn known(&self, made: Instant) -> Option<Duration> {
        let cluster = &self.namespace.cluster;
        eventually(PATIENCE * 2, "all replicas know the policy", async || {
            let kubectl = cluster.kubectl();
            let all = kubectl.ok(&["get", "ipol", "-o", "name"]);
            let all = timeout(LIMIT, all).await??.lines().count();
            let pods = timeout(LIMIT, cluster.pods_of("webhook")).await??;
            for pod in &pods {
                let metrics = timeout(LIMIT, disrupt::metrics(pod)).await??;
                let known = total(&metrics, "curfew_webhook_policies") as usize;
                ensure!(known == all, "{} knows {known} of {all}", pod.name_any());
            }
            Ok((!pods.is_empty()).then(|| made.elapsed()))
        })
        .await
        .ok()
    }
}
