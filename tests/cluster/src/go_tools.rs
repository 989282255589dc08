//! Programs that tests run on the manifests and the chart: Helm, kustomize and kubeconform. Debian does not have all of
//! them, so they are built from pinned Go modules.

use anyhow::Result;

use crate::{
    go_module::{GoModule, Source},
    layout::Checkout,
};

const SOURCE: Source = Source {
    directory: "tests/cluster/go-tools",
    files: &[],
    packages: "tool",
    programs: &["helm", "kubeconform", "kustomize"],
    cache: "go-tools",
    name: "helm, kubeconform and kustomize (once per machine; about five minutes on two cores)",
};

/// Builds them if need be.
///
/// # Errors
/// When they cannot be built.
pub fn ensure(checkout: &Checkout) -> Result<GoModule> {
    let module = GoModule::find(
        checkout.root(),
        SOURCE,
        "go.mod",
        |_| Ok("-s -w".to_owned()),
    )?;
    module.ensure()?;
    Ok(module)
}
