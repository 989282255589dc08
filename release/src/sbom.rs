//! What the programs are made of: a CycloneDX document for each.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use curfew_cluster::{cargo_tools, run};
use serde_json::{Value, json};

use crate::source::Source;

/// The packages, each with its folder and the target whose dependencies are listed.
const PACKAGES: [(&str, &str, &str); 3] = [
    ("curfew-agent", "agent", "x86_64-unknown-linux-gnu"),
    ("curfew-webhook", "webhook", "x86_64-unknown-linux-gnu"),
    // It is built for several systems.
    ("kubectl-pi", "kubectl-pi", "all"),
];

/// Writes the documents.
///
/// # Errors
/// When the tool cannot be built or fails.
pub fn write(source: &Source, output: &Path) -> Result<()> {
    let program = cargo_tools::CYCLONEDX.ensure()?;
    for (package, folder, target) in PACKAGES {
        let mut cyclonedx = Command::new(&program);
        cyclonedx.args([
            "cyclonedx",
            "--format=json",
            "--spec-version=1.5",
            "--target",
            target,
        ]);
        cyclonedx
            .arg("--manifest-path")
            .arg(source.path(folder).join("Cargo.toml"))
            .current_dir(source.tree.root())
            .env("SOURCE_DATE_EPOCH", source.epoch());
        run::check(&mut cyclonedx)?;
        let made = source.path(folder).join(format!("{package}.cdx.json"));
        let text = fs::read_to_string(&made)
            .with_context(|| format!("{} was not written", made.display()))?;
        let document = normalised(serde_json::from_str(&text)?, source);
        let name = format!("{package}-{}.cdx.json", source.version);
        let text = serde_json::to_string_pretty(&document)? + "\n";
        fs::write(output.join(&name), text).with_context(|| format!("{name} cannot be written"))?;
    }
    Ok(())
}

/// The same for every run: without a random number, with the time of the commit, and without the path of the build.
fn normalised(mut document: Value, source: &Source) -> Value {
    if let Some(fields) = document.as_object_mut() {
        fields.remove("serialNumber");
    }
    document["metadata"]["timestamp"] = json!(source.time.to_string());
    let root = format!("file://{}", source.tree.root().display());
    without_path(&mut document, &root);
    document
}

fn without_path(value: &mut Value, root: &str) {
    match value {
        Value::String(text) if text.contains(root) => *text = text.replace(root, "file:///curfew"),
        Value::Array(items) => items.iter_mut().for_each(|item| without_path(item, root)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| without_path(field, root)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_build_is_gone_everywhere() {
        let mut value = json!({"a": ["path+file:///x/y/core#0.1.0", {"b": "file:///x/y"}], "c": 1});
        without_path(&mut value, "file:///x/y");
        assert_eq!(
            value,
            json!({"a": ["path+file:///curfew/core#0.1.0", {"b": "file:///curfew"}], "c": 1})
        );
    }
}
