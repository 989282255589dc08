//! A criterion: what is usual, as a person writes it and as it is learned.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    command::ArgumentClass,
    facet::{By, Facet},
    features::Features,
    hours::Hours,
};
use crate::{actor::Actor, interaction::Kind, left::LeftHow};

/// Stands at the end of a name for anything that can follow.
const WILDCARD: char = '*';
/// The longest name in a criterion, in bytes.
const MAX_NAME: usize = 512;
/// The most values of one field.
pub(super) const MAX_NAMES: usize = 64;
/// Between the two programs of a pipe.
const PIPE: &str = " | ";

/// Kinds of interactions. A bypass is never usual.
fn kinds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": Kind::ADMITTED_NAMES.len(),
        "items": {
            "description": "The kind of an interaction.",
            "type": "string",
            "enum": Kind::ADMITTED_NAMES,
        },
    })
}

/// What is usual. The fields are conditions, and all that are set must hold. A criterion says that what its fields
/// name is usual: one with users says it of these users, one with programs of these programs and their arguments, one
/// with both says it of these users if they run these programs, and of these programs if these users run them. It says
/// nothing about what it does not name.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Criterion {
    /// Names of users. One can end in *, which stands for anything that can follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub users: Vec<String>,
    /// Groups; the user must be in one of them. One can end in *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub groups: Vec<String>,
    /// Kinds of actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub actors: Vec<Actor>,
    /// Kinds of interactions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kinds")]
    pub kinds: Vec<Kind>,
    /// Whether the interaction has a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Whether the user's standard input reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<bool>,
    /// Containers. One can end in *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub containers: Vec<String>,
    /// Programs, without their folders. "sh -c" is a shell with a script, "sh FILE" one with a file, "/tmp/x" a
    /// program in a folder for temporary files, "./x" one in a relative folder. One can end in *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub programs: Vec<String>,
    /// Classes of arguments of these programs. If not set, all arguments are usual.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub arguments: Vec<ArgumentClass>,
    /// Pipes from one program to the next: "cat | grep".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub pipes: Vec<String>,
    /// Hours of the week, UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub hours: Vec<Hours>,
    /// The most interactions of one user within ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub rate: Option<u32>,
    /// If true: commands of which some could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// Programs that a session leaves running, written as programs are. One can end in *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub left_running: Vec<String>,
    /// Programs whose files a session adds, written as programs are. One can end in *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub dropped: Vec<String>,
}

/// What makes a criterion unfit to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCriterion {
    /// It names nothing.
    #[error("is empty; it must name what is usual")]
    Empty,
    /// A field has too many values.
    #[error("a field has more than {MAX_NAMES} values")]
    TooMany,
    /// A value is empty or too long.
    #[error("a value is empty, or longer than {MAX_NAME} bytes")]
    Length,
    /// Arguments without programs.
    #[error("arguments need programs that they belong to")]
    ArgumentsWithoutPrograms,
    /// A pipe that does not name two programs.
    #[error("a pipe names two programs, such as \"cat | grep\"")]
    Pipe,
}

impl Criterion {
    /// Checks what following this criterion relies on.
    ///
    /// # Errors
    /// Says what makes no sense.
    pub fn check(&self) -> Result<(), InvalidCriterion> {
        if *self == Self::default() {
            return Err(InvalidCriterion::Empty);
        }
        let names = self.names_in_lists();
        let counts = [
            self.actors.len(),
            self.kinds.len(),
            self.arguments.len(),
            self.hours.len(),
        ];
        let many = |count: usize| count > MAX_NAMES;
        if names.iter().any(|names| many(names.len())) || counts.into_iter().any(many) {
            return Err(InvalidCriterion::TooMany);
        }
        if names
            .into_iter()
            .flatten()
            .any(|name| name.is_empty() || name.len() > MAX_NAME)
        {
            return Err(InvalidCriterion::Length);
        }
        if !self.arguments.is_empty() && self.programs.is_empty() {
            return Err(InvalidCriterion::ArgumentsWithoutPrograms);
        }
        if self.pipes.iter().any(|pipe| !pipe.contains(PIPE)) {
            return Err(InvalidCriterion::Pipe);
        }
        Ok(())
    }

    /// The lists of names.
    fn names_in_lists(&self) -> [&Vec<String>; 7] {
        [
            &self.users,
            &self.groups,
            &self.containers,
            &self.programs,
            &self.pipes,
            &self.left_running,
            &self.dropped,
        ]
    }

    /// The programs that are left behind so.
    pub(super) fn left(&self, how: LeftHow) -> &[String] {
        match how {
            LeftHow::Running => &self.left_running,
            LeftHow::Dropped => &self.dropped,
        }
    }

    /// The same, to be changed.
    pub(super) fn left_mut(&mut self, how: LeftHow) -> &mut Vec<String> {
        match how {
            LeftHow::Running => &mut self.left_running,
            LeftHow::Dropped => &mut self.dropped,
        }
    }

    /// How many values its lists have together.
    pub(super) fn values(&self) -> usize {
        let names = self.names_in_lists();
        let names: usize = names.iter().map(|names| names.len()).sum();
        names + self.actors.len() + self.kinds.len() + self.arguments.len() + self.hours.len()
    }

    /// About how many bytes it takes as JSON.
    pub(super) fn size(&self) -> usize {
        let names = self.names_in_lists();
        let text: usize = names
            .iter()
            .map(|names| names.iter().map(|n| n.len() + 3).sum::<usize>())
            .sum();
        let few =
            18 * (self.actors.len() + self.kinds.len() + self.arguments.len() + self.hours.len());
        let fields = names.iter().filter(|names| !names.is_empty()).count();
        text + few + 13 * fields + 40
    }

    /// Whether this says that a facet of an interaction is usual.
    pub(super) fn covers(&self, facet: &Facet<'_>, of: &Features) -> bool {
        self.names(facet) && self.holds_for_whole(of) && self.holds_for_steps(facet, of)
    }

    /// Whether one of its fields names this facet.
    fn names(&self, facet: &Facet<'_>) -> bool {
        match *facet {
            // Whether it is the right one, the conditions say.
            Facet::User { .. } | Facet::Group { .. } => {
                !self.users.is_empty() || !self.groups.is_empty() || !self.actors.is_empty()
            }
            Facet::Streams { .. } | Facet::Kind { .. } => !self.kinds.is_empty(),
            Facet::Container { .. } => !self.containers.is_empty(),
            Facet::Program { program, .. } => any(&self.programs, program),
            Facet::Argument { program, class, .. } => {
                any(&self.programs, program)
                    && (self.arguments.is_empty() || self.arguments.contains(&class))
            }
            Facet::Pipe { from, to, .. } => {
                let split = |pipe: &String| pipe.split_once(PIPE) == Some((from, to));
                self.pipes.iter().any(split)
            }
            Facet::Hour { .. } => !self.hours.is_empty(),
            Facet::Rate { .. } => self.rate.is_some(),
            Facet::Unread { .. } => self.unread,
            Facet::Left { how, program, .. } => any(self.left(how), program),
            Facet::Class { .. } => false,
        }
    }

    /// Whether the conditions hold that concern the interaction as a whole.
    fn holds_for_whole(&self, of: &Features) -> bool {
        let unset_or = |names: &[String], name: Option<&String>| {
            names.is_empty() || name.is_some_and(|name| any(names, name))
        };
        unset_or(&self.users, Some(&of.user))
            && (self.groups.is_empty() || of.groups.iter().any(|group| any(&self.groups, group)))
            && (self.actors.is_empty() || self.actors.contains(&of.actor))
            && (self.kinds.is_empty() || self.kinds.contains(&of.kind))
            && self.tty.is_none_or(|tty| tty == of.tty)
            && self.stdin.is_none_or(|stdin| stdin == of.stdin)
            && unset_or(&self.containers, of.container.as_ref())
            && (self.hours.is_empty() || self.hours.iter().any(|hours| hours.contains(of.hour)))
            && self.rate.is_none_or(|rate| of.rate <= rate)
    }

    /// Whether the conditions hold that concern programs: for a facet of one step those were compared with it, for any
    /// other facet they must hold for each step.
    fn holds_for_steps(&self, facet: &Facet<'_>, of: &Features) -> bool {
        let is_of_step = matches!(
            facet,
            Facet::Program { .. } | Facet::Argument { .. } | Facet::Pipe { .. }
        );
        is_of_step
            || self.programs.is_empty()
            || !of.command.steps.is_empty()
                && of.command.steps.iter().all(|step| {
                    any(&self.programs, &step.program)
                        && (self.arguments.is_empty()
                            || step
                                .arguments
                                .iter()
                                .all(|class| self.arguments.contains(&class)))
                })
    }
}

/// What is learned: each criterion is that of one facet.
impl Criterion {
    /// The criterion of a facet; none for what is derived from others.
    pub(super) fn learned(facet: &Facet<'_>) -> Option<Self> {
        let with = |by: By<'_>| match by {
            By::People => Self {
                actors: vec![Actor::User],
                ..Self::default()
            },
            By::Machine(name) => Self {
                users: vec![name.to_owned()],
                ..Self::default()
            },
        };
        let named = |name: &str| vec![name.to_owned()];
        let learned = match *facet {
            Facet::User { user } => Self {
                users: named(user),
                ..Self::default()
            },
            Facet::Group { user, group } => Self {
                users: named(user),
                groups: named(group),
                ..Self::default()
            },
            Facet::Streams {
                by,
                kind,
                tty,
                stdin,
            } => Self {
                kinds: vec![kind],
                tty: Some(tty),
                stdin: Some(stdin),
                ..with(by)
            },
            Facet::Container { container } => Self {
                containers: named(container),
                ..Self::default()
            },
            Facet::Program { by, program } => Self {
                programs: named(program),
                ..with(by)
            },
            Facet::Argument { by, program, class } => Self {
                programs: named(program),
                arguments: vec![class],
                ..with(by)
            },
            Facet::Pipe { by, from, to } => Self {
                pipes: vec![format!("{from}{PIPE}{to}")],
                ..with(by)
            },
            Facet::Hour { by, hour } => Self {
                hours: vec![hour.into()],
                ..with(by)
            },
            Facet::Rate { by, exponent } => Self {
                rate: Some(1 << exponent),
                ..with(by)
            },
            Facet::Unread { by } => Self {
                unread: true,
                ..with(by)
            },
            Facet::Left { by, how, program } => {
                let mut learned = with(by);
                *learned.left_mut(how) = named(program);
                learned
            }
            Facet::Class { .. } | Facet::Kind { .. } => return None,
        };
        Some(learned)
    }

    /// How the programs are left behind that it names.
    fn has_left(&self) -> Option<LeftHow> {
        [LeftHow::Running, LeftHow::Dropped]
            .into_iter()
            .find(|how| !self.left(*how).is_empty())
    }

    /// The facet that this was learned from; none if it has another form, because a person wrote it.
    pub(super) fn facet(&self) -> Option<Facet<'_>> {
        let by = match (self.actors.as_slice(), self.users.as_slice()) {
            ([Actor::User], []) => Some(By::People),
            ([], [name]) => Some(By::Machine(name.as_str())),
            _ => None,
        };
        let facet = if let Some(kind) = self.kinds.first() {
            Facet::Streams {
                by: by?,
                kind: *kind,
                tty: self.tty?,
                stdin: self.stdin?,
            }
        } else if !self.containers.is_empty() {
            Facet::Container {
                container: one(&self.containers)?,
            }
        } else if !self.programs.is_empty() {
            let (by, program) = (by?, one(&self.programs)?);
            match self.arguments.first() {
                Some(class) => Facet::Argument {
                    by,
                    program,
                    class: *class,
                },
                None => Facet::Program { by, program },
            }
        } else if !self.pipes.is_empty() {
            let (from, to) = one(&self.pipes)?.split_once(PIPE)?;
            Facet::Pipe { by: by?, from, to }
        } else if let Some(hours) = self.hours.first() {
            Facet::Hour {
                by: by?,
                hour: hours.single()?,
            }
        } else if let Some(rate) = self.rate {
            Facet::Rate {
                by: by?,
                exponent: super::facet::exponent(rate),
            }
        } else if self.unread {
            Facet::Unread { by: by? }
        } else if let Some(how) = self.has_left() {
            Facet::Left {
                by: by?,
                how,
                program: one(self.left(how))?,
            }
        } else if !self.groups.is_empty() {
            Facet::Group {
                user: one(&self.users)?,
                group: one(&self.groups)?,
            }
        } else {
            Facet::User {
                user: one(&self.users)?,
            }
        };
        // A field that the facet does not have would be a condition that nobody asks.
        (Self::learned(&facet).as_ref() == Some(self)).then_some(facet)
    }
}

/// Whether one of these names, which can end in a wildcard, stands for this one.
pub(super) fn any(names: &[String], name: &str) -> bool {
    names
        .iter()
        .any(|pattern| match pattern.strip_suffix(WILDCARD) {
            Some(begin) => name.starts_with(begin),
            None => pattern == name,
        })
}

/// The name, if there is exactly one.
fn one(names: &[String]) -> Option<&str> {
    match names {
        [name] => Some(name),
        _ => None,
    }
}
