//! The objects of the scripted API server: versions, preconditions, watches' events, and what follows
//! from an eviction. No I/O and no clock.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a request is about, from its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Target {
    /// Reads paths such as `/api/v1/namespaces/shop/pods/cart-1/eviction`.
    pub(crate) fn parse(path: &str) -> Self {
        let mut parts = path.trim_matches('/').split('/');
        let group = parts.next() == Some("apis");
        let mut parts = parts.skip(if group { 2 } else { 1 }).peekable();
        let mut take = || parts.next().unwrap_or_default().to_owned();
        let mut target = Self {
            resource: take(),
            ..Self::default()
        };
        if target.resource == "namespaces" {
            target.namespace = take();
            target.resource = take();
        }
        target.name = take();
        target.subresource = take();
        target
    }
}

/// An object's place: resource, namespace, name.
type Key = (String, String, String);

/// An event of a watch, with the version that it brought.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) resource: String,
    pub(crate) kind: &'static str,
    pub(crate) object: Value,
}

/// A status code and a body.
pub(crate) type Reply = (u16, Value);

#[derive(Debug, Default)]
pub(crate) struct Model {
    version: u64,
    objects: BTreeMap<Key, Value>,
    pub(crate) changes: Vec<Change>,
}

/// A failure as the API server words it.
pub(crate) fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
           "reason": reason, "message": message})
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn key(target: &Target) -> Key {
    (
        target.resource.clone(),
        target.namespace.clone(),
        target.name.clone(),
    )
}

impl Model {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&key(target))
    }

    /// The objects of a resource that a field selector such as `spec.nodeName=node-1` selects.
    pub(crate) fn list(&self, resource: &str, selector: &str) -> Vec<Value> {
        let objects = self
            .objects
            .iter()
            .filter(|((of, ..), object)| of == resource && selects(selector, object));
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// Makes or replaces an object, which gets the next version.
    pub(crate) fn put(&mut self, resource: &str, mut object: Value) -> Value {
        let target = Target {
            resource: resource.to_owned(),
            namespace: text(&object, "/metadata/namespace").to_owned(),
            name: text(&object, "/metadata/name").to_owned(),
            ..Target::default()
        };
        let kind = if self.get(&target).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.note(kind, resource, &mut object);
        self.objects.insert(key(&target), object.clone());
        object
    }

    pub(crate) fn remove(&mut self, target: &Target) -> Option<Value> {
        let mut object = self.objects.remove(&key(target))?;
        self.note("DELETED", &target.resource, &mut object);
        Some(object)
    }

    fn note(&mut self, kind: &'static str, resource: &str, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.changes.push(Change {
            version: self.version,
            resource: resource.to_owned(),
            kind,
            object: object.clone(),
        });
    }

    /// Answers all but watches.
    pub(crate) fn answer(&mut self, method: &str, target: &Target, body: &Value) -> Reply {
        if method == "POST" && target.name.is_empty() {
            return (201, self.put(&target.resource, body.clone()));
        }
        let Some(object) = self.get(target).cloned() else {
            return (
                404,
                failure(
                    404,
                    &format!("{} {:?} not found", target.resource, target.name),
                ),
            );
        };
        match (method, target.subresource.as_str()) {
            ("GET", "") => (200, object),
            ("PATCH", "") => self.patch(&target.resource, object, body),
            ("POST", "eviction") => self.evict(object, body),
            _ => (405, failure(405, "not in this model")),
        }
    }

    fn patch(&mut self, resource: &str, object: Value, patch: &Value) -> Reply {
        for precondition in ["/metadata/uid", "/metadata/resourceVersion"] {
            if patch.pointer(precondition).is_some()
                && text(patch, precondition) != text(&object, precondition)
            {
                return (409, failure(409, "the object has been modified"));
            }
        }
        let mut patched = object.clone();
        merge(&mut patched, patch);
        match patched == object {
            true => (200, object),
            false => (200, self.put(resource, patched)),
        }
    }

    /// The pod is on its way out; it goes when [`Model::remove`] is called.
    fn evict(&mut self, mut pod: Value, eviction: &Value) -> Reply {
        // As Curfew's guard has it: the API server itself would evict whichever pod has the name.
        let Some(wanted) = eviction.pointer("/deleteOptions/preconditions/uid") else {
            return (400, failure(400, "the UID is missing"));
        };
        if *wanted != pod["metadata"]["uid"] {
            return (409, failure(409, "the UID in the precondition is another"));
        }
        if let Some(wanted) = eviction.pointer("/deleteOptions/preconditions/resourceVersion")
            && *wanted != pod["metadata"]["resourceVersion"]
        {
            let why = "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (2). \
                       The object might have been modified";
            return (409, failure(409, why));
        }
        if pod["metadata"]["deletionTimestamp"].is_null() {
            // Two writes, as the true one does it.
            let why = json!({"type": "DisruptionTarget", "status": "True",
                             "reason": "EvictionByEvictionAPI"});
            pod["status"]["conditions"]
                .as_array_mut()
                .unwrap()
                .push(why);
            self.put("pods", pod.clone());
            pod["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
            self.put("pods", pod);
        }
        let success =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201});
        (201, success)
    }
}

/// Whether a field selector with one condition, or none, selects the object.
pub(crate) fn selects(selector: &str, object: &Value) -> bool {
    match selector.split_once('=') {
        Some((path, value)) => text(object, &format!("/{}", path.replace('.', "/"))) == value,
        None => true,
    }
}

/// JSON Merge Patch (RFC 7386).
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}
