//! What is looked at in one interaction.

use jiff::Timestamp;

use super::{command::CommandReading, hours::HourOfWeek};
use crate::{
    actor::Actor,
    interaction::{Kind, MAX_USER},
    left::Leftover,
    text::cut,
};

/// The time in which [`SeenInteraction::rate`] is counted, in seconds.
pub const RATE_WINDOW: u32 = 600;
/// The most groups of a user that are looked at.
pub const MAX_GROUPS: usize = 32;
/// The longest name of a group or a container that is kept, in bytes.
const MAX_NAME: usize = 253;

/// An interaction as it was seen, before anything is taken from it.
#[derive(Debug, Clone, Copy)]
pub struct SeenInteraction<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [String],
    /// How.
    pub kind: Kind,
    /// The container; none for a port-forward.
    pub container: Option<&'a str>,
    /// The command; empty where there is none.
    pub argv: &'a [String],
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether the user's standard input reaches it.
    pub stdin: bool,
    /// When.
    pub time: Timestamp,
    /// How many interactions of this user with this workload there were within the last [`RATE_WINDOW`], this one
    /// included.
    pub rate: u32,
}

/// What is looked at in one interaction. Its size is bounded, and it has no word of an argument in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The name of the user; a long one is cut, and the number of bytes that are missing stands behind.
    pub user: String,
    /// What kind of actor that is.
    pub actor: Actor,
    /// The user's groups, sorted; at most [`MAX_GROUPS`], those of Kubernetes first.
    pub groups: Vec<String>,
    /// How.
    pub kind: Kind,
    /// The container; none for a port-forward, and none for a debug container, whose name is new each time.
    pub container: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether the user's standard input reaches it.
    pub stdin: bool,
    /// Which programs it runs.
    pub command: CommandReading,
    /// In which hour of the week, UTC.
    pub hour: HourOfWeek,
    /// How many interactions of this user with this workload there were within the last [`RATE_WINDOW`].
    pub rate: u32,
    /// What its session left behind; nothing as long as that is not known.
    pub left: Vec<Leftover>,
}

impl Features {
    /// The features of an interaction.
    pub fn of(seen: &SeenInteraction<'_>) -> Self {
        let mut groups: Vec<_> = seen
            .groups
            .iter()
            .map(|group| bounded(group, MAX_NAME))
            .collect();
        // Of many groups those that give rights over the cluster must not get lost.
        groups.sort_by(|a, b| (!a.starts_with("system:"), a).cmp(&(!b.starts_with("system:"), b)));
        groups.dedup();
        groups.truncate(MAX_GROUPS);
        let container = seen.container.filter(|_| seen.kind != Kind::Debug);
        Self {
            user: bounded(seen.user, MAX_USER),
            actor: Actor::of(seen.user),
            groups,
            kind: seen.kind,
            container: container.map(|container| bounded(container, MAX_NAME)),
            tty: seen.tty,
            stdin: seen.stdin,
            command: CommandReading::of(seen.argv),
            hour: HourOfWeek::of(seen.time),
            rate: seen.rate.max(1),
            left: Vec::new(),
        }
    }

    /// The same, now that it is known what its session left behind.
    #[must_use]
    pub fn leaving(self, left: Vec<Leftover>) -> Self {
        Self { left, ..self }
    }
}

/// The name, or its beginning and how long it was: two long names of different lengths stay different.
fn bounded(name: &str, max: usize) -> String {
    match name.len() <= max {
        true => name.to_owned(),
        false => format!("{}{}", cut(name, max - 24), name.len()),
    }
}
