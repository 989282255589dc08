//! The policies of `manifests/examples/policies`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use curfew_core::policy::Spec;
use curfew_e2e::TestCluster;
use serde_json::Value;

#[tokio::test]
async fn every_example_is_valid() {
    valid().await.unwrap();
}

async fn valid() -> Result<()> {
    let cluster = TestCluster::connect().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/examples/policies");
    let folder = folder.to_str().context("the path is no text")?;
    // Only asked for: they would apply to what other tests do.
    let args = ["apply", "--dry-run=server", "-f", folder, "-o", "json"];
    let list: Value = serde_json::from_str(&cluster.kubectl().ok(&args).await?)?;
    let items = list["items"].as_array().context("no list")?;
    let names: Vec<_> = items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    for expected in ["ci-runners", "operators", "backup-hooks", "terminals"] {
        ensure!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    for item in items {
        let spec: Spec = serde_json::from_value(item["spec"].clone())?;
        spec.check()
            .with_context(|| item["metadata"]["name"].to_string())?;
    }
    Ok(())
}
