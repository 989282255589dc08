//! The terms on which an interaction is recorded: what follows from it, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::interaction::Kind;

/// What follows from an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The pod is evicted when its time to live ends.
    Evict,
    /// The interaction is recorded and shown; no timer starts.
    Record,
}

impl Action {
    /// The name of the action in policies and in labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Evict => "Evict",
            Action::Record => "Record",
        }
    }
}

/// Why an interaction of a kind that would start a timer is only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exemption {
    /// The command is one of those that change nothing.
    Harmless,
    /// The pod is one of those that are never evicted.
    Protected,
    /// Nothing would put another pod in its place. It ends when the pod gets a controller: the action is
    /// [`Action::Evict`] then.
    Unmanaged,
}

impl Exemption {
    /// Its name, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Exemption::Harmless => "harmless",
            Exemption::Protected => "protected",
            Exemption::Unmanaged => "unmanaged",
        }
    }
}

/// What the webhook decided for one interaction. It travels with the interaction and stands on the
/// pod, so that a policy changed later does not move a deadline that people were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// What follows from the interaction.
    pub action: Action,
    /// How long the pod may live on, in whole seconds; without meaning under [`Action::Record`].
    #[serde(with = "crate::duration")]
    pub ttl: Duration,
    /// By how much people may extend that at the most, in whole seconds.
    #[serde(with = "crate::duration")]
    pub max_extension: Duration,
    /// How long beyond its deadline people may keep the pod at the most, in whole seconds.
    #[serde(with = "crate::duration", default)]
    pub max_hold: Duration,
    /// Why it is only recorded, where that is not simply what is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exemption: Option<Exemption>,
}

/// The terms that hold where no policy says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultTerms {
    /// The time to live after an interaction.
    pub ttl: Duration,
    /// The longest extension.
    pub max_extension: Duration,
    /// The longest hold beyond the deadline.
    pub max_hold: Duration,
}

impl DefaultTerms {
    /// The terms of an interaction of this kind: all start the timer but port-forward, which leaves
    /// the container as it was.
    pub fn of(self, kind: Kind) -> Terms {
        Terms {
            action: match kind {
                Kind::Exec | Kind::Attach | Kind::Debug => Action::Evict,
                Kind::Portforward => Action::Record,
            },
            ttl: self.ttl,
            max_extension: self.max_extension,
            max_hold: self.max_hold,
            exemption: None,
        }
    }
}
