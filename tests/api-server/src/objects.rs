//! The objects there are, and how they changed. No I/O and no clock.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::request::{Asked, Target};

/// One change of one object, with the version that it brought.
#[derive(Debug)]
pub(crate) struct Change {
    version: u64,
    resource: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// All objects and their history.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    version: u64,
    objects: BTreeMap<Target, Value>,
    changes: Vec<Change>,
}

/// Which objects a list or a watch is about.
#[derive(Debug)]
pub(crate) struct Selection {
    resource: String,
    namespace: String,
    fields: String,
    labels: String,
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let value = object.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_default()
}

impl Selection {
    pub(crate) fn of(asked: &Asked) -> Self {
        let mut fields = asked.parameter("fieldSelector");
        if !asked.target.name.is_empty() {
            fields = format!("metadata.name={}", asked.target.name);
        }
        Self {
            resource: asked.target.resource.clone(),
            namespace: asked.target.namespace.clone(),
            fields,
            labels: asked.parameter("labelSelector"),
        }
    }

    fn selects(&self, object: &Value) -> bool {
        let namespace = text(object, "/metadata/namespace");
        (self.namespace.is_empty() || self.namespace == namespace)
            && hold(&self.fields, |path| {
                Some(text(object, &format!("/{}", path.replace('.', "/"))))
            })
            && hold(&self.labels, |key| {
                object["metadata"]["labels"][key].as_str()
            })
    }
}

/// Whether all conditions of a selector hold, by what each key stands for.
fn hold<'a>(conditions: &str, value: impl Fn(&str) -> Option<&'a str>) -> bool {
    assert!(
        !conditions.contains('('),
        "this server knows no set-based selectors: {conditions}"
    );
    let mut conditions = conditions.split(',').filter(|one| !one.is_empty());
    conditions.all(|condition| match condition.split_once('=') {
        Some((key, wanted)) => match key.strip_suffix('!') {
            Some(key) => value(key) != Some(wanted),
            None => value(key) == Some(wanted.trim_start_matches('=')),
        },
        None => match condition.strip_prefix('!') {
            Some(key) => value(key).is_none(),
            None => value(condition).is_some(),
        },
    })
}

impl Objects {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The object of which the target may also name a subresource.
    pub(crate) fn get(&self, target: &Target) -> Option<&Value> {
        let Target {
            resource,
            namespace,
            name,
            ..
        } = target;
        self.objects.get(&Target::object(resource, namespace, name))
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let objects = self.objects.iter();
        let objects = objects.filter(|(target, _)| target.resource == resource);
        objects.map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn list(&self, selection: &Selection) -> Vec<Value> {
        let mut all = self.all(&selection.resource);
        all.retain(|object| selection.selects(object));
        all
    }

    /// Makes or replaces an object. It gets the next version, or the one that it has if that is later.
    pub(crate) fn put(&mut self, resource: &str, mut object: Value) -> Value {
        let meta = |name: &str| text(&object, &format!("/metadata/{name}")).to_owned();
        let target = Target::object(resource, &meta("namespace"), &meta("name"));
        let given = meta("resourceVersion").parse().unwrap_or(0);
        self.version = given.max(self.version + 1);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.objects.insert(target, object.clone());
        self.note(resource, before, Some(object.clone()));
        object
    }

    pub(crate) fn remove(&mut self, target: &Target) -> Option<Value> {
        let object = self.objects.remove(target)?;
        self.version += 1;
        self.note(&target.resource, Some(object.clone()), None);
        Some(object)
    }

    fn note(&mut self, resource: &str, before: Option<Value>, after: Option<Value>) {
        self.changes.push(Change {
            version: self.version,
            resource: resource.to_owned(),
            before,
            after,
        });
    }

    /// The type and the object of each event of a watch since this version. What leaves the selection is deleted,
    /// for that watch.
    pub(crate) fn events(&self, selection: &Selection, since: u64) -> Vec<(&'static str, Value)> {
        let news = self
            .changes
            .iter()
            .filter(|change| change.version > since && change.resource == selection.resource);
        news.filter_map(|change| {
            let of = |object: &Option<Value>| object.clone().filter(|one| selection.selects(one));
            match (of(&change.before), of(&change.after)) {
                (None, None) => None,
                (None, Some(after)) => Some(("ADDED", after)),
                (Some(_), Some(after)) => Some(("MODIFIED", after)),
                (Some(mut before), None) => {
                    before["metadata"]["resourceVersion"] = json!(change.version.to_string());
                    Some(("DELETED", before))
                }
            }
        })
        .collect()
    }
}
