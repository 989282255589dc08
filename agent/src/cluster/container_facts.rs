//! What of a pod is told to the thread that looks at containers: their IDs, and what the kubelet runs in them.

use std::time::Duration;

use curfew_evidence::{ContainerFacts, PodFacts, Probe};

use super::pod_watch::{WatchedContainer, WatchedPod};

/// The facts of a pod as the watch showed it.
pub(super) fn facts(pod: &WatchedPod) -> PodFacts {
    let containers = pod
        .status
        .all_containers()
        .filter_map(|(status, ephemeral)| {
            // containerd://ID
            let (_, id) = status.container_id.as_deref()?.split_once("://")?;
            let facts = ContainerFacts {
                name: status.name.clone(),
                id: id.to_owned(),
                ephemeral,
            };
            (!status.has_terminated()).then_some(facts)
        });
    let probes = pod.spec.all_containers().flat_map(|container| {
        container.commands().map(|(argv, timeout)| Probe {
            container: container.name.clone(),
            argv: argv.to_vec(),
            timeout,
        })
    });
    PodFacts {
        uid: pod.id().uid,
        containers: containers.collect(),
        probes: probes.collect(),
        // Of a marked pod, more may be recorded than is kept.
        complete: !pod.is_marked(),
    }
}

impl WatchedContainer {
    /// What the kubelet runs in it by itself, and the timeout of that if it has one.
    fn commands(&self) -> impl Iterator<Item = (&[String], Option<Duration>)> {
        let probes = [
            &self.liveness_probe,
            &self.readiness_probe,
            &self.startup_probe,
        ];
        let probes = probes.into_iter().flatten().filter_map(|probe| {
            // The API server sets the default.
            let timeout = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).into());
            Some((probe.handler.command()?, Some(timeout)))
        });
        let hooks = self.lifecycle.iter();
        let hooks = hooks.flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
        let hooks = hooks.flatten();
        probes.chain(hooks.filter_map(|hook| Some((hook.command()?, None))))
    }
}
