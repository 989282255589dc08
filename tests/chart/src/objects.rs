//! Objects of manifests, by name, and how two sets of them differ.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Objects by kind, namespace and name.
pub type Objects = BTreeMap<String, Value>;

/// The annotation by which Helm leaves an object alone.
const POLICY: &str = "helm.sh/resource-policy";

/// Reads the objects of a text.
///
/// # Errors
/// When it is no YAML, or an object has no name or stands there twice.
pub fn read(text: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let kind = field("/kind").with_context(|| format!("no kind: {object}"))?;
        let name = field("/metadata/name").with_context(|| format!("no name: {object}"))?;
        let namespace = field("/metadata/namespace").unwrap_or_default();
        let key = format!("{kind} {namespace}/{name}");
        ensure!(
            objects.insert(key.clone(), object).is_none(),
            "{key} stands there twice"
        );
    }
    Ok(objects)
}

/// Removes what has a meaning for Helm only, and returns the names of the objects that Helm keeps.
pub fn take_kept(objects: &mut Objects) -> Vec<String> {
    let mut kept = Vec::new();
    for (name, object) in objects {
        // No index: it would add what is not there.
        let annotations = object.pointer_mut("/metadata/annotations");
        let Some(annotations) = annotations.and_then(Value::as_object_mut) else {
            continue;
        };
        if annotations
            .remove(POLICY)
            .is_some_and(|value| value == "keep")
        {
            kept.push(name.clone());
        }
        if annotations.is_empty()
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
    }
    kept
}

/// Sorts the environment of each container: nothing depends on its order.
pub fn sort_environments(objects: &mut Objects) {
    for object in objects.values_mut() {
        let containers = object.pointer_mut("/spec/template/spec/containers");
        let containers = containers.and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
                env.sort_by_key(|variable| variable["name"].to_string());
            }
        }
    }
}

/// Where two sets differ, a line each.
pub fn differences(ours: &Objects, theirs: &Objects) -> Vec<String> {
    let mut lines = Vec::new();
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        lines.push(format!("only in the first: {name}"));
    }
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        lines.push(format!("only in the second: {name}"));
    }
    for (name, one) in ours {
        if let Some(other) = theirs.get(name) {
            compare(name, Some(one), Some(other), &mut lines);
        }
    }
    lines
}

fn compare(path: &str, one: Option<&Value>, other: Option<&Value>, lines: &mut Vec<String>) {
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let all: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in all {
                compare(
                    &format!("{path}.{key}"),
                    one.get(key),
                    other.get(key),
                    lines,
                );
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for at in 0..one.len().max(other.len()) {
                compare(&format!("{path}[{at}]"), one.get(at), other.get(at), lines);
            }
        }
        _ if one == other => {}
        _ => {
            let shown = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            lines.push(format!("{path}: {} and {}", shown(one), shown(other)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "kind: A\nmetadata: {name: a}\nspec: {x: [1, 2]}\n---\nkind: B\nmetadata: {name: b}\n";

    #[test]
    fn every_difference_is_a_line() -> Result<()> {
        let one = read(ONE)?;
        assert_eq!(differences(&one, &one), Vec::<String>::new());
        let other = read("kind: A\nmetadata: {name: a}\nspec: {x: [1], y: 1}\n")?;
        assert_eq!(
            differences(&one, &other),
            [
                "only in the first: B /b",
                "A /a.spec.x[1]: 2 and nothing",
                "A /a.spec.y: nothing and 1"
            ]
        );
        Ok(())
    }

    #[test]
    fn an_object_may_not_stand_there_twice() {
        assert!(read("kind: A\nmetadata: {name: a}\n---\nkind: A\nmetadata: {name: a}\n").is_err());
    }

    #[test]
    fn what_helm_keeps_is_told_and_taken_out() -> Result<()> {
        let mut objects = read(
            "kind: A\nmetadata: {name: a, annotations: {helm.sh/resource-policy: keep}}\n---\n\
             kind: B\nmetadata: {name: b, annotations: {other: x}}\n",
        )?;
        assert_eq!(take_kept(&mut objects), ["A /a"]);
        assert!(objects["A /a"]["metadata"].get("annotations").is_none());
        assert_eq!(objects["B /b"]["metadata"]["annotations"]["other"], "x");
        let before = read("kind: C\nmetadata: {name: c}\n")?;
        let mut after = before.clone();
        assert!(take_kept(&mut after).is_empty());
        assert_eq!(after, before);
        Ok(())
    }
}
