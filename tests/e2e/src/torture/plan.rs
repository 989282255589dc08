//! What is killed, and when, as a seed has it.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// What a blow is dealt to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The process of the agent of this node.
    Agent(usize),
    /// The process of this replica of the webhook, in the order of their names.
    Webhook(usize),
    /// The container in this slot, which the kubelet starts again in the same pod.
    Container(usize),
    /// The pod in this slot, which is made anew with the same name.
    Pod(usize),
    /// The API server, for so long.
    ApiServer(Duration),
}

/// A kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// How long after the last one was dealt.
    pub after: Duration,
    /// To whom.
    pub target: Target,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} ms: {:?}", self.after.as_millis(), self.target)
    }
}

/// All kills of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it comes from.
    pub seed: u64,
    /// The kills, in their order.
    pub blows: Vec<Blow>,
}

/// How many pods people reach into at a time.
pub const SLOTS: usize = 10;
/// How many pods nobody reaches into.
pub const BYSTANDERS: usize = 2;

impl Plan {
    /// The plan of this seed. The shorter of two plans with one seed is the beginning of the other.
    pub fn new(seed: u64, kills: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut blows = Vec::with_capacity(kills);
        while blows.len() < kills {
            // Each in its share, in any order, so that a short run has some of everything.
            let mut deck = [
                Target::Agent(random.usize(0..2)),
                Target::Agent(random.usize(0..2)),
                Target::Agent(random.usize(0..2)),
                Target::Webhook(random.usize(0..2)),
                Target::Webhook(random.usize(0..2)),
                Target::Container(random.usize(0..SLOTS)),
                Target::Pod(random.usize(0..SLOTS)),
                Target::ApiServer(Duration::from_millis(random.u64(0..2500))),
            ];
            random.shuffle(&mut deck);
            for target in deck {
                let after = Duration::from_millis(random.u64(0..1600));
                blows.push(Blow { after, target });
            }
        }
        blows.truncate(kills);
        Self { seed, blows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan() {
        let plan = Plan::new(7, 20);
        assert_eq!(plan, Plan::new(7, 20));
        assert_eq!(plan.blows[..8], Plan::new(7, 8).blows);
        assert_ne!(plan.blows, Plan::new(8, 20).blows);
        let api_servers = plan.blows[..16]
            .iter()
            .filter(|blow| matches!(blow.target, Target::ApiServer(_)));
        assert_eq!(api_servers.count(), 2);
    }
}
