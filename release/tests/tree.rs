//! That the source tree is as releases expect it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use curfew_release::version;
use semver::Version;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_version_is_set_everywhere() -> Result<()> {
    let copy = tempfile::tempdir()?;
    for file in version::FILES.into_iter().chain(["Cargo.toml"]) {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::copy(root().join(file), to)?;
    }
    let present = version::current(&root())?;
    assert_eq!(present.to_string(), env!("CARGO_PKG_VERSION"));
    let new = Version::new(91, 92, 93);
    version::set_in_files(copy.path(), &present, &new)?;
    assert_eq!(version::current(copy.path())?, new);
    for (file, times) in [
        ("manifests/base/agent.yaml", 1),
        ("manifests/base/webhook.yaml", 1),
        ("manifests/base/kustomization.yaml", 1),
        ("manifests/chart/Chart.yaml", 2),
    ] {
        let text = fs::read_to_string(copy.path().join(file))?;
        assert_eq!(text.matches("91.92.93").count(), times, "{file}");
    }
    Ok(())
}

/// All lines of shell in the workflows.
fn lines() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(root().join(".github/workflows"))? {
        let workflow: Value = serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
        let jobs = workflow["jobs"].as_object().context("jobs")?;
        for step in jobs
            .values()
            .flat_map(|job| job["steps"].as_array())
            .flatten()
        {
            let run = step["run"].as_str().unwrap_or_default();
            lines.extend(run.lines().map(str::to_owned));
            if let Some(action) = step["uses"].as_str() {
                assert!(action.contains("@v"), "{action} has no version");
            }
        }
    }
    Ok(lines)
}

#[test]
fn workflows_use_targets_that_exist() -> Result<()> {
    let makefile = fs::read_to_string(root().join("Makefile"))?;
    let targets: BTreeSet<_> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    let mut used = BTreeSet::new();
    for line in lines()? {
        let mut words = line.split_whitespace();
        if words.any(|word| word == "make") {
            let target = words.next().unwrap_or_default().to_owned();
            assert!(targets.contains(target.as_str()), "{line}");
            used.insert(target);
        }
    }
    assert_eq!(
        used,
        BTreeSet::from(["deny".to_owned(), "release".to_owned()])
    );
    Ok(())
}
