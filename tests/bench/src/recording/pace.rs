//! Sends execs to the two namespaces, at a rate or in bursts, and tells how long the answers took.

use std::time::{Duration, Instant as Clock};

use anyhow::Result;
use curfew_e2e::knock::knock;
use kube::Client;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

/// The first requests open connections; they are made and not counted.
const WARM_UP: Duration = Duration::from_secs(3);
/// Until what a burst has set off is over.
const BETWEEN: Duration = Duration::from_secs(2);

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Curfew,
    AtOnce,
}

const SIDES: [Side; 2] = [Side::Curfew, Side::AtOnce];

/// How long the answers took.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) recorded: Vec<Duration>,
    pub(super) at_once: Vec<Duration>,
}

/// Where the execs go: pods of two namespaces, with the same names.
#[derive(Clone)]
pub(super) struct Pods<'a> {
    pub(super) client: &'a Client,
    pub(super) curfewed: &'a str,
    pub(super) exempt: &'a str,
    /// How many there are in each.
    pub(super) count: u32,
}

impl Pods<'_> {
    /// One exec. Each command is another, because the same within two seconds would be one interaction.
    fn ask(
        &self,
        side: Side,
        at: u32,
        word: String,
    ) -> impl Future<Output = Result<Duration>> + Send + use<> {
        let namespace = match side {
            Side::Curfew => self.curfewed,
            Side::AtOnce => self.exempt,
        };
        let (client, namespace) = (self.client.clone(), namespace.to_owned());
        let pod = format!("pod-{}", at % self.count);
        async move { knock(&client, &namespace, &pod, &word).await }
    }
}

/// How many execs go to each of the two, those of the beginning included.
pub(super) fn sent(rate: u32, seconds: u32) -> u32 {
    rate * (WARM_UP.as_secs() as u32 + seconds)
}

/// Sends so many a second to each, at random moments of the same slots of time.
pub(super) async fn steadily(pods: &Pods<'_>, rate: u32, seconds: u32) -> Result<Answers> {
    let slot = Duration::from_secs(1) / rate;
    let start = Clock::now();
    let mut asked = JoinSet::new();
    for at in 0..sent(rate, seconds) {
        let begin = start + slot * at;
        for (offset, side) in moments(slot) {
            sleep_until((begin + offset).into()).await;
            let counts = slot * at >= WARM_UP;
            let answer = pods.ask(side, at, format!("{rate}-{at}"));
            asked.spawn(async move { anyhow::Ok((side, counts, answer.await?)) });
        }
    }
    let mut answers = Answers::default();
    while let Some(answered) = asked.join_next().await {
        let (side, counts, took) = answered??;
        if counts {
            answers.add(side, took);
        }
    }
    Ok(answers)
}

/// Sends so many at the same moment to one, and then to the other, again and again.
pub(super) async fn burst(pods: &Pods<'_>, size: u32, times: u32) -> Result<Answers> {
    let mut answers = Answers::default();
    for round in 0..times {
        for side in SIDES {
            sleep(BETWEEN).await;
            let mut asked = JoinSet::new();
            for at in 0..size {
                asked.spawn(pods.ask(side, at, format!("burst-{size}-{round}-{at}")));
            }
            while let Some(answered) = asked.join_next().await {
                answers.add(side, answered??);
            }
        }
    }
    Ok(answers)
}

impl Answers {
    fn add(&mut self, side: Side, took: Duration) {
        match side {
            Side::Curfew => self.recorded.push(took),
            Side::AtOnce => self.at_once.push(took),
        }
    }
}

/// When, within a slot of time, each of the two is asked.
fn moments(slot: Duration) -> [(Duration, Side); 2] {
    let mut moments = SIDES.map(|side| (slot.mul_f64(fastrand::f64()), side));
    moments.sort_unstable();
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_asked_once_in_each_slot() {
        let slot = Duration::from_millis(50);
        let mut first = [0, 0];
        for _ in 0..200 {
            let [(early, one), (late, other)] = moments(slot);
            assert!(early <= late && late < slot);
            assert_ne!(one, other);
            first[one as usize] += 1;
        }
        assert!(first[0] > 50 && first[1] > 50, "{first:?}");
    }
}
