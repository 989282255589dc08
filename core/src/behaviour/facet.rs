//! Facets: the single facts of an interaction that are usual or not.

use super::{
    command::{ArgumentClass, ProgramClass},
    features::Features,
    hours::HourOfWeek,
};
use crate::{actor::Actor, interaction::Kind, left::LeftHow};

/// By whom a fact was learned. What one person did is usual for others, too, because people take turns. A machine does
/// the same again and again, so what is learned of one says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum By<'a> {
    /// Any person.
    People,
    /// The ServiceAccount or the node of this name.
    Machine(&'a str),
}

impl<'a> By<'a> {
    /// Whose habits count for this user.
    pub(super) fn of(user: &'a str, actor: Actor) -> Self {
        match actor {
            Actor::User => By::People,
            Actor::ServiceAccount | Actor::Node => By::Machine(user),
        }
    }
}

/// One fact of an interaction. Each is learned and asked on its own, so that what is learned grows with the number of
/// facts and not with that of their combinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Facet<'a> {
    /// Who.
    User { user: &'a str },
    /// A user in a group.
    Group { user: &'a str, group: &'a str },
    /// How, and whether it has a terminal and standard input.
    Streams {
        by: By<'a>,
        kind: Kind,
        tty: bool,
        stdin: bool,
    },
    /// Where.
    Container { container: &'a str },
    /// What was run.
    Program { by: By<'a>, program: &'a str },
    /// With an argument of which class.
    Argument {
        by: By<'a>,
        program: &'a str,
        class: ArgumentClass,
    },
    /// Where the output of a program went.
    Pipe {
        by: By<'a>,
        from: &'a str,
        to: &'a str,
    },
    /// When.
    Hour { by: By<'a>, hour: HourOfWeek },
    /// How often: at most this power of two within the window of the rate.
    Rate { by: By<'a>, exponent: u8 },
    /// That some of the command could not be read.
    Unread { by: By<'a> },
    /// What was left behind. It is not among the others, because it is known only later.
    Left {
        by: By<'a>,
        how: LeftHow,
        program: &'a str,
    },
    /// Derived from the programs: that one of this class was run.
    Class { by: By<'a>, class: ProgramClass },
    /// Derived from the streams: how.
    Kind { by: By<'a>, kind: Kind },
}

/// The longest of the rates that are told apart: 2 to this power within the window.
pub(super) const MAX_EXPONENT: u8 = 12;

/// The exponent of the smallest power of two that is at least this rate.
pub(super) fn exponent(rate: u32) -> u8 {
    let exponent = rate
        .clamp(1, 1 << MAX_EXPONENT)
        .next_power_of_two()
        .trailing_zeros();
    u8::try_from(exponent).map_or(MAX_EXPONENT, |exponent| exponent.min(MAX_EXPONENT))
}

/// Groups that say no more than the name of the user does.
fn says_nothing(group: &str) -> bool {
    group == "system:authenticated"
        || group.starts_with("system:serviceaccounts")
        || group == "system:nodes"
}

impl Features {
    /// Everything that is learned of an interaction and asked about it, in the order in which reasons are told. A
    /// facet can come more than once.
    pub(super) fn facets(&self) -> impl Iterator<Item = Facet<'_>> {
        let by = self.by();
        let user = self.user.as_str();
        let groups = self.groups.iter().filter(|group| !says_nothing(group));
        let groups = groups.map(move |group| Facet::Group { user, group });
        let container = self.container.iter();
        let container = container.map(|container| Facet::Container { container });
        let steps = self
            .command
            .steps
            .iter()
            .enumerate()
            .flat_map(move |(at, step)| {
                let program = step.program.as_str();
                let asked = step.class != ProgramClass::Builtin;
                let whole = asked.then_some(Facet::Program { by, program });
                let pipe = self.source_of_pipe(at).filter(|_| asked);
                let pipe = pipe.map(|from| Facet::Pipe {
                    by,
                    from,
                    to: program,
                });
                let arguments = step.arguments.iter().filter(move |class| {
                    asked || class.is_risky() || *class == ArgumentClass::Output
                });
                let arguments = arguments.map(move |class| Facet::Argument { by, program, class });
                whole.into_iter().chain(pipe).chain(arguments)
            });
        let streams = Facet::Streams {
            by,
            kind: self.kind,
            tty: self.tty,
            stdin: self.stdin,
        };
        [Facet::User { user }]
            .into_iter()
            .chain(groups)
            .chain([streams])
            .chain(container)
            .chain(steps)
            .chain(self.command.unread.then_some(Facet::Unread { by }))
            .chain([
                Facet::Hour {
                    by,
                    hour: self.hour,
                },
                Facet::Rate {
                    by,
                    exponent: exponent(self.rate),
                },
            ])
    }

    /// What is learned of what the session left behind, and asked about it.
    pub(super) fn left_facets(&self) -> impl Iterator<Item = Facet<'_>> {
        let by = self.by();
        self.left.iter().map(move |left| Facet::Left {
            by,
            how: left.how,
            program: &left.program,
        })
    }

    /// Whose habits count.
    pub(super) fn by(&self) -> By<'_> {
        By::of(&self.user, self.actor)
    }

    /// The program whose output this step reads.
    fn source_of_pipe(&self, at: usize) -> Option<&str> {
        use super::command::Link;
        let steps = &self.command.steps;
        let before = steps.get(..at).filter(|_| steps[at].link == Link::Pipe)?;
        before.last().map(|step| step.program.as_str())
    }
}
