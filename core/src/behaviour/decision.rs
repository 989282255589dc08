//! Whether an interaction is usual for a workload, and why not.

use std::{fmt, hash::BuildHasher};

use jiff::Timestamp;

use super::{
    command::ProgramClass,
    facet::{By, Facet},
    features::Features,
    index::ProfileIndex,
    reason::{Novelty, Reason, Weight},
};
use crate::{actor::Actor, interaction::Kind, left::LeftHow};

/// The most reasons of one decision. Strong ones come first.
pub const MAX_REASONS: usize = 8;
/// The most weak reasons that can be tolerated.
const MAX_TOLERATED: usize = 16;
/// The most reasons that are collected before the strongest are taken.
const MAX_COLLECTED: usize = 64;
/// Hours are asked only where this many interactions were learned: fewer leave most hours of a week empty.
const SAMPLES_FOR_HOURS: u64 = 100;
/// The same in days: two weeks show what is done each week.
const DAYS_FOR_HOURS: i64 = 14;

/// When enough is known, and how much that is new is tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The fewest days since the first interaction that was learned.
    pub days: u32,
    /// The fewest interactions that were learned: by people where a person is judged, else by machines.
    pub samples: u64,
    /// How many weak reasons an interaction can have and still be usual; at most 16. A strong one is never tolerated.
    pub tolerated: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            days: 14,
            samples: 30,
            tolerated: 2,
        }
    }
}

/// What an interaction is for a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is what is done there.
    Usual {
        /// What was new and is tolerated.
        noticed: Vec<Reason>,
    },
    /// It is not what is done there.
    Irregular {
        /// Why; at least one, at most [`MAX_REASONS`].
        reasons: Vec<Reason>,
    },
    /// Not enough is known of the workload.
    NotEnough {
        /// How many interactions were learned.
        samples: u64,
        /// How many days ago the first of them was.
        days: u32,
        /// What would be enough.
        needed: Thresholds,
    },
}

impl Decision {
    /// What is new in it and makes it irregular, each once.
    pub fn novelties(&self) -> Vec<Novelty> {
        let Decision::Irregular { reasons } = self else {
            return Vec::new();
        };
        let mut novelties: Vec<_> = reasons.iter().map(|reason| reason.novelty).collect();
        novelties.sort_unstable();
        novelties.dedup();
        novelties
    }

    /// Whether the interaction may be learned, if nothing else speaks against it: what is denied must not be learned,
    /// nor what happens with a pod that was misused.
    pub fn is_learned(&self) -> bool {
        !matches!(self, Decision::Irregular { .. })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Usual { .. } => f.write_str("usual"),
            Decision::Irregular { reasons } => {
                f.write_str("irregular: ")?;
                for (at, reason) in reasons.iter().enumerate() {
                    if at > 0 {
                        f.write_str("; ")?;
                    }
                    reason.fmt(f)?;
                }
                Ok(())
            }
            Decision::NotEnough {
                samples,
                days,
                needed,
            } => write!(
                f,
                "not enough is known: {samples} of {} interactions, {days} of {} days",
                needed.samples, needed.days
            ),
        }
    }
}

/// How an interaction compares with a profile, whatever a policy takes for enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// At most [`MAX_REASONS`], strong ones first.
    reasons: Vec<Reason>,
    /// Whether there is a strong one.
    strong: bool,
    /// How many there are, those that are not kept included.
    all: usize,
    /// Whether people wrote that everything that matters is usual.
    allowed: bool,
    samples: u64,
    days: u32,
}

impl Assessment {
    /// The one that has more against it. One request may add several containers.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        match self.against() < other.against() {
            true => other,
            false => self,
        }
    }

    /// The one that has less against it. Nobody knows of which of several sessions something is.
    #[must_use]
    pub fn better(self, other: Self) -> Self {
        match other.against() < self.against() {
            true => other,
            false => self,
        }
    }

    fn against(&self) -> (bool, usize, bool) {
        (self.strong, self.all, !self.allowed)
    }

    /// The decision, where so much is enough.
    pub fn decide(&self, thresholds: &Thresholds) -> Decision {
        let enough = self.samples >= thresholds.samples && self.days >= thresholds.days;
        let reasons = self.reasons.clone();
        if !enough && !self.allowed {
            Decision::NotEnough {
                samples: self.samples,
                days: self.days,
                needed: *thresholds,
            }
        } else if self.strong || self.all > thresholds.tolerated.min(MAX_TOLERATED) {
            Decision::Irregular { reasons }
        } else {
            Decision::Usual { noticed: reasons }
        }
    }
}

/// Decides about one interaction: see [`assess`] and [`Assessment::decide`].
pub fn decide<S: BuildHasher>(
    features: &Features,
    profile: &ProfileIndex<S>,
    thresholds: &Thresholds,
    now: Timestamp,
    workload: &str,
) -> Decision {
    assess(features, profile, now, workload).decide(thresholds)
}

/// Compares an interaction with a profile. `workload` is how people call it: `deployment web`.
pub fn assess<S: BuildHasher>(
    features: &Features,
    profile: &ProfileIndex<S>,
    now: Timestamp,
    workload: &str,
) -> Assessment {
    assess_facets(features, features.facets(), profile, now, workload)
}

/// Compares what the session of an interaction left behind with a profile. The interaction itself was compared when it
/// happened, and is not asked about again.
pub fn assess_left<S: BuildHasher>(
    features: &Features,
    profile: &ProfileIndex<S>,
    now: Timestamp,
    workload: &str,
) -> Assessment {
    assess_facets(features, features.left_facets(), profile, now, workload)
}

fn assess_facets<'a, S: BuildHasher>(
    features: &'a Features,
    facets: impl Iterator<Item = Facet<'a>>,
    profile: &ProfileIndex<S>,
    now: Timestamp,
    workload: &str,
) -> Assessment {
    let age = profile
        .since()
        .map_or(0, |since| now.as_second() - since.as_second());
    let days = u32::try_from(age / 86_400).unwrap_or_default();
    let samples = profile.samples(features.actor);
    let asking = Asking {
        features,
        profile,
        hours: samples >= SAMPLES_FOR_HOURS && i64::from(days) >= DAYS_FOR_HOURS,
    };
    let mut reasons: Vec<Reason> = Vec::new();
    let mut allowed = true;
    for facet in facets {
        let is_known = profile.knows(&facet);
        // The criteria that people wrote are asked one by one: only where they can make a difference.
        let decides = allowed && is_essential(&facet);
        if is_known && !decides || profile.allows(&facet, features) {
            continue;
        }
        allowed &= !is_essential(&facet);
        if !is_known && let Some(weight) = asking.weigh(&facet) {
            add(
                &mut reasons,
                Reason::new(&facet, weight, features, profile, workload),
            );
        }
    }
    reasons.sort_by_key(|reason| reason.weight != Weight::Strong);
    let is_strong = |reason: &Reason| reason.weight == Weight::Strong;
    let (strong, all) = (reasons.iter().any(is_strong), reasons.len());
    reasons.truncate(MAX_REASONS);
    Assessment {
        reasons,
        strong,
        all,
        allowed,
        samples,
        days,
    }
}

/// Whether a person has to have allowed it, where nothing was learned.
fn is_essential(facet: &Facet<'_>) -> bool {
    !matches!(
        facet,
        Facet::Group { .. } | Facet::Pipe { .. } | Facet::Hour { .. } | Facet::Rate { .. }
    )
}

/// Adds a reason, unless what it is about is a reason already: the strongest of each counts.
fn add(reasons: &mut Vec<Reason>, reason: Reason) {
    let is_stronger =
        |known: &Reason| reason.weight == Weight::Strong && known.weight == Weight::Weak;
    if let Some(known) = reasons
        .iter_mut()
        .find(|known| known.is_about_same(&reason))
    {
        if is_stronger(known) {
            *known = reason;
        }
    } else if reasons.len() < MAX_COLLECTED {
        reasons.push(reason);
    } else if let Some(weak) = reasons.iter_mut().find(|known| is_stronger(known)) {
        *weak = reason;
    }
}

struct Asking<'a, S> {
    features: &'a Features,
    profile: &'a ProfileIndex<S>,
    hours: bool,
}

impl<S: BuildHasher> Asking<'_, S> {
    /// How much it says that this facet is new; none if it says nothing.
    fn weigh(&self, facet: &Facet<'_>) -> Option<Weight> {
        let by = self.features.by();
        let is_person = self.features.actor == Actor::User;
        // Whoever it was: the interaction itself was judged before.
        if let Facet::Left { how, program, .. } = *facet {
            return Some(weigh_left(is_person, how, program));
        }
        let weak_for_people = match is_person {
            true => Weight::Weak,
            false => Weight::Strong,
        };
        // Of a machine that was never there everything is new, and its name says it all.
        let user = Facet::User {
            user: &self.features.user,
        };
        let is_new_machine =
            !is_person && !matches!(facet, Facet::User { .. }) && !self.profile.knows(&user);
        if is_new_machine && !self.profile.allows(&user, self.features) {
            return None;
        }
        match *facet {
            Facet::User { .. } => Some(Weight::Strong),
            Facet::Group { group, .. } => {
                // Where a person allowed the user, their groups were not learned.
                let rights = group.starts_with("system:");
                let known = self.profile.knows(&user);
                (known || rights).then_some(if rights { Weight::Strong } else { Weight::Weak })
            }
            Facet::Streams { kind, .. } => {
                let known = self.profile.knows(&Facet::Kind { by, kind });
                Some(match known || kind == Kind::Portforward {
                    true => weak_for_people,
                    false => Weight::Strong,
                })
            }
            Facet::Unread { .. } if self.features.command.truncated => Some(Weight::Strong),
            Facet::Container { .. } | Facet::Unread { .. } => Some(weak_for_people),
            Facet::Program { program, .. } => self.weigh_program(by, program),
            Facet::Argument { class, program, .. } => {
                let run = Facet::Program { by, program };
                let is_new = !self.profile.knows(&run) && !self.profile.allows(&run, self.features);
                match class.is_risky() {
                    true => Some(Weight::Strong),
                    // The program itself is the reason.
                    false => (!is_new).then_some(weak_for_people),
                }
            }
            Facet::Pipe { to, .. } => match ProgramClass::of(to) {
                ProgramClass::Shell | ProgramClass::Interpreter => Some(Weight::Strong),
                ProgramClass::Network | ProgramClass::FileTransfer => Some(Weight::Weak),
                _ => None,
            },
            Facet::Hour { .. } => self.hours.then_some(Weight::Weak),
            // Twice in a row is no habit of its own.
            Facet::Rate { exponent, .. } => (exponent > 1).then_some(Weight::Weak),
            Facet::Left { .. } | Facet::Class { .. } | Facet::Kind { .. } => None,
        }
    }

    /// A person who uses `head` where others use `cat` does the same as they do.
    fn weigh_program(&self, by: By<'_>, program: &str) -> Option<Weight> {
        let class = ProgramClass::of(program);
        let is_alike = by == By::People && self.profile.knows_class(by, class);
        match class {
            // Where people have a shell, a script says no more than the programs in it, which are asked, too.
            ProgramClass::Shell if is_alike && program.ends_with(" -c") => None,
            ProgramClass::Reader
            | ProgramClass::Changer
            | ProgramClass::Shell
            | ProgramClass::Debugger
                if is_alike =>
            {
                Some(Weight::Weak)
            }
            _ => Some(Weight::Strong),
        }
    }
}

/// People forget what shows or waits for something. What a machine leaves, it leaves each time.
fn weigh_left(is_person: bool, how: LeftHow, program: &str) -> Weight {
    match (how, ProgramClass::of(program)) {
        (
            LeftHow::Running,
            ProgramClass::Reader
            | ProgramClass::Changer
            | ProgramClass::Debugger
            | ProgramClass::Builtin,
        ) if is_person => Weight::Weak,
        _ => Weight::Strong,
    }
}

/// What a reason is called in metrics.
impl Novelty {
    pub(super) fn of<S: BuildHasher>(facet: &Facet<'_>, profile: &ProfileIndex<S>) -> Self {
        match *facet {
            Facet::User { .. } => Novelty::User,
            Facet::Group { .. } => Novelty::Group,
            Facet::Streams { by, kind, .. } => match profile.knows(&Facet::Kind { by, kind }) {
                true => Novelty::Streams,
                false => Novelty::Kind,
            },
            Facet::Kind { .. } => Novelty::Kind,
            Facet::Container { .. } => Novelty::Container,
            Facet::Program { .. } | Facet::Class { .. } => Novelty::Program,
            Facet::Argument { .. } => Novelty::Arguments,
            Facet::Pipe { .. } => Novelty::Pipe,
            Facet::Hour { .. } => Novelty::Hour,
            Facet::Rate { .. } => Novelty::Rate,
            Facet::Unread { .. } => Novelty::Unread,
            Facet::Left { .. } => Novelty::Left,
        }
    }
}
