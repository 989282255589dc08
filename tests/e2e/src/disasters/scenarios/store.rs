//! What befalls the store of an agent: deleted, damaged, without room, another's.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{self, Any, Fell, Rose},
    tools::{self, STORE, Stopped},
};
use crate::{NODES, disrupt, eventually};

/// As long as an agent goes on with a store that is no more, and with a file system that takes nothing.
const FOR: Duration = Duration::from_secs(10);
const NODE: &str = NODES[0];
/// Of so many bytes one is flipped.
const EVERY: usize = 64;
const CLOSED: &[Sign] = &[Any(&[
    Rose("agent", "curfew_agent_store_faults_total"),
    Fell("agent", "curfew_agent_store_open"),
    Rose("agent", "curfew_agent_store_rebuilt_total"),
])];
const REBUILT: &[Sign] = &[Any(&[
    Rose("agent", "curfew_agent_store_rebuilt_total"),
    Rose("agent", "curfew_agent_store_set_aside_records"),
])];

const fn scenario(
    name: &'static str,
    what: &'static str,
    told: &'static [Sign],
    strike: super::super::Strike,
) -> Scenario {
    Scenario {
        name,
        what,
        later: 40,
        told,
        strike,
        renews: true,
    }
}

/// Everything that befalls it.
pub(super) const ALL: &[Scenario] = &[
    scenario(
        "store-deleted",
        "the store deleted under a running agent, which is killed 10 s later",
        CLOSED,
        |scene| boxed(deleted(scene)),
    ),
    scenario(
        "store-flipped",
        "bytes of the store flipped, agent killed",
        REBUILT,
        |scene| boxed(spoilt(scene, flip)),
    ),
    scenario(
        "store-truncated",
        "the store cut to its half, agent killed",
        REBUILT,
        |scene| boxed(spoilt(scene, halve)),
    ),
    scenario(
        "store-full",
        "the file system of the store full for 10 s",
        CLOSED,
        |scene| boxed(full(scene)),
    ),
    scenario(
        "store-read-only",
        "the file system of the store read-only for 10 s",
        CLOSED,
        |scene| boxed(read_only(scene)),
    ),
    scenario(
        "store-foreign",
        "the store of node-1 copied to node-2, agent killed",
        &[],
        |scene| boxed(foreign(scene)),
    ),
];

/// Kills the agent of a node and waits until the next one is ready.
async fn kill_agent(scene: &Scene, node: &str) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let pid = tools::agent(cluster, node).await?;
    disrupt::kill_process(pid)?;
    tools::restarted(cluster, node, pid).await
}

async fn deleted(scene: &Scene) -> Result<()> {
    let store = tools::store(NODE)?;
    scene.touch().await?;
    fs::remove_dir_all(&store)?;
    sleep(FOR).await;
    kill_agent(scene, NODE).await?;
    scene.returned();
    Ok(())
}

fn empty(store: &Path) -> Result<()> {
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Does something to the file of the store while the agent does nothing, and kills it.
async fn spoilt(scene: &Scene, spoil: fn(&Path) -> Result<()>) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let store = tools::store(NODE)?;
    scene.touch().await?;
    scene.marked(FOR).await?;
    let pid = tools::agent(cluster, NODE).await?;
    let mut stopped = Stopped::default();
    stopped.stop(pid)?;
    let spoilt = spoil(&store.join("db"));
    disrupt::kill_process(pid)?;
    spoilt?;
    tools::restarted(cluster, NODE, pid).await?;
    scene.returned();
    Ok(())
}

fn flip(db: &Path) -> Result<()> {
    let mut file = fs::File::options().read(true).write(true).open(db)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    for byte in bytes.iter_mut().step_by(EVERY) {
        *byte ^= 0b0001_0000;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(file.write_all(&bytes)?)
}

/// Cuts it in the middle of what is written: the file is longer than that.
fn halve(db: &Path) -> Result<()> {
    let written = fs::read(db)?.iter().rposition(|byte| *byte != 0);
    let half = written.context("the store is empty")? / 2;
    let file = fs::File::options().write(true).open(db)?;
    Ok(file.set_len(half.try_into()?)?)
}

/// Gives the agent of the node a small file system of its own for its store.
async fn mount(scene: &Scene) -> Result<i32> {
    let cluster = &scene.namespace.cluster;
    let holder = cluster.machine.pid(NODE).context("the node does not run")?;
    tools::within(
        holder,
        &["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", STORE],
    )?;
    anew(scene).await?;
    Ok(holder)
}

/// Replaces the agent's pod, so that it sees what is mounted now.
async fn anew(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let old = disrupt::agent_of(cluster, NODE).await?;
    disrupt::replace(cluster, &old).await?;
    eventually(FOR * 6, "the node has a new agent", async || {
        let agent = disrupt::agent_of(cluster, NODE).await?;
        let ready = agent.metadata.uid != old.metadata.uid && crate::namespace::is_ready(&agent);
        Ok(ready.then_some(()))
    })
    .await
}

async fn full(scene: &Scene) -> Result<()> {
    let holder = mount(scene).await?;
    let room = format!("{STORE}/fill");
    // It ends with an error when there is no room left, which is what it is to do.
    let fill = format!("cat /dev/zero >{room} 2>/dev/null || true");
    tools::within(holder, &["sh", "-c", &fill])?;
    scene.touch().await?;
    sleep(FOR).await;
    tools::within(holder, &["rm", &room])?;
    scene.returned();
    Ok(())
}

async fn read_only(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let holder = mount(scene).await?;
    // Nobody may have a file open for writing when it becomes read-only.
    let pid = tools::agent(cluster, NODE).await?;
    disrupt::kill_process(pid)?;
    eventually(FOR, "it is read-only", async || {
        tools::within(holder, &["mount", "-o", "remount,ro", STORE]).map(Some)
    })
    .await?;
    eventually(FOR * 3, "the agent runs again", async || {
        Ok((tools::agent(cluster, NODE).await? != pid).then_some(()))
    })
    .await?;
    // The agent is not ready, so what the pods' deadlines are stands on the pods.
    scene.touch_by_marks().await?;
    sleep(FOR).await;
    tools::within(holder, &["mount", "-o", "remount,rw", STORE])?;
    tools::restarted(cluster, NODE, pid).await?;
    scene.returned();
    Ok(())
}

async fn foreign(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    let (from, to) = (tools::store(NODES[0])?, tools::store(NODES[1])?);
    scene.touch().await?;
    scene.marked(FOR).await?;
    let pid = tools::agent(cluster, NODES[1]).await?;
    let mut stopped = Stopped::default();
    stopped.stop(pid)?;
    let copied = tools::copy(&from, &to.with_extension("copied")).and_then(|()| {
        empty(&to)?;
        for entry in fs::read_dir(to.with_extension("copied"))? {
            let path = entry?.path();
            let name = path.file_name().context("no name")?;
            fs::rename(&path, to.join(name))?;
        }
        Ok(fs::remove_dir_all(to.with_extension("copied"))?)
    });
    disrupt::kill_process(pid)?;
    copied?;
    tools::restarted(cluster, NODES[1], pid).await?;
    scene.returned();
    Ok(())
}
