//! Images: built by buildah from static binaries, kept in the cache by content, imported into both nodes.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    go_module, layout,
    layout::{Checkout, NODES, Node},
    packages, progress, run, rust_binaries, state,
};

/// The image of the pause container.
pub const PAUSE: &str = "localhost/curfew-pause:e2e";
/// The image of the test workload.
pub const BUSYBOX: &str = "localhost/busybox:e2e";
/// How many archives of an image stay in the cache.
const KEPT: usize = 3;

/// An image in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub reference: String,
    /// What it was made of.
    pub key: String,
    archive: PathBuf,
}

/// `ctr` for one node's containerd.
pub fn ctr(node: Node) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address")
        .arg(node.containerd_socket())
        .args(["--namespace", "k8s.io"]);
    ctr
}

/// How to make one image.
struct Recipe<'a> {
    reference: &'a str,
    containerfile: &'a Path,
    target: &'a str,
    context: &'a Path,
}

impl Recipe<'_> {
    fn short_name(&self) -> &str {
        let name = self.reference.rsplit('/').next().unwrap_or(self.reference);
        name.split(':').next().unwrap_or(name)
    }

    /// Makes it of `inputs`, unless the same inputs made it before.
    fn ensure(&self, inputs: &[&Path], prepare: impl FnOnce() -> Result<()>) -> Result<Image> {
        let mut contents = vec![fs::read(self.containerfile)?];
        for input in inputs {
            contents.push(
                fs::read(input).with_context(|| format!("{} cannot be read", input.display()))?,
            );
        }
        let key = go_module::key(contents.iter().map(Vec::as_slice));
        let dir = layout::cache_dir()?.join("images");
        let archive = dir.join(format!("{}-{key}.tar", self.short_name()));
        let image = Image {
            reference: self.reference.to_owned(),
            key,
            archive,
        };
        if image.archive.exists() {
            return Ok(image);
        }
        fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        progress::step(&format!("Building the image {}", self.reference));
        prepare()?;
        self.build(&image.archive)?;
        forget_old(&dir, self.short_name());
        Ok(image)
    }

    fn build(&self, archive: &Path) -> Result<()> {
        // buildah remembers here where layers came from, wherever it is told to keep them.
        let memory = Path::new("/var/lib/containers");
        let had_memory = memory.exists();
        let mut bud = bud(self.containerfile, self.target, "0")?;
        bud.args(["--tag", self.reference]);
        run::check(bud.arg(self.context))?;
        let new = archive.with_extension("new");
        drop(fs::remove_file(&new));
        let mut push = buildah(&["push"])?;
        push.args(["--quiet", self.reference]).arg(format!(
            "oci-archive:{}:{}",
            new.display(),
            self.reference
        ));
        run::check(&mut push)?;
        run::check(buildah(&["rmi"])?.args(["--force", self.reference]))?;
        if !had_memory {
            drop(fs::remove_dir_all(memory));
        }
        fs::rename(new, archive).context("the image archive cannot be renamed")
    }
}

/// `buildah bud` of a target, whose files get this time, in seconds since 1970. The context is still to be given.
pub fn bud(containerfile: &Path, target: &str, time: &str) -> Result<Command> {
    let mut bud = buildah(&["bud"])?;
    bud.args([
        "--isolation=chroot",
        "--layers=false",
        "--quiet",
        "--pull=never",
    ]);
    bud.arg(format!("--timestamp={time}"))
        .args(["--target", target])
        .arg("--file")
        .arg(containerfile);
    Ok(bud)
}

/// `buildah` with a store of its own, and one of its commands.
pub fn buildah(command: &[&str]) -> Result<Command> {
    let store = layout::cache_dir()?.join("buildah");
    let policy = store.join("policy.json");
    if !policy.exists() {
        // Nothing is ever pulled; buildah wants to be told whom it would trust.
        state::replace(
            &policy,
            br#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )?;
    }
    let mut buildah = Command::new("buildah");
    buildah
        .arg("--root")
        .arg(store.join("root"))
        .arg("--runroot")
        .arg(layout::machine("buildah"));
    buildah.arg("--storage-driver=vfs").args(command);
    if matches!(command, ["bud" | "push"] | ["manifest", "push"]) {
        buildah.arg("--signature-policy").arg(policy);
    }
    Ok(buildah)
}

fn forget_old(dir: &Path, name: &str) {
    let prefix = format!("{name}-");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut archives: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect();
    archives.sort_by_key(|path| {
        std::cmp::Reverse(fs::metadata(path).and_then(|meta| meta.modified()).ok())
    });
    for old in archives.into_iter().skip(KEPT) {
        drop(fs::remove_file(old));
    }
}

/// The images that every cluster has: the pause container and the test workload.
pub fn build_test_images(checkout: &Checkout) -> Result<Vec<Image>> {
    let sources = checkout.root().join("tests/cluster/images");
    let containerfile = sources.join("Containerfile");
    let context = layout::machine("images");
    let busybox = packages::static_busybox()?;
    let pause = sources.join("pause.c");
    let recipe = |reference, target| Recipe {
        reference,
        containerfile: &containerfile,
        target,
        context: &context,
    };
    Ok(vec![
        recipe(PAUSE, "pause").ensure(&[&pause], || {
            fs::create_dir_all(&context)?;
            let mut cc = Command::new("cc");
            run::check(
                cc.args(["-Os", "-static", "-s", "-o"])
                    .arg(context.join("pause"))
                    .arg(&pause),
            )
        })?,
        recipe(BUSYBOX, "busybox").ensure(&[busybox], || {
            make_root(busybox, &context.join("busybox-root"))
        })?,
    ])
}

/// Lays out a root file system with every applet that this busybox has.
fn make_root(busybox: &Path, root: &Path) -> Result<()> {
    drop(fs::remove_dir_all(root));
    let bin = root.join("bin");
    for dir in ["bin", "etc", "root", "tmp", "var", "home"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy(busybox, bin.join("busybox")).context("busybox cannot be copied")?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    for applet in run::output(Command::new(busybox).arg("--list"))?
        .lines()
        .map(str::trim)
    {
        if !applet.is_empty() && applet != "busybox" {
            symlink("busybox", bin.join(applet))?;
        }
    }
    Ok(())
}

/// Curfew's own images.
pub fn build_curfew_images(checkout: &Checkout) -> Result<Vec<Image>> {
    let binaries = rust_binaries::build_static(checkout)?;
    let containerfile = checkout.root().join("Containerfile");
    let build = |binary: &&str| {
        let reference = format!("localhost/{binary}:e2e");
        let target = binary.trim_start_matches("curfew-");
        let recipe = Recipe {
            reference: &reference,
            containerfile: &containerfile,
            target,
            context: &binaries,
        };
        recipe.ensure(&[&binaries.join(binary)], || Ok(()))
    };
    rust_binaries::IN_IMAGES.iter().map(build).collect()
}

/// Brings images to both nodes, unless they are there.
pub fn import(images: &[Image]) -> Result<()> {
    for image in images {
        for node in NODES {
            let record = node.dir().join("images").join(&image.key);
            if fs::read_to_string(&record).is_ok_and(|reference| reference == image.reference) {
                continue;
            }
            progress::note(&format!(
                "importing {} into {}",
                image.reference,
                node.name()
            ));
            run::check(ctr(node).args(["images", "import"]).arg(&image.archive))?;
            forget_imported(node, &image.reference);
            state::replace(&record, image.reference.as_bytes())?;
        }
    }
    Ok(())
}

/// A reference names one image at a time: forget that it named another.
fn forget_imported(node: Node, reference: &str) {
    for record in fs::read_dir(node.dir().join("images"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if fs::read_to_string(record.path()).is_ok_and(|other| other == reference) {
            drop(fs::remove_file(record.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_after_the_image() {
        let path = Path::new("");
        let recipe = Recipe {
            reference: "localhost/curfew-agent:e2e",
            containerfile: path,
            target: "",
            context: path,
        };
        assert_eq!(recipe.short_name(), "curfew-agent");
    }
}
