//! The states of a pod that somebody interacted with: one word for each, which the agents' schedule,
//! page and metrics and `kubectl pi` have in common.

use serde::Serialize;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// Where a pod stands, in the order in which the states are explained.
#[derive(Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its eviction lies ahead.
    Scheduled,
    /// The same, and later than its deadline, because somebody has it held.
    Held,
    /// Its time has come; the request waits for its turn or its answer.
    Due,
    /// A disruption budget refuses its eviction.
    Blocked,
    /// The same, for longer than `--blocked-after`.
    Stuck,
    /// Its eviction was refused for another reason and will be asked for again.
    Retrying,
    /// It would have been evicted, by the API server's answer to a dry run.
    WouldGo,
    /// It is being shut down.
    Terminating,
    /// No timer runs.
    Recorded,
    /// The same, because its time had come, and nothing in it had changed.
    Released,
    /// It is one of those that are never evicted.
    Protected,
    /// All its containers ended by themselves.
    Finished,
    /// The agent's watch has not shown it yet.
    Unseen,
}

impl State {
    /// All of them.
    pub const ALL: &[State] = Self::VARIANTS;

    /// Those in which a pod is still to be evicted.
    pub const PENDING: [State; 6] = [
        State::Scheduled,
        State::Held,
        State::Due,
        State::Blocked,
        State::Stuck,
        State::Retrying,
    ];

    /// Whether the pod is still to be evicted.
    pub fn is_pending(self) -> bool {
        Self::PENDING.contains(&self)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            State::Recorded => "people touched it, and no timer runs",
            State::Released => "its deadline has passed, nothing in it had changed, and it stays",
            State::Protected => "it is never evicted",
            State::Scheduled => "its deadline is in the future",
            State::Held => "someone keeps it beyond its deadline",
            State::Due => "its deadline has passed; it waits for its turn or for the answer",
            State::Blocked => "a PodDisruptionBudget does not allow its eviction",
            State::Stuck => "blocked for so long that probably nobody is working on it",
            State::Retrying => "its eviction was refused for another reason and is retried",
            State::WouldGo => "a dry run: the API server would have evicted it",
            State::Terminating => "it is being deleted",
            State::Finished => "all its containers have ended by themselves",
            State::Unseen => "the agent's watch has not shown it yet",
        }
    }

    /// The action of an Event that tells of a refused eviction. No pod carries the state, so this is
    /// where others learn it from.
    pub const fn action(self) -> &'static str {
        match self {
            State::Stuck => "EvictStuck",
            State::Retrying => "EvictRetrying",
            _ => "Evict",
        }
    }

    /// The state of a pod whose eviction was refused, as an Event of this action tells it. Agents of
    /// earlier releases know only one action.
    pub fn of_action(action: &str) -> Self {
        [State::Stuck, State::Retrying]
            .into_iter()
            .find(|state| state.action() == action)
            .unwrap_or(State::Blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_word_of_its_own() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
    }

    #[test]
    fn the_action_of_an_event_tells_the_state() {
        for state in [State::Blocked, State::Stuck, State::Retrying] {
            assert_eq!(State::of_action(state.action()), state);
        }
        assert_eq!(State::of_action("Evict"), State::Blocked);
    }
}
