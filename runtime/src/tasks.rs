//! The tasks that a process is made of, and its end: what happens on SIGTERM.
//!
//! Every task here is critical: a process that lost one would look alive and do half its work. So when
//! one ends before it was told to, or panics, the whole process ends with an error, and the kubelet
//! starts it anew.

use std::{future::Future, task::Poll, time::Duration};

use anyhow::{Context, bail};
use futures::{Stream, StreamExt, stream};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The tasks of a process.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is cancelled when the process is to stop: each task then finishes what it has in hand and ends.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a critical task.
    pub fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Starts a critical task that has nothing to finish: it is dropped when `stop` is cancelled.
    pub fn spawn_until<F>(&mut self, stop: &CancellationToken, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = stop.clone();
        let until = async move { stop.run_until_cancelled(task).await.unwrap_or(Ok(())) };
        self.spawn(name, until);
    }

    /// Runs until SIGTERM or SIGINT, or until a task fails, and then gives the tasks `grace` to end.
    /// A second signal ends the process at once.
    ///
    /// # Errors
    /// When a task ended by itself, failed or panicked, or had not ended after `grace`.
    pub async fn run(self, grace: Duration) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let signals = stream::poll_fn(move |cx| match terminate.poll_recv(cx) {
            Poll::Pending => interrupt.poll_recv(cx),
            ready => ready,
        });
        self.run_until(signals, grace).await
    }

    async fn run_until(
        mut self,
        mut signals: impl Stream<Item = ()> + Unpin,
        grace: Duration,
    ) -> anyhow::Result<()> {
        tokio::select! {
            _ = signals.next() => tracing::info!("stopping"),
            ended = self.running.join_next() => {
                let failure = match ended {
                    None => anyhow::anyhow!("there is no task to run"),
                    Some(ended) => match outcome(ended) {
                        Ok(name) => anyhow::anyhow!("task {name} ended unexpectedly"),
                        Err(error) => error,
                    },
                };
                // The others may still have something to save.
                self.stop.cancel();
                let _ = tokio::time::timeout(grace, self.running.join_all()).await;
                return Err(failure);
            }
        }
        self.stop.cancel();
        let drained = async {
            while let Some(ended) = self.running.join_next().await {
                outcome(ended)?;
            }
            Ok(())
        };
        tokio::select! {
            drained = tokio::time::timeout(grace, drained) => match drained {
                Ok(result) => result,
                Err(_) => bail!("some tasks had not ended after {grace:?}"),
            },
            _ = signals.next() => bail!("aborted by a second signal"),
        }
    }
}

fn outcome(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
) -> anyhow::Result<&'static str> {
    let (name, result) = ended.context("a task panicked")?;
    result.with_context(|| format!("task {name} failed"))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    /// Runs them with so many signals at once.
    async fn run(tasks: Tasks, signals: usize) -> anyhow::Result<()> {
        let signals = stream::repeat(()).take(signals).chain(stream::pending());
        tasks.run_until(signals, GRACE).await
    }

    fn waiting(tasks: &mut Tasks) {
        let stop = tasks.stop();
        tasks.spawn("waits", async move {
            stop.cancelled().await;
            Ok(())
        });
    }

    #[tokio::test]
    async fn ends_when_it_is_told_to() {
        let mut tasks = Tasks::new();
        waiting(&mut tasks);
        run(tasks, 1).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_ends_all() {
        let mut tasks = Tasks::new();
        waiting(&mut tasks);
        tasks.spawn("quits", async { Ok(()) });
        let error = run(tasks, 0).await.unwrap_err();
        assert_eq!(error.to_string(), "task quits ended unexpectedly");

        let mut tasks = Tasks::new();
        waiting(&mut tasks);
        tasks.spawn("panics", async { panic!("oh") });
        let error = run(tasks, 0).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }

    /// Sends this process a SIGTERM.
    fn terminate() {
        let pid = std::process::id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status();
        assert!(kill.unwrap().success());
    }

    #[tokio::test]
    async fn a_second_sigterm_ends_the_process_at_once() {
        let mut tasks = Tasks::new();
        let stop = tasks.stop();
        tasks.spawn("hangs", std::future::pending());
        let running = tokio::spawn(tasks.run(Duration::from_secs(3600)));
        // It listens for signals once it was polled.
        tokio::task::yield_now().await;
        terminate();
        stop.cancelled().await;
        assert!(!running.is_finished(), "it waits for its task");
        terminate();
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "aborted by a second signal");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_no_longer_than_the_grace() {
        let mut tasks = Tasks::new();
        tasks.spawn("hangs", std::future::pending());
        let error = run(tasks, 1).await.unwrap_err();
        assert!(error.to_string().contains("5s"), "{error}");
    }
}
