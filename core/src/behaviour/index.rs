//! A profile in memory: small, and fast to ask.

use std::hash::BuildHasher;

use jiff::Timestamp;

use super::{
    command::ProgramClass,
    criterion::Criterion,
    facet::{By, Facet, MAX_EXPONENT},
    features::Features,
    profile::{Learned, ProfileSpec, ProfileStatus},
};
use crate::actor::Actor;

/// What a decision needs of a profile.
///
/// Of each learned criterion only 32 bits of a hash are kept, sorted: 20 KiB for 5,000 criteria. The hasher must have
/// a random key of this process, or somebody could search for the name of a program that has the same hash as a usual
/// one. With a random key, the chance that something new passes as usual is one to a million for each fact.
#[derive(Debug, Clone)]
pub struct ProfileIndex<S> {
    hasher: S,
    known: Box<[u32]>,
    allowed: Box<[Criterion]>,
    people: u64,
    machines: u64,
    since: Option<Timestamp>,
}

/// Builds an index from criteria that come one at a time, so that a large profile never has to be in memory as a whole.
#[derive(Debug, Clone)]
pub struct IndexBuilder<S> {
    hasher: S,
    known: Vec<u32>,
}

impl<S: BuildHasher> IndexBuilder<S> {
    /// An index without criteria. `hasher` must have a random key.
    pub fn new(hasher: S) -> Self {
        Self {
            hasher,
            known: Vec::new(),
        }
    }

    /// Adds a learned criterion. One that was changed by hand and is none of those that are learned counts for nothing.
    pub fn add(&mut self, criterion: &Criterion) {
        let Some(facet) = criterion.facet() else {
            return;
        };
        self.known.push(print(&self.hasher, &facet));
        let derived = match facet {
            Facet::Program { by, program } => Facet::Class {
                by,
                class: ProgramClass::of(program),
            },
            Facet::Streams { by, kind, .. } => Facet::Kind { by, kind },
            _ => return,
        };
        self.known.push(print(&self.hasher, &derived));
        // Many programs have one class: what is the same must not grow with them.
        if self.known.len() == self.known.capacity() {
            self.known.sort_unstable();
            self.known.dedup();
        }
    }

    /// The index, with what else a decision needs. The criteria in `status` are not looked at.
    pub fn build(mut self, spec: &ProfileSpec, status: &ProfileStatus) -> ProfileIndex<S> {
        self.known.sort_unstable();
        self.known.dedup();
        ProfileIndex {
            hasher: self.hasher,
            known: self.known.into_boxed_slice(),
            allowed: spec.allowed.clone().into_boxed_slice(),
            people: status.people,
            machines: status.samples.saturating_sub(status.people),
            since: status.since,
        }
    }
}

impl<S: BuildHasher> ProfileIndex<S> {
    /// The index of a profile. What was seen last before `begin` has vanished, see
    /// [`Retention::begin`](super::Retention::begin).
    pub fn new(spec: &ProfileSpec, status: &ProfileStatus, begin: Timestamp, hasher: S) -> Self {
        let mut builder = IndexBuilder::new(hasher);
        let is_alive = |learned: &&Learned| learned.sighting.last_seen >= begin;
        for learned in status.learned.iter().filter(is_alive) {
            builder.add(&learned.criterion);
        }
        builder.build(spec, status)
    }

    /// How many interactions were learned that say what is usual for this kind of actor: those of people for a person,
    /// those of machines for a machine. An operator that comes each minute says nothing of people.
    pub fn samples(&self, actor: Actor) -> u64 {
        match actor {
            Actor::User => self.people,
            Actor::ServiceAccount | Actor::Node => self.machines,
        }
    }

    /// The time of the first of them.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// How many bytes it takes on the heap, without the criteria that people wrote.
    pub fn heap_size(&self) -> usize {
        std::mem::size_of_val(&*self.known)
    }

    /// Whether a person wrote that this facet is usual.
    pub(super) fn allows(&self, facet: &Facet<'_>, of: &Features) -> bool {
        self.allowed
            .iter()
            .any(|criterion| criterion.covers(facet, of))
    }

    /// Whether this facet was learned.
    pub(super) fn knows(&self, facet: &Facet<'_>) -> bool {
        match *facet {
            Facet::Hour { by, hour } => hour
                .neighbours()
                .any(|hour| self.has(&Facet::Hour { by, hour })),
            // Twice as often as ever before is not yet another habit.
            Facet::Rate { by, exponent } => (exponent.saturating_sub(1)..=MAX_EXPONENT)
                .any(|exponent| self.has(&Facet::Rate { by, exponent })),
            _ => self.has(facet),
        }
    }

    /// Whether a program of this class was learned.
    pub(super) fn knows_class(&self, by: By<'_>, class: ProgramClass) -> bool {
        self.has(&Facet::Class { by, class })
    }

    fn has(&self, facet: &Facet<'_>) -> bool {
        self.known
            .binary_search(&print(&self.hasher, facet))
            .is_ok()
    }
}

/// 32 bits of the hash.
fn print<S: BuildHasher>(hasher: &S, facet: &Facet<'_>) -> u32 {
    u32::try_from(hasher.hash_one(facet) >> 32).unwrap_or_default()
}
