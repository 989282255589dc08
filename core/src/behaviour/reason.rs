//! Reasons in words. They stand in Events, logs, denials and the output of the plugin.

use std::{fmt, hash::BuildHasher};

use super::{
    command::ProgramClass,
    facet::{By, Facet},
    features::Features,
    index::ProfileIndex,
};
use crate::{
    left::LeftHow,
    text::{cut, visible},
};

/// The most bytes of a name in a reason.
const MAX_SHOWN: usize = 80;

/// What is new about an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Novelty {
    /// The user.
    User,
    /// A group of the user.
    Group,
    /// The kind of the interaction.
    Kind,
    /// That there is a terminal, or standard input.
    Streams,
    /// The container.
    Container,
    /// A program.
    Program,
    /// The arguments of a program.
    Arguments,
    /// Where the output of a program goes.
    Pipe,
    /// The hour.
    Hour,
    /// How often.
    Rate,
    /// That some of the command cannot be read.
    Unread,
    /// What the session left behind.
    Left,
}

impl Novelty {
    /// Every one.
    pub const ALL: [Novelty; 12] = [
        Novelty::User,
        Novelty::Group,
        Novelty::Kind,
        Novelty::Streams,
        Novelty::Container,
        Novelty::Program,
        Novelty::Arguments,
        Novelty::Pipe,
        Novelty::Hour,
        Novelty::Rate,
        Novelty::Unread,
        Novelty::Left,
    ];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Novelty::User => "user",
            Novelty::Group => "group",
            Novelty::Kind => "kind",
            Novelty::Streams => "streams",
            Novelty::Container => "container",
            Novelty::Program => "program",
            Novelty::Arguments => "arguments",
            Novelty::Pipe => "pipe",
            Novelty::Hour => "hour",
            Novelty::Rate => "rate",
            Novelty::Unread => "unread",
            Novelty::Left => "left",
        }
    }
}

/// How much a reason says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// People do such a thing now and then. Several at once are irregular.
    Weak,
    /// It is irregular on its own.
    Strong,
}

/// Why an interaction is irregular. The text has at most 420 bytes, and nothing in it can control a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What is new.
    pub novelty: Novelty,
    /// How much that says.
    pub weight: Weight,
    /// What it is about: reasons about the same count once.
    subject: String,
    text: String,
}

impl Reason {
    pub(super) fn new<S: BuildHasher>(
        facet: &Facet<'_>,
        weight: Weight,
        features: &Features,
        profile: &ProfileIndex<S>,
        workload: &str,
    ) -> Self {
        let novelty = Novelty::of(facet, profile);
        Self {
            novelty,
            weight,
            subject: subject(facet, weight),
            text: text(facet, novelty, features, workload),
        }
    }

    pub(super) fn is_about_same(&self, other: &Reason) -> bool {
        self.novelty == other.novelty && self.subject == other.subject
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Several weak reasons of one sort are one: a pipeline of five readers is new in one way, and somebody who changes
/// teams is in several groups at once.
fn subject(facet: &Facet<'_>, weight: Weight) -> String {
    match (facet, weight) {
        (Facet::Group { group, .. }, Weight::Strong) => (*group).to_owned(),
        (Facet::Program { program, .. }, Weight::Strong) => (*program).to_owned(),
        (Facet::Program { program, .. }, Weight::Weak) => {
            format!("{:?}", ProgramClass::of(program))
        }
        (Facet::Argument { program, .. }, _) => (*program).to_owned(),
        (Facet::Pipe { to, .. }, _) => (*to).to_owned(),
        (Facet::Left { how, program, .. }, Weight::Strong) => format!("{how} {program}"),
        _ => String::new(),
    }
}

fn text(facet: &Facet<'_>, novelty: Novelty, features: &Features, workload: &str) -> String {
    let user = shown(&features.user);
    // Of a machine its own habits are asked, of a person those of all people.
    let nobody = match features.by() {
        By::People => "no person ever".to_owned(),
        By::Machine(_) => format!("{user} never"),
    };
    match *facet {
        Facet::User { .. } => format!("{user} was never seen in {}", shown(workload)),
        Facet::Group { group, .. } => {
            format!("{user} was never in the group {} there", shown(group))
        }
        Facet::Streams { kind, .. } if novelty == Novelty::Kind => {
            format!("{nobody} used {kind} there")
        }
        Facet::Streams {
            kind, tty, stdin, ..
        } => {
            let how = match (tty, stdin) {
                (true, true) => "with a terminal and standard input",
                (true, false) => "with a terminal",
                (false, true) => "with standard input",
                (false, false) => "without standard input",
            };
            format!("{nobody} used {kind} {how} there")
        }
        Facet::Kind { kind, .. } => format!("{nobody} used {kind} there"),
        Facet::Container { container } => {
            format!("container {} was never touched there", shown(container))
        }
        Facet::Program { program, .. } => match features.by() {
            By::People => format!("`{}` was never run there by a person", shown(program)),
            By::Machine(_) => format!("{user} never ran `{}` there", shown(program)),
        },
        Facet::Argument { program, class, .. } => {
            format!(
                "{nobody} ran `{}` with {} there",
                shown(program),
                class.described()
            )
        }
        Facet::Pipe { from, to, .. } => {
            format!(
                "the output of `{}` never went into `{}` there",
                shown(from),
                shown(to)
            )
        }
        Facet::Hour { hour, .. } => format!("{nobody} came around {hour}:00 UTC"),
        Facet::Rate { .. } => format!(
            "{nobody} came as often as {} times within ten minutes",
            features.rate
        ),
        Facet::Unread { .. } => "some of the command cannot be read".to_owned(),
        Facet::Left { how, program, .. } => {
            let program = shown(program);
            let nobody = match features.by() {
                By::People => "no session of a person ever",
                By::Machine(_) => nobody.as_str(),
            };
            match how {
                LeftHow::Running => format!("{nobody} left `{program}` running there"),
                LeftHow::Dropped => format!("{nobody} dropped `{program}` there"),
            }
        }
        Facet::Class { .. } => String::new(),
    }
}

/// A name that users chose, as it can be shown.
fn shown(name: &str) -> String {
    cut(&visible(name), MAX_SHOWN).into_owned()
}
