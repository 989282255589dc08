//! JSON schemas of the objects of Kubernetes, for kubeconform. It usually downloads them; here they are made from the
//! OpenAPI description in the pinned Kubernetes module, and for Curfew's own kinds from its CustomResourceDefinition.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use curfew_cluster::run;
use serde_json::{Map, Value, json};

use crate::objects::Objects;

/// What kubeconform is to call the files.
pub const TEMPLATE: &str = "{{ .ResourceKind }}-{{ .Group }}-{{ .ResourceAPIVersion }}.json";
const KINDS: &str = "x-kubernetes-group-version-kind";
const PREFIX: &str = "#/definitions/";

/// The OpenAPI description of the Kubernetes of the test cluster.
///
/// # Errors
/// When the module cannot be downloaded.
pub fn description(root: &Path) -> Result<Value> {
    let mut go = Command::new("go");
    go.args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])
        .current_dir(root.join("tests/cluster/kube"));
    let version = run::output(&mut go)?;
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json"])
        .arg(format!("k8s.io/kubernetes@{}", version.trim()));
    let module: Value = serde_json::from_str(&run::output(&mut go)?)?;
    let folder = module["Dir"].as_str().context("the module is nowhere")?;
    let file = PathBuf::from(folder).join("api/openapi-spec/swagger.json");
    let text =
        fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Writes the schema of each of these kinds into a folder, one that allows no unknown field.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, description: &Value, objects: &Objects) -> Result<()> {
    let definitions = description["definitions"]
        .as_object()
        .context("an OpenAPI description has definitions")?;
    let mut schemas = of_definitions(objects);
    for (name, definition) in definitions {
        for kind in definition[KINDS].as_array().into_iter().flatten() {
            let field = |name: &str| kind[name].as_str().unwrap_or_default();
            let key = key(field("group"), field("version"), field("kind"));
            schemas.insert(key, alone(name, definitions));
        }
    }
    for object in objects.values() {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let key = key(group, version, object["kind"].as_str().unwrap_or_default());
        if let Some(schema) = schemas.get(&key) {
            fs::write(folder.join(key), schema.to_string())?;
        }
    }
    Ok(())
}

/// The name of a file. In [`TEMPLATE`], the version of a kind without a group is its group, too.
fn key(group: &str, version: &str, kind: &str) -> String {
    let group = if group.is_empty() { version } else { group };
    format!("{}-{group}-{version}.json", kind.to_lowercase())
}

/// The schemas in CustomResourceDefinitions.
fn of_definitions(objects: &Objects) -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    for spec in objects.values().map(|object| &object["spec"]) {
        for version in spec["versions"].as_array().into_iter().flatten() {
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            // These stand in no CustomResourceDefinition.
            for (name, kind) in [
                ("apiVersion", "string"),
                ("kind", "string"),
                ("metadata", "object"),
            ] {
                schema["properties"][name] = json!({"type": kind});
            }
            strict(&mut schema);
            let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (group, kind) = (field(&spec["group"]), field(&spec["names"]["kind"]));
            schemas.insert(key(&group, &field(&version["name"]), &kind), schema);
        }
    }
    schemas
}

/// A definition with all others that it refers to.
fn alone(name: &str, all: &Map<String, Value>) -> Value {
    let mut needed = Map::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        if needed.contains_key(&name) {
            continue;
        }
        let Some(definition) = all.get(&name) else {
            continue;
        };
        let mut definition = definition.clone();
        strict(&mut definition);
        if definition["format"] == "int-or-string" {
            definition = json!({"type": ["integer", "string"]});
        }
        references(&definition, &mut open);
        needed.insert(name, definition);
    }
    json!({"$ref": format!("{PREFIX}{name}"), "definitions": needed})
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            // A field may have this name, too.
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                found.extend(name.strip_prefix(PREFIX).map(str::to_owned));
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Forbids unknown fields.
fn strict(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    let is_open = [
        "additionalProperties",
        "x-kubernetes-preserve-unknown-fields",
    ];
    if fields.contains_key("properties") && !is_open.iter().any(|name| fields.contains_key(*name)) {
        fields.insert("additionalProperties".to_owned(), false.into());
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(strict);
    }
    for name in ["items", "additionalProperties"] {
        fields.get_mut(name).into_iter().for_each(strict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_stands_alone_and_is_strict() {
        let all = json!({
            "a": {"properties": {
                "b": {"$ref": "#/definitions/b"},
                "properties": {"additionalProperties": {"properties": {"x": {}}}},
            }},
            "b": {"format": "int-or-string", "type": "string"},
            "c": {},
        });
        let schema = alone("a", all.as_object().unwrap());
        assert_eq!(schema["$ref"], "#/definitions/a");
        let a = &schema["definitions"]["a"];
        assert_eq!(a["additionalProperties"], false);
        let named = &a["properties"]["properties"]["additionalProperties"];
        assert_eq!(named["additionalProperties"], false);
        assert_eq!(
            schema["definitions"]["b"]["type"],
            json!(["integer", "string"])
        );
        assert!(schema["definitions"].get("c").is_none());
    }

    #[test]
    fn kinds_without_a_group_are_named_as_kubeconform_names_them() {
        assert_eq!(key("", "v1", "Namespace"), "namespace-v1-v1.json");
        assert_eq!(key("apps", "v1", "Deployment"), "deployment-apps-v1.json");
    }
}
