//! The images: each an archive of an OCI layout, with an index of all platforms.

use std::path::Path;

use anyhow::{Result, bail};
use curfew_cluster::{
    images::{bud, buildah},
    run,
};

use crate::{archive, binaries::Built, source::Source};

/// Where the images are to be found.
pub const REGISTRY: &str = "ghcr.io/curfew-dev";

/// Makes the image of a program of all these platforms, and packs it.
///
/// # Errors
/// When buildah fails.
pub fn make(source: &Source, name: &str, programs: &[Built], output: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the images need root: buildah writes files that belong to root");
    }
    let reference = format!("{REGISTRY}/{name}:{}", source.version);
    forget(&reference);
    run::check(buildah(&["manifest", "create"])?.arg(&reference))?;
    for built in programs {
        let target = name.trim_start_matches("curfew-");
        let mut bud = bud(&source.path("Containerfile"), target, &source.epoch())?;
        bud.arg("--identity-label=false").arg(format!(
            "--platform={}/{}",
            built.platform.os, built.platform.arch
        ));
        for (label, value) in [
            ("version", source.version.to_string()),
            ("revision", source.commit.clone()),
            ("created", source.time.to_string()),
        ] {
            bud.arg("--label")
                .arg(format!("org.opencontainers.image.{label}={value}"));
        }
        bud.args(["--manifest", &reference]);
        run::check(bud.arg(&built.folder))?;
    }
    let scratch = source.scratch()?;
    let layout = format!("oci:{}:{reference}", scratch.path().display());
    let mut push = buildah(&["manifest", "push"])?;
    push.args(["--all", "--quiet", "--format=oci", &reference, &layout]);
    run::check(&mut push)?;
    forget(&reference);
    let archive = output.join(format!("{name}-{}.oci.tar", source.version));
    archive::pack(
        source,
        scratch.path(),
        &["blobs", "index.json", "oci-layout"],
        &archive,
    )
}

/// Removes what is left of a run, of this one or of one that was broken off.
fn forget(reference: &str) {
    for (command, arguments) in [
        (&["manifest", "rm"][..], &[reference][..]),
        (&["rmi"], &["--prune", "--force"]),
    ] {
        drop(buildah(command).map(|mut buildah| run::check(buildah.args(arguments))));
    }
}
