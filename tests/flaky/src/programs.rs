//! The test programs of the workspace, as cargo builds them.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A program with tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The package and, if that has several, which of its programs.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The package's folder, in which its tests run.
    pub(crate) folder: PathBuf,
}

/// Builds the tests of these packages; of all that need no cluster when there is none named.
pub(crate) fn build(packages: &[String]) -> Result<Vec<Program>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--no-run", "--message-format=json"]);
    match packages {
        [] => cargo.args(["--workspace", "--exclude", "curfew-e2e"]),
        _ => cargo.args(packages.iter().flat_map(|package| ["--package", package])),
    };
    let built = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    if !built.status.success() {
        bail!("the tests cannot be built: run `cargo test --no-run`");
    }
    let programs: Vec<_> = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(program)
        .collect();
    if programs.is_empty() {
        bail!("there are no tests");
    }
    Ok(programs)
}

/// The program of which a line of cargo's tells, if it tells of one with tests.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let folder = PathBuf::from(message["manifest_path"].as_str()?);
    let folder = folder.parent()?.to_owned();
    let package = folder.file_name()?.to_str()?.to_owned();
    let target = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    // It would only run each function once, and it counts no tests.
    if kind == "bench" {
        return None;
    }
    Some(Program {
        name: match kind {
            "lib" => package,
            _ => format!("{package} {kind} {target}"),
        },
        path,
        folder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_with_tests_are_taken() {
        let line = |kind: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/src/agent/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"store"}},"profile":{{"test":{test}}},
                "executable":{executable}}}"#
            )
        };
        let of_lib = program(&line("lib", true, r#""/target/x""#)).unwrap();
        assert_eq!(of_lib.name, "agent");
        assert_eq!(of_lib.path, PathBuf::from("/target/x"));
        assert_eq!(of_lib.folder, PathBuf::from("/src/agent"));
        let of_test = program(&line("test", true, r#""/target/y""#)).unwrap();
        assert_eq!(of_test.name, "agent test store");
        assert_eq!(program(&line("bench", true, r#""/target/z""#)), None);
        assert_eq!(program(&line("bin", false, r#""/target/z""#)), None);
        assert_eq!(program(&line("lib", true, "null")), None);
        assert_eq!(program("{\"reason\":\"build-finished\"}"), None);
        assert_eq!(program("no JSON"), None);
    }
}
