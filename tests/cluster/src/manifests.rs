//! What of a source tree is applied, which depends on the Kubernetes that it is applied to.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{kubernetes::Minor, layout::Checkout, state};

/// The folder to apply for an overlay in `manifests/overlays`: the overlay itself, or one that adds the component
/// `legacy` to it, as people do where agents cannot act as their nodes.
///
/// # Errors
/// When the source tree has no such overlay or component.
pub fn overlay(checkout: &Checkout, name: &str, minor: Minor) -> Result<PathBuf> {
    let manifests = checkout.root().join("manifests");
    let overlay = manifests.join("overlays").join(name);
    let legacy = manifests.join("components/legacy");
    for needed in [&overlay, &legacy] {
        if !needed.is_dir() && (needed == &overlay || !minor.agents_act_as_nodes()) {
            bail!("{} does not exist", needed.display());
        }
    }
    if minor.agents_act_as_nodes() {
        return Ok(overlay);
    }
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
