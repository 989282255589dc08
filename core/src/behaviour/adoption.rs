//! From what was learned to what people allow: many learned criteria, each of one fact, become a few.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    command::ArgumentClass,
    criterion::{Criterion, MAX_NAMES, any},
    facet::{By, Facet},
    profile::Learned,
};
use crate::{interaction::Kind, left::LeftHow};

/// What of the learned criteria is to be allowed.
#[derive(Debug, Default)]
struct Adoption<'a> {
    people: BTreeSet<&'a str>,
    containers: BTreeSet<&'a str>,
    streams: BTreeMap<(By<'a>, bool, bool), BTreeSet<Kind>>,
    programs: BTreeMap<(By<'a>, &'a str), BTreeSet<ArgumentClass>>,
    pipes: BTreeMap<By<'a>, BTreeSet<String>>,
    unread: BTreeSet<By<'a>>,
    left: BTreeMap<(By<'a>, LeftHow), BTreeSet<&'a str>>,
}

/// Criteria that say the same as these, but for hours and rates, which are not worth the room. What people did is
/// allowed for those of them whose names are among the learned criteria, and for nobody else.
pub fn adopted<'a>(learned: impl IntoIterator<Item = &'a Learned>) -> Vec<Criterion> {
    let mut adoption = Adoption::default();
    for learned in learned {
        adoption.add(&learned.criterion);
    }
    adoption.criteria()
}

impl<'a> Adoption<'a> {
    fn add(&mut self, criterion: &'a Criterion) {
        match criterion.facet() {
            Some(Facet::User { user }) => {
                self.people.insert(user);
            }
            Some(Facet::Container { container }) => {
                self.containers.insert(container);
            }
            Some(Facet::Streams {
                by,
                kind,
                tty,
                stdin,
            }) => {
                self.streams
                    .entry((by, tty, stdin))
                    .or_default()
                    .insert(kind);
            }
            Some(Facet::Program { by, program }) => {
                self.programs.entry((by, program)).or_default();
            }
            Some(Facet::Argument { by, program, class }) => {
                self.programs
                    .entry((by, program))
                    .or_default()
                    .insert(class);
            }
            Some(Facet::Pipe { by, .. }) => {
                let pipes = self.pipes.entry(by).or_default();
                pipes.extend(criterion.pipes.iter().cloned());
            }
            Some(Facet::Unread { by }) => {
                self.unread.insert(by);
            }
            Some(Facet::Left { by, how, program }) => {
                self.left.entry((by, how)).or_default().insert(program);
            }
            // A user who is allowed may be in any group.
            Some(
                Facet::Group { .. }
                | Facet::Hour { .. }
                | Facet::Rate { .. }
                | Facet::Class { .. }
                | Facet::Kind { .. },
            )
            | None => {}
        }
    }

    fn criteria(self) -> Vec<Criterion> {
        let Self {
            people: users,
            containers,
            streams,
            programs,
            pipes,
            unread,
            left,
        } = self;
        let is_person = |user: &&&str| crate::Actor::of(user) == crate::Actor::User;
        let people: Vec<_> = users.iter().filter(is_person).map(own).collect();
        // A condition on all people would let everybody in.
        let users_of = |by: By<'_>| match by {
            By::People => people.clone(),
            By::Machine(name) => vec![name.to_owned()],
        };
        let mut criteria = Vec::new();
        let mut of = |by: Option<By<'_>>, change: &dyn Fn(&mut Criterion)| {
            let users = by.map(users_of).unwrap_or_default();
            // What nobody of those did who are adopted.
            if by.is_some() && users.is_empty() {
                return;
            }
            let parts = users.chunks(MAX_NAMES).map(<[_]>::to_vec);
            let parts: Vec<_> = match by {
                Some(_) => parts.collect(),
                None => vec![Vec::new()],
            };
            for users in parts {
                let mut criterion = Criterion {
                    users,
                    ..Criterion::default()
                };
                change(&mut criterion);
                criteria.push(criterion);
            }
        };
        for part in chunks(users.iter().map(own)) {
            of(None, &|criterion| criterion.users.clone_from(&part));
        }
        for part in chunks(containers.iter().map(own)) {
            of(None, &|criterion| criterion.containers.clone_from(&part));
        }
        for ((by, tty, stdin), kinds) in &streams {
            of(Some(*by), &|criterion| {
                criterion.kinds = kinds.iter().copied().collect();
                (criterion.tty, criterion.stdin) = (Some(*tty), Some(*stdin));
            });
        }
        let mut alike: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for ((by, program), mut classes) in programs {
            // Without a class, all arguments would be allowed.
            if classes.is_empty() {
                classes.insert(ArgumentClass::Flag);
            }
            let programs = alike.entry((by, classes)).or_default();
            programs.push(program.to_owned());
        }
        for ((by, classes), programs) in &alike {
            for part in chunks(programs.iter().cloned()) {
                of(Some(*by), &|criterion| {
                    criterion.programs.clone_from(&part);
                    criterion.arguments = classes.iter().copied().collect();
                });
            }
        }
        for (by, pipes) in &pipes {
            for part in chunks(pipes.iter().cloned()) {
                of(Some(*by), &|criterion| criterion.pipes.clone_from(&part));
            }
        }
        for by in &unread {
            of(Some(*by), &|criterion| criterion.unread = true);
        }
        for ((by, how), programs) in &left {
            for part in chunks(programs.iter().map(own)) {
                of(Some(*by), &|criterion| {
                    criterion.left_mut(*how).clone_from(&part);
                });
            }
        }
        criteria
    }
}

fn own(name: &&str) -> String {
    (*name).to_owned()
}

fn chunks(names: impl Iterator<Item = String>) -> Vec<Vec<String>> {
    let names: Vec<_> = names.collect();
    names.chunks(MAX_NAMES).map(<[_]>::to_vec).collect()
}

impl Criterion {
    /// Whether this, as a person wrote it, names what was learned, under whatever conditions.
    pub fn names_learned(&self, learned: &Criterion) -> bool {
        let all = |own: &[String], other: &[String]| other.iter().all(|name| any(own, name));
        let part = [
            (&self.containers, &learned.containers),
            (&self.programs, &learned.programs),
            (&self.pipes, &learned.pipes),
            (&self.left_running, &learned.left_running),
            (&self.dropped, &learned.dropped),
        ];
        if let Some((own, other)) = part.into_iter().find(|(_, other)| !other.is_empty()) {
            let classes = self.arguments.is_empty()
                || (learned.arguments.iter()).all(|class| self.arguments.contains(class));
            return all(own, other) && classes;
        }
        if !learned.kinds.is_empty() {
            let same = |own: Option<bool>, other| own.is_none() || own == other;
            return (learned.kinds.iter()).all(|kind| self.kinds.contains(kind))
                && same(self.tty, learned.tty)
                && same(self.stdin, learned.stdin);
        }
        if let Some(hour) = learned.hours.first().and_then(|hours| hours.single()) {
            return self.hours.iter().any(|hours| hours.contains(hour));
        }
        if let Some(rate) = learned.rate {
            return self.rate.is_some_and(|most| most >= rate);
        }
        match learned.unread {
            true => self.unread,
            false => !self.users.is_empty() && all(&self.users, &learned.users),
        }
    }
}

/// In a line, as in `arguments path; programs cat, ls`.
impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written as they are in the object, whose names people know.
        let value = serde_json::to_value(self).unwrap_or_default();
        let fields = value.as_object().into_iter().flatten();
        for (at, (field, value)) in fields.enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(f, "{separator}{field} ")?;
            let word = |value: &serde_json::Value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            };
            match value.as_array() {
                Some(all) => f.write_str(&all.iter().map(word).collect::<Vec<_>>().join(", "))?,
                None => f.write_str(&word(value))?,
            }
        }
        Ok(())
    }
}
