//! How an agent gets on with many pods whose time ends in the same second.
//!
//! The witness is the API server's audit log: what it was asked, when, and when it had answered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    TestCluster,
    agents::{ACCOUNT, sample, total},
    audit, eventually,
    evictions::{Answer, Mark},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    agent::Setup,
    node::{PretendNode, within_node},
    report::{Report, signed_ms},
    restart::notices,
    say,
};

const FIRST: SignedDuration = SignedDuration::from_millis(100);
const ALL: SignedDuration = SignedDuration::from_secs(15);
const CREATED: u16 = 201;
const TOO_MANY: u16 = 429;
/// What is later than this is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The agent's default.
const AT_ONCE: usize = 5;

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods
    #[arg(long, default_value_t = 250)]
    pods: usize,
    /// How many seconds from the interactions to the deadline: marks and Events come first
    #[arg(long, default_value_t = 45)]
    ttl: u64,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    within_node(cluster, "due", async |node| {
        measure(cluster, settings, node).await
    })
    .await
}

async fn measure(cluster: &TestCluster, settings: &Settings, node: &PretendNode) -> Result<Report> {
    let pods = node.run_pods(settings.pods).await?;
    let setup = Setup::new(cluster, node).await?;
    let agent = setup.start().await?;
    let time = Timestamp::from_second(Timestamp::now().as_second())?;
    let ttl = Duration::from_secs(settings.ttl);
    let deadline = time.checked_add(ttl)?;
    let evictions = Mark::now(cluster.machine.audit_log())?;
    let requests = audit::now(cluster.machine.audit_log())?;
    agent.tell(notices(node, &pods, time, ttl)).await?;
    let calm = ttl.saturating_sub(Duration::from_secs(5));
    node.marked(pods.len(), calm)
        .await
        .context("the pods are not marked in time; --ttl gives more of it")?;
    let left = deadline.duration_since(Timestamp::now());
    ensure!(
        left > SignedDuration::from_secs(2),
        "the pods are marked too late"
    );
    say(&format!("all are due at {deadline}"));
    tokio::time::sleep(left.unsigned_abs()).await;

    let accepted = |answers: &[Answer]| {
        let accepted = answers.iter().filter(|answer| answer.code == CREATED);
        accepted.count()
    };
    let waited = eventually(PATIENCE, "all evictions are accepted", async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answers = evictions.answers(&node.namespace.name)?;
        Ok((accepted(&answers) >= pods.len()).then_some(()))
    });
    // Those that are not accepted are counted below.
    drop(waited.await);
    let answers = evictions.answers(&node.namespace.name)?;
    let throttled = requests.since(ACCOUNT)?;
    let throttled = throttled
        .iter()
        .filter(|request| request.response_status.code == TOO_MANY)
        .count();
    let metrics = agent.metrics().await?;
    agent.stop().await?;

    let mut report = Report::default();
    report.figure("pods due at once", pods.len());
    report.figure("marked before the deadline", signed_ms(left.as_secs_f64()));
    report.target(
        "accepted evictions",
        accepted(&answers),
        format!("{}, once each", pods.len()),
        once_each(&answers, pods.len()),
    );
    let first = answers.iter().map(|answer| answer.eviction.asked).min();
    let first = first.context("nobody asked for an eviction")?;
    let first = first.duration_since(deadline);
    report.target(
        "first request after the deadline",
        signed_ms(first.as_secs_f64()),
        "0 to 100 ms",
        !first.is_negative() && first <= FIRST,
    );
    let last = answers.iter().map(|answer| answer.answered).max();
    let last = last.unwrap_or(deadline).duration_since(deadline);
    report.target(
        "last answer after the deadline",
        signed_ms(last.as_secs_f64()),
        "at most 15 s",
        last <= ALL,
    );
    let open = most_open(&answers);
    report.target(
        "requests open at once",
        open,
        format!("at most {AT_ONCE}"),
        open <= AT_ONCE,
    );
    report.target("requests throttled", throttled, "none", throttled == 0);
    let evicted = "curfew_agent_evictions_total{result=\"accepted\"}";
    report.figure(
        "evictions by the agent's metrics",
        format!(
            "{} accepted of {} answers; {} Events not posted",
            sample(&metrics, evicted).unwrap_or_default(),
            total(&metrics, "curfew_agent_evictions_total"),
            total(&metrics, "curfew_agent_events_dropped_total"),
        ),
    );
    Ok(report)
}

/// Whether so many pods were evicted, each with one request.
fn once_each(answers: &[Answer], count: usize) -> bool {
    let mut pods: Vec<_> = answers.iter().map(|answer| &answer.eviction.pod).collect();
    pods.sort_unstable();
    pods.dedup();
    let accepted = answers.iter().all(|answer| answer.code == CREATED);
    accepted && answers.len() == count && pods.len() == count
}

/// How many of the requests were open at the same time, at the most.
fn most_open(answers: &[Answer]) -> usize {
    // At equal times an end comes before a beginning: `false` is less than `true`.
    let mut changes: Vec<_> = answers
        .iter()
        .flat_map(|answer| [(answer.eviction.asked, true), (answer.answered, false)])
        .collect();
    changes.sort_unstable();
    let (mut open, mut most) = (0, 0);
    for (_, begins) in changes {
        if begins {
            open += 1;
            most = most.max(open);
        } else {
            open -= 1;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use curfew_e2e::evictions::Eviction;

    use super::*;

    fn answer(pod: &str, from: i64, to: i64, code: u16) -> Answer {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        Answer {
            eviction: Eviction {
                pod: pod.to_owned(),
                asked: at(from),
                user: ACCOUNT.to_owned(),
            },
            answered: at(to),
            code,
        }
    }

    #[test]
    fn what_is_open_at_a_time_is_counted() {
        let three = [
            answer("a", 0, 20, CREATED),
            answer("b", 10, 30, CREATED),
            answer("c", 20, 40, CREATED),
        ];
        assert_eq!(most_open(&three), 2);
        assert_eq!(most_open(&[]), 0);
        let nested = [answer("a", 0, 90, 201), answer("b", 10, 30, 429)];
        assert_eq!(most_open(&nested), 2);
    }

    #[test]
    fn a_second_request_is_seen() {
        let a = answer("a", 0, 20, CREATED);
        let b = answer("b", 0, 20, CREATED);
        assert!(once_each(&[a.clone(), b.clone()], 2));
        assert!(!once_each(&[a.clone(), a.clone()], 2));
        assert!(!once_each(&[a.clone(), b.clone(), a.clone()], 2));
        assert!(!once_each(&[a, answer("b", 0, 20, TOO_MANY)], 2));
    }
}
