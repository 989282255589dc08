//! What of a source tree is applied, which depends on the Kubernetes that it is applied to.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{kubernetes::Minor, layout::Checkout, state};

/// The folder to apply for an overlay in `manifests/overlays`: the overlay itself, or one that adds the component
/// `legacy` to it, as people do where agents cannot act as their nodes.
///
/// # Errors
/// When the source tree has no such overlay or component.
pub fn overlay(checkout: &Checkout, name: &str, minor: Minor) -> Result<PathBuf> {
    let manifests = checkout.root().join("manifests");
    let present = |path: PathBuf| {
        ensure!(path.is_dir(), "{} does not exist", path.display());
        Ok(path)
    };
    let overlay = present(manifests.join("overlays").join(name))?;
    if minor.agents_act_as_nodes() {
        return Ok(overlay);
    }
    present(manifests.join("components/legacy"))?;
    let folder = checkout.cluster_dir().join("overlays").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    // kustomize takes relative paths only.
    let root = "../../../..";
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [{root}/manifests/overlays/{name}]\n\
         components: [{root}/manifests/components/legacy]\n"
    );
    state::replace(&folder.join("kustomization.yaml"), kustomization.as_bytes())?;
    Ok(folder)
}
