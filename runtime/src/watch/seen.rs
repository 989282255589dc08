//! What a watch has shown, by which a list is seen to differ from it. Sixteen bytes an object.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use kube::Resource;

/// The versions of objects, as digests: they are only ever compared for being the same.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u64, u64>);

impl Seen {
    pub(super) fn insert(&mut self, object: &impl Resource) {
        let version = digest(&object.meta().resource_version);
        self.0.insert(key(object), version);
    }

    pub(super) fn remove(&mut self, object: &impl Resource) {
        self.0.remove(&key(object));
    }

    /// How many objects a later list shows otherwise, which includes those that it has alone and those that it
    /// does not have.
    pub(super) fn differences(&self, later: &Self) -> usize {
        let differ = later
            .0
            .iter()
            .filter(|(key, version)| self.0.get(key) != Some(version));
        let gone = self.0.keys().filter(|key| !later.0.contains_key(key));
        differ.count() + gone.count()
    }
}

fn key(object: &impl Resource) -> u64 {
    let meta = object.meta();
    match &meta.uid {
        Some(uid) => digest(uid),
        None => digest(&(&meta.namespace, &meta.name)),
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
