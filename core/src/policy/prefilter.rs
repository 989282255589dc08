//! Most policies do not apply. To find that out for most of them, it is enough to read the few bytes of a [`Prefilter`]:
//! those of 500 policies lie side by side in 12 KiB, while their specs are spread over megabytes.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{
    evaluate::Subject,
    selector::{Operator, Selector},
    spec::Spec,
};
use crate::{actor::Actor, interaction::Kind};

/// The label that every namespace has, with its name as the value.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name>
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A set of which some members may be taken for others: what is not in it is certainly not (a Bloom filter with one hash
/// function).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set(u64);

impl Set {
    const ALL: Self = Self(u64::MAX);

    fn of<T: Hash>(members: impl IntoIterator<Item = T>) -> Self {
        let bits = members.into_iter().map(|member| {
            let mut hasher = DefaultHasher::new();
            member.hash(&mut hasher);
            1 << (hasher.finish() % 64)
        });
        Self(bits.fold(0, |all: u64, bit| all | bit))
    }

    /// A set that stands for everything has a member in common even with the empty one.
    fn may_share(self, other: Self) -> bool {
        self == Self::ALL || self.0 & other.0 != 0
    }
}

/// What a policy asks of an interaction, or what an interaction has, as far as it fits into a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefilter {
    namespaces: Set,
    programs: Set,
    kinds: u8,
    actors: u8,
    interactive: u8,
}

impl Prefilter {
    /// What the policy asks for.
    pub(super) fn of_policy(spec: &Spec) -> Self {
        let programs = match spec.commands.as_slice() {
            [] => Set::ALL,
            commands => Set::of(commands.iter().filter_map(|argv| argv.first())),
        };
        let exec_only = |kind: &Kind| spec.commands.is_empty() || *kind == Kind::Exec;
        let kinds = Kind::ALL.iter().filter(|kind| {
            (spec.interactions.is_empty() || spec.interactions.contains(kind)) && exec_only(kind)
        });
        let actors = Actor::ALL
            .iter()
            .filter(|actor| spec.actors.is_empty() || spec.actors.contains(actor));
        Self {
            namespaces: spec
                .namespace_selector
                .as_ref()
                .map_or(Set::ALL, namespaces),
            programs,
            kinds: kinds.fold(0, |all, kind| all | bit(*kind as u8)),
            actors: actors.fold(0, |all, actor| all | bit(*actor as u8)),
            interactive: spec
                .interactive
                .map_or(u8::MAX, |wanted| bit(wanted.into())),
        }
    }

    /// What the interaction has.
    pub(super) fn of_subject(subject: &Subject<'_>) -> Self {
        // Where it is not known, only what does not ask for it has the bit.
        let interactive = subject.interactive().map_or(2, u8::from);
        Self {
            namespaces: Set::of(subject.namespace_labels.get(NAMESPACE_NAME)),
            programs: Set::of(subject.argv.first()),
            kinds: bit(subject.kind as u8),
            actors: bit(Actor::of(subject.user) as u8),
            interactive: bit(interactive),
        }
    }

    /// Whether a policy may apply to an interaction. If not, one of its conditions does not hold.
    pub(super) fn may_apply(&self, subject: &Self) -> bool {
        self.kinds & subject.kinds != 0
            && self.actors & subject.actors != 0
            && self.interactive & subject.interactive != 0
            && self.namespaces.may_share(subject.namespaces)
            && self.programs.may_share(subject.programs)
    }
}

fn bit(at: u8) -> u8 {
    1 << at
}

/// The namespaces that a selector can select, by their name.
fn namespaces(selector: &Selector) -> Set {
    let exact = selector.match_labels.get(NAMESPACE_NAME);
    let listed = selector.match_expressions.iter().find(|requirement| {
        requirement.key == NAMESPACE_NAME && requirement.operator == Operator::In
    });
    match (exact, listed) {
        (Some(name), _) => Set::of([name]),
        (None, Some(requirement)) => Set::of(&requirement.values),
        (None, None) => Set::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_members() {
        let names: Vec<_> = (0..20).map(|n| format!("name-{n}")).collect();
        let all = Set::of(&names);
        assert!(names.iter().all(|name| all.may_share(Set::of([name]))));
        assert!(!all.may_share(Set(0)) && Set::ALL.may_share(Set(0)));
        assert!(!Set::of::<&str>([]).may_share(all));
        let strangers = (0..1_000).filter(|n| all.may_share(Set::of([format!("other-{n}")])));
        assert!(strangers.count() < 400);
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Prefilter>(), 24);
    }
}
