//! Deals the blows.

use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tokio::time::{sleep, timeout};

use super::{
    book::Book,
    plan::{Blow, Plan, Target},
    say, world,
};
use crate::{
    NODES, Namespace, TestCluster,
    disrupt::{self, API_SERVER},
    poll::eventually,
};

/// How long a victim may take to be there, before the controllers are started anew and again after that.
const PATIENCE: Duration = Duration::from_secs(90);
/// An API server that was killed leaves connections that never answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Deals them all, one after the other.
pub(super) async fn strike_all(
    namespace: &Namespace,
    plan: &Plan,
    book: &Book,
    talkative: bool,
) -> Result<()> {
    let all = plan.blows.len();
    for (at, blow) in plan.blows.iter().enumerate() {
        sleep(blow.after).await;
        let what = format!("kill {} of {all}, {blow}", at + 1);
        let deal = async || {
            eventually(PATIENCE, &what, async || {
                timeout(LIMIT * 12, strike(namespace, book, blow)).await??;
                Ok(Some(()))
            })
            .await
        };
        if let Err(error) = deal().await {
            say(&format!("cannot start the controllers again: {error:#}"));
            disrupt::restart_controllers(&namespace.cluster).await?;
            deal().await?;
        }
        let sort = match blow.target {
            Target::Agent(_) => "agent",
            Target::Webhook(_) => "webhook",
            Target::Container(_) => "container",
            Target::Pod(_) => "pod",
            Target::ApiServer(_) => "API server",
        };
        *book.open().kills.entry(sort).or_default() += 1;
        if talkative && (at + 1) % 10 == 0 {
            say(&format!(
                "{} kills, {} execs admitted",
                at + 1,
                book.admitted()
            ));
        }
    }
    Ok(())
}

async fn strike(namespace: &Namespace, book: &Book, blow: &Blow) -> Result<()> {
    // Whatever ended by itself would have been started again by its kubelet.
    disrupt::on_machine(&namespace.cluster, |machine| machine.revive()).await?;
    let cluster = &namespace.cluster;
    match blow.target {
        Target::Agent(at) => {
            let agent = timeout(LIMIT, disrupt::agent_of(cluster, NODES[at])).await??;
            kill(cluster, "agent", &agent).await
        }
        Target::Webhook(at) => {
            let mut pods = timeout(LIMIT, cluster.pods_of("webhook")).await??;
            pods.sort_by_key(ResourceExt::name_any);
            match pods.get(at % pods.len().max(1)) {
                Some(pod) => kill(cluster, "webhook", pod).await,
                None => bail!("no replica runs"),
            }
        }
        Target::Container(slot) => kill_container(book, slot),
        Target::Pod(slot) => delete(namespace, book, slot).await,
        Target::ApiServer(away) => {
            disrupt::on_machine(cluster, |machine| match machine.pid(API_SERVER) {
                Some(_) => machine.kill(API_SERVER),
                None => Ok(()),
            })
            .await?;
            sleep(away).await;
            disrupt::on_machine(cluster, |machine| {
                machine.start(API_SERVER)?;
                machine.wait_until_ready()
            })
            .await?;
            // They hold on to their dead connections, and with them to what was, for most of a minute; and
            // then wait for longer and longer before they look again.
            disrupt::restart_controllers(cluster).await
        }
    }
}

/// Kills the process of a pod of Curfew's.
async fn kill(cluster: &TestCluster, part: &str, pod: &Pod) -> Result<()> {
    let Some(process) = disrupt::process_of(part, &pod.name_any()) else {
        bail!("{} does not run", pod.name_any());
    };
    disrupt::kill_process(process)?;
    // Only once in a pod's life does the kubelet start a container again without a pause.
    if disrupt::restarts(pod) > 0 {
        // When the API server does not take it, the pause is all that comes of it.
        drop(timeout(LIMIT, disrupt::replace(cluster, pod)).await);
    }
    Ok(())
}

/// Kills what runs in a slot; the kubelet starts it again.
fn kill_container(book: &Book, slot: usize) -> Result<()> {
    let current = book
        .open()
        .current(&world::name(slot))
        .map(|(uid, _)| uid.clone());
    let process =
        current.and_then(|uid| disrupt::process("sleep", &format!("{}={uid}", world::UID)));
    match process {
        Some(process) => disrupt::kill_process(process),
        None => bail!("nothing runs in slot {slot}"),
    }
}

/// Deletes the pod in a slot; another one gets its name.
async fn delete(namespace: &Namespace, book: &Book, slot: usize) -> Result<()> {
    let name = world::name(slot);
    let uid = {
        let mut pages = book.open();
        let current = pages.current(&name).map(|(uid, _)| uid.clone());
        let life = current.as_ref().and_then(|uid| pages.lives.get_mut(uid));
        // Written down first: should the answer be lost, it may be gone all the same.
        if let Some(life) = life {
            life.deleted = true;
        }
        current
    };
    if uid.is_none() {
        bail!("nothing is in slot {slot}");
    }
    let only_it = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    timeout(LIMIT, namespace.pods().delete(&name, &only_it)).await??;
    Ok(())
}
