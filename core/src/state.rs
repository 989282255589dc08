//! The states of a pod that somebody interacted with: one word for each, which the agents' schedule,
//! page and metrics and `kubectl pi` have in common.

use std::fmt;

use serde::Serialize;

/// Where a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No timer runs.
    Recorded,
    /// It is one of those that are never evicted.
    Protected,
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
    /// All its containers ended by themselves.
    Finished,
    /// The agent's watch has not shown it yet.
    Unseen,
}

impl State {
    /// All of them, in the order in which they are explained.
    pub const ALL: [State; 12] = [
        State::Scheduled,
        State::Held,
        State::Due,
        State::Blocked,
        State::Stuck,
        State::Retrying,
        State::WouldGo,
        State::Terminating,
        State::Recorded,
        State::Protected,
        State::Finished,
        State::Unseen,
    ];

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
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Recorded => "recorded",
            State::Protected => "protected",
            State::Scheduled => "scheduled",
            State::Held => "held",
            State::Due => "due",
            State::Blocked => "blocked",
            State::Stuck => "stuck",
            State::Retrying => "retrying",
            State::WouldGo => "would-go",
            State::Terminating => "terminating",
            State::Finished => "finished",
            State::Unseen => "unseen",
        }
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            State::Recorded => "people touched it, and no timer runs",
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_word_of_its_own() {
        let mut words = State::ALL.map(State::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), State::ALL.len());
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
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
