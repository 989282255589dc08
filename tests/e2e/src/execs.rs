//! Somebody who execs without a pause while something is changed.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{NODES, Namespace, Workload};

/// As long as one pod is used: far shorter than its time to live.
const TURN: Duration = Duration::from_secs(8);

/// Starts the pods that are used one after the other: enough for this time.
pub async fn populate(namespace: &Namespace, longest: Duration) -> Result<usize> {
    let count = (longest.as_secs() / TURN.as_secs()) as usize;
    let pods: Vec<_> = (0..count)
        .map(|at| Workload::new(&name(at)).on(NODES[at % NODES.len()]))
        .collect();
    namespace.run_pods(&pods).await?;
    Ok(count)
}

/// Carries out a change while somebody execs into so many pods. Returns what came of the change, and how many execs
/// there were if none failed.
pub async fn during<T>(
    namespace: &Namespace,
    pods: usize,
    change: impl Future<Output = Result<T>>,
) -> (Result<T>, Result<usize>) {
    let over = AtomicBool::new(false);
    tokio::join!(
        async {
            let changed = change.await;
            over.store(true, Ordering::Relaxed);
            changed
        },
        keep_executing(namespace, pods, &over),
    )
}

fn name(at: usize) -> String {
    format!("pod-{at}")
}

/// Each exec that fails ends it.
async fn keep_executing(namespace: &Namespace, pods: usize, over: &AtomicBool) -> Result<usize> {
    let began = Instant::now();
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let turn = (began.elapsed().as_secs() / TURN.as_secs()) as usize;
        ensure!(turn < pods, "it takes longer than there are pods for");
        let said = namespace
            .kubectl
            .run(&["exec", &name(turn), "--", "true"])
            .await?;
        ensure!(
            said.code == Some(0),
            "after {count} execs, {:?} in: {said:?}",
            began.elapsed()
        );
        count += 1;
    }
    Ok(count)
}
