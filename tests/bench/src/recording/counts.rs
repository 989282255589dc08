//! What all concerned have counted and measured of the admissions: from this it is seen that all were recorded, and
//! where the time goes.
//!
//! The webhook has histograms of its whole answer and of the notice to the agent, the agent one of its writes to disk.
//! For reading the pod there is none, so that time is the API server's own, from its audit log; what the webhook
//! itself takes for its decision is what is left.

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    TestCluster,
    agents::{sample, total},
    audit, disrupt,
};

use crate::{
    api_server::WEBHOOK_ACCOUNT,
    instant::{self, Instant},
    quiet,
    report::{Report, signed_ms},
};

/// The name by which the API server measures Curfew.
const CURFEW: &str = "interaction.curfew.dev";
const RECORDED: &str = "curfew_webhook_recorded_total{where=\"agent\"}";
const DURATION: &str = "apiserver_admission_webhook_admission_duration_seconds";
const ADMISSION: &str = "curfew_webhook_admission_duration_seconds";
const FORWARD: &str = "curfew_webhook_forward_duration_seconds";
const SYNC: &str = "curfew_agent_store_write_seconds";

/// How often something was done, and for how long in all.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Spent {
    seconds: f64,
    requests: f64,
}

impl Spent {
    /// What a histogram has, all its series together.
    fn of(metrics: &str, histogram: &str) -> Self {
        Self {
            seconds: total(metrics, &format!("{histogram}_sum")),
            requests: total(metrics, &format!("{histogram}_count")),
        }
    }

    /// What the API server has waited for a webhook.
    fn waited(metrics: &str, webhook: &str) -> Self {
        let label = format!("name=\"{webhook}\"");
        let of: Vec<_> = metrics
            .lines()
            .filter(|line| line.contains(&label))
            .collect();
        Self::of(&of.join("\n"), DURATION)
    }

    fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            requests: self.requests - before.requests,
        }
    }

    pub(super) fn and(self, more: Self) -> Self {
        Self {
            seconds: self.seconds + more.seconds,
            requests: self.requests + more.requests,
        }
    }

    /// Seconds a request.
    pub(super) fn mean(self) -> Result<f64> {
        ensure!(self.requests > 0.0, "nothing was counted");
        Ok(self.seconds / self.requests)
    }
}

/// What all concerned have counted so far.
#[derive(Debug)]
pub(super) struct Counts {
    recorded: u64,
    answered: u64,
    steps: Steps,
    log: audit::Mark,
}

/// What took part in an admission, and for how long.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Steps {
    /// What the API server has waited for Curfew, and for the other webhook.
    pub(super) curfew: Spent,
    pub(super) other: Spent,
    /// The webhook's answers.
    webhook: Spent,
    /// Reading the pod, as the API server has it.
    read: Spent,
    /// The notices, from the webhook's side.
    forward: Spent,
    /// The agents' writes.
    sync: Spent,
}

impl Counts {
    pub(super) async fn read(cluster: &TestCluster, at_once: &Instant) -> Result<Self> {
        let mut recorded = 0;
        let mut steps = Steps::default();
        for pod in cluster.pods_of("webhook").await? {
            let metrics = disrupt::metrics(&pod).await?;
            recorded += sample(&metrics, RECORDED).context("no count of what was recorded")? as u64;
            steps.webhook = steps.webhook.and(Spent::of(&metrics, ADMISSION));
            steps.forward = steps.forward.and(Spent::of(&metrics, FORWARD));
        }
        for pod in cluster.pods_of("agent").await? {
            let metrics = disrupt::metrics(&pod).await?;
            steps.sync = steps.sync.and(Spent::of(&metrics, SYNC));
        }
        let metrics = quiet::metrics(cluster).await?;
        steps.curfew = Spent::waited(&metrics, CURFEW);
        steps.other = Spent::waited(&metrics, instant::NAME);
        Ok(Self {
            recorded,
            answered: at_once.answered(),
            steps,
            log: audit::now(cluster.machine.audit_log())?,
        })
    }

    /// What came to it since, of so many execs each to pods of this namespace.
    ///
    /// # Errors
    /// When not all of them were recorded, or some of the others were: then no figure means anything.
    pub(super) fn since(&self, before: &Self, sent: u64, namespace: &str) -> Result<Steps> {
        let seen = (
            self.recorded - before.recorded,
            self.answered - before.answered,
        );
        ensure!(
            seen == (sent, sent),
            "of {sent} execs each, the agents have recorded {} and the other webhook was asked {}",
            seen.0,
            seen.1
        );
        let mut steps = self.steps.since(before.steps);
        let path = format!("/namespaces/{namespace}/pods/");
        for request in before.log.since(WEBHOOK_ACCOUNT)? {
            let took = request.took();
            if let Some(took) =
                took.filter(|_| request.verb == "get" && request.uri.contains(&path))
            {
                steps.read = steps.read.and(Spent {
                    seconds: took.as_secs_f64(),
                    requests: 1.0,
                });
            }
        }
        Ok(steps)
    }
}

impl Steps {
    fn since(self, before: Self) -> Self {
        self.with(before, Spent::since)
    }

    pub(super) fn and(self, more: Self) -> Self {
        self.with(more, Spent::and)
    }

    fn with(self, other: Self, each: impl Fn(Spent, Spent) -> Spent) -> Self {
        Self {
            curfew: each(self.curfew, other.curfew),
            other: each(self.other, other.other),
            webhook: each(self.webhook, other.webhook),
            read: each(self.read, other.read),
            forward: each(self.forward, other.forward),
            sync: each(self.sync, other.sync),
        }
    }

    /// Tells the means, from the outside to the inside.
    pub(super) fn report(&self, report: &mut Report, name: &impl Fn(&str) -> String) -> Result<()> {
        let (curfew, other) = (self.curfew.mean()?, self.other.mean()?);
        let figure = format!("{}, at once {}", signed_ms(curfew), signed_ms(other));
        report.figure(&name("the API server's mean of the webhook"), figure);
        let (webhook, forward) = (self.webhook.mean()?, self.forward.mean()?);
        let (read, sync) = (self.read.mean()?, self.sync.mean()?);
        let rest = webhook - forward - read;
        let parts = [
            ("the way to the webhook", curfew - webhook),
            ("reading the pod", read),
            ("deciding, and the way of the read", rest),
            ("the way to the agent, and waiting", forward - sync),
            ("a write to disk", sync),
        ];
        let parts = parts.map(|(part, mean)| format!("{part} {}", signed_ms(mean)));
        report.figure(&name("of which, on average"), parts.join("; "));
        let batch = self.forward.requests / self.sync.requests;
        report.figure(
            &name("interactions that share a write"),
            format!("{batch:.1}"),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_one_webhook() {
        let metrics = |sum: f64, count: u32| {
            format!(
                "{DURATION}_sum{{name=\"{CURFEW}\",operation=\"CONNECT\"}} {sum}\n\
                 {DURATION}_count{{name=\"{CURFEW}\",operation=\"CONNECT\"}} {count}\n\
                 {DURATION}_sum{{name=\"else\",operation=\"CONNECT\"}} {count}\n"
            )
        };
        let before = Spent::waited(&metrics(1.0, 10), CURFEW);
        let after = Spent::waited(&metrics(1.5, 60), CURFEW);
        assert!((after.since(before).mean().unwrap() - 0.01).abs() < 1e-9);
        assert!(after.since(after).mean().is_err());
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        let spent = Spent {
            seconds: 1.0,
            requests: 10.0,
        };
        let mut steps = Steps {
            curfew: spent,
            other: spent,
            webhook: spent,
            read: spent,
            forward: spent,
            sync: spent,
        };
        let name = |what: &str| what.to_owned();
        steps.report(&mut Report::default(), &name).unwrap();
        steps.read = Spent::default();
        assert!(steps.report(&mut Report::default(), &name).is_err());
    }
}
