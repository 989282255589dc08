//! The writable layer of a container, where overlayfs keeps it.

use rustix::{fd::OwnedFd, io};

use crate::{folder::open_in_root, mountinfo::Mount, shown::shown};

/// The most layers of an image that are opened.
const MAX_LAYERS: usize = 256;

/// A writable layer, and the layers of the image below it.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) upper: OwnedFd,
    pub(crate) lower: Vec<OwnedFd>,
}

/// What is mounted at the container's root.
pub(crate) fn root(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rfind(|mount| mount.point == b"/")
}

/// Opens the layer of a container with this root below the root of the node, or says why it is not seen.
pub(crate) fn open(
    root: Option<&Mount>,
    node: io::Result<OwnedFd>,
) -> Result<Option<Layer>, String> {
    let root = root.ok_or("the container's root is not known")?;
    if root.kind != b"overlay" {
        let kind = shown(&root.kind);
        return Err(format!(
            "the runtime's snapshotter is {kind}, not overlayfs"
        ));
    }
    let Some(upper) = root.option("upperdir") else {
        // An overlay without a writable layer: nobody can write to it.
        return Ok(None);
    };
    let node = node.map_err(|error| format!("the node's files cannot be read: {error}"))?;
    let upper = open_in_root(&node, &upper)
        .map_err(|error| format!("the writable layer cannot be read: {error}"))?;
    let lower = root.lower();
    let lower = lower.iter().take(MAX_LAYERS);
    Ok(Some(Layer {
        upper,
        // One that cannot be opened has its files called added instead of changed.
        lower: lower
            .filter_map(|path| open_in_root(&node, path).ok())
            .collect(),
    }))
}
