//! What each request does to the objects. No I/O and no clock.

use axum::http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::{
    answer::failure,
    objects::{Objects, Selection, text},
    request::Asked,
};

/// A status code and a body.
pub(crate) type Reply = (u16, Value);

/// The model has no clock: this is when everything is deleted.
const DELETED: &str = "2027-01-15T08:00:00Z";

fn failed(code: u16, message: &str) -> Reply {
    (code, failure(code, message))
}

impl Objects {
    /// Answers all but watches.
    pub(crate) fn carry_out(&mut self, asked: &Asked) -> Reply {
        let Asked {
            method,
            target,
            body,
            ..
        } = asked;
        if target.name.is_empty() {
            return match method.as_str() {
                "GET" => (200, self.list_object(asked)),
                "POST" => self.create(asked),
                _ => failed(
                    405,
                    "the server does not allow this method on the requested resource",
                ),
            };
        }
        let Some(object) = self.get(target).cloned() else {
            if method == "PATCH"
                && asked.header(CONTENT_TYPE.as_str()) == ["application/apply-patch+yaml"]
            {
                return self.create(asked);
            }
            let missing = format!("{} {:?} not found", target.resource, target.name);
            return failed(404, &missing);
        };
        match (method.as_str(), target.subresource.as_str()) {
            ("GET", "" | "status" | "approval") => (200, object),
            ("PUT" | "PATCH", "" | "status" | "approval") => self.change(asked, object),
            ("DELETE", "") => self.delete(asked, object),
            ("POST", "eviction") => self.evict(object, body),
            _ => failed(404, "the server could not find the requested resource"),
        }
    }

    fn list_object(&self, asked: &Asked) -> Value {
        let items = self.list(&Selection::of(asked));
        // kubectl and kube ask for the metadata alone in this way; that the rest is sent does no harm.
        let accept = asked.header("accept").concat();
        let (kind, version) = match accept.contains("as=PartialObjectMetadataList") {
            true => ("PartialObjectMetadataList", "meta.k8s.io/v1"),
            false => ("List", "v1"),
        };
        json!({"kind": kind, "apiVersion": version, "items": items,
               "metadata": {"resourceVersion": self.version().to_string()}})
    }

    fn create(&mut self, asked: &Asked) -> Reply {
        let mut target = asked.target.clone();
        let mut object = asked.body.clone();
        if target.name.is_empty() {
            target.name = match text(&object, "/metadata/name") {
                "" => match text(&object, "/metadata/generateName") {
                    "" => {
                        return failed(
                            422,
                            "metadata.name: Required value: name or generateName is required",
                        );
                    }
                    prefix => format!("{prefix}{}", self.version() + 1),
                },
                name => name.to_owned(),
            };
        }
        if self.get(&target).is_some() {
            let mut exists = failure(
                409,
                &format!("{} {:?} already exists", target.resource, target.name),
            );
            exists["reason"] = json!("AlreadyExists");
            return (409, exists);
        }
        object["metadata"]["name"] = json!(target.name);
        if !target.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(target.namespace);
        }
        if text(&object, "/metadata/uid").is_empty() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version() + 1));
        }
        (201, self.put(&target.resource, object))
    }

    /// PUT, or any PATCH, which is taken as a JSON Merge Patch.
    fn change(&mut self, asked: &Asked, object: Value) -> Reply {
        if mismatch(&asked.body, "/metadata", &object).is_some() {
            return failed(
                409,
                "the object has been modified; please apply your changes to the latest version and try again",
            );
        }
        let mut changed = object.clone();
        if asked.method == "PATCH" {
            json_patch::merge(&mut changed, &asked.body);
        } else {
            changed = asked.body.clone();
            for name in ["uid", "resourceVersion", "namespace"] {
                if !object["metadata"][name].is_null() {
                    changed["metadata"][name] = object["metadata"][name].clone();
                }
            }
        }
        if !asked.target.subresource.is_empty() {
            let status = changed["status"].take();
            changed = object.clone();
            changed["status"] = status;
        }
        match changed == object {
            true => (200, object),
            false => (200, self.put(&asked.target.resource, changed)),
        }
    }

    /// A pod ends when its grace period does; everything else is gone at once.
    fn delete(&mut self, asked: &Asked, mut object: Value) -> Reply {
        if let Some(why) = mismatch(&asked.body, "/preconditions", &object) {
            return failed(409, &why);
        }
        if asked.target.resource != "pods" {
            self.remove(&asked.target);
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(DELETED);
            object = self.put("pods", object);
        }
        (200, object)
    }

    /// The pod is on its way out; the server removes it at the end of its grace period.
    fn evict(&mut self, mut pod: Value, eviction: &Value) -> Reply {
        if let Some(why) = mismatch(eviction, "/deleteOptions/preconditions", &pod) {
            return failed(409, &why);
        }
        let dry_run = eviction.pointer("/deleteOptions/dryRun") == Some(&json!(["All"]));
        if pod["metadata"]["deletionTimestamp"].is_null() && !dry_run {
            // Two writes, as the true one does it.
            let why = json!({"type": "DisruptionTarget", "status": "True",
                             "reason": "EvictionByEvictionAPI"});
            match &mut pod["status"]["conditions"] {
                Value::Array(conditions) => conditions.push(why),
                conditions => *conditions = json!([why]),
            }
            self.put("pods", pod.clone());
            pod["metadata"]["deletionTimestamp"] = json!(DELETED);
            self.put("pods", pod);
        }
        let success =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201});
        (201, success)
    }
}

/// Why a request is meant for another object or another version of it, in the API server's words. `place` is where the
/// request has the UID and the version that it wants.
fn mismatch(body: &Value, place: &str, object: &Value) -> Option<String> {
    for (name, field, meaning) in [
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ] {
        let pointer = format!("{place}/{name}");
        let (wanted, found) = (
            text(body, &pointer),
            text(&object["metadata"], &format!("/{name}")),
        );
        if body.pointer(&pointer).is_some() && wanted != found {
            return Some(format!(
                "the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). \
                 The object might have been {meaning}"
            ));
        }
    }
    None
}
