//! Where everything is: paths and ports, each named once. The addresses are in [`IpFamily`].

use std::{
    env,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::{ip_family::IpFamily, run};

/// All that the cluster keeps on this machine. Short, because the path of a unix socket ends at 108 bytes.
pub const MACHINE_DIR: &str = "/var/lib/curfew-cluster";

/// The bridge that joins the nodes and the control plane.
pub const BRIDGE: &str = "curfew0";

/// Ports, chosen beside the customary ones so that another cluster on the machine does not hold them.
pub const API_PORT: u16 = 17443;
pub const ETCD_PORT: u16 = 17379;
pub const ETCD_PEER_PORT: u16 = 17380;
pub const CONTROLLER_MANAGER_PORT: u16 = 17257;
pub const SCHEDULER_PORT: u16 = 17259;

/// Where the API server listens.
pub fn api_server(family: IpFamily) -> SocketAddr {
    SocketAddr::new(family.host(), API_PORT)
}

/// Pods that a kubelet accepts.
pub const MAX_PODS: u32 = 300;

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    number: u8,
}

/// The nodes of the cluster.
pub const NODES: [Node; 2] = [Node { number: 1 }, Node { number: 2 }];

impl Node {
    /// `node-1`, as Kubernetes knows it.
    pub fn name(self) -> String {
        format!("node-{}", self.number)
    }

    /// Its network namespace, as `ip netns` knows it.
    pub fn netns(self) -> String {
        format!("curfew-node-{}", self.number)
    }

    /// The host's end of its veth pair (15 bytes is the limit).
    pub fn veth(self) -> String {
        format!("curfew-veth{}", self.number)
    }

    /// Its address on the bridge.
    pub fn address(self, family: IpFamily) -> IpAddr {
        family.on_bridge(10 + self.number)
    }

    /// The range of its pods.
    pub fn pod_range(self, family: IpFamily) -> IpNet {
        family.pod_range(self.number)
    }

    /// Its part of [`MACHINE_DIR`].
    pub fn dir(self) -> PathBuf {
        Path::new(MACHINE_DIR).join(self.name())
    }

    /// Where its kubelet looks for static pods.
    pub fn static_pods(self) -> PathBuf {
        self.dir().join("static-pods")
    }

    /// Where its containerd listens.
    pub fn containerd_socket(self) -> PathBuf {
        self.dir().join("containerd.sock")
    }

    /// What the node sees as `/var/lib`: hostPath volumes below it are found here.
    pub fn var_lib(self) -> PathBuf {
        self.dir().join("var-lib")
    }
}

/// A path below [`MACHINE_DIR`].
pub fn machine(path: &str) -> PathBuf {
    Path::new(MACHINE_DIR).join(path)
}

/// The source tree that this run works for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    root: PathBuf,
    /// Another than the one that cargo would choose there.
    target_dir: Option<PathBuf>,
}

impl Checkout {
    /// Finds the source tree around the current directory, or around the manifest that cargo runs.
    ///
    /// It is looked for at run time because several checkouts may share one cargo target directory, so the path that a
    /// binary was built from may be another's.
    pub fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = env::current_dir().context("the current directory is gone")?;
        let starts = manifest.into_iter().chain([here]);
        for start in starts {
            for dir in start.ancestors() {
                if dir.join("tests/cluster/kube/go.mod").is_file() {
                    let root = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
                    return Ok(Self {
                        root,
                        target_dir: None,
                    });
                }
            }
        }
        bail!("run this inside a checkout of Curfew")
    }

    /// The source tree of another version of Curfew. It has a target directory of its own: in the same one, cargo would
    /// take the packages of both for the same, and build them again at each change between the two.
    pub fn other_version(&self, root: &Path) -> Result<Self> {
        self.other_tree(root, "other-version")
    }

    /// Another source tree, and the folder below the target directory of this one into which cargo builds it.
    pub fn other_tree(&self, root: &Path, target: &str) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            target_dir: Some(self.cargo_target_dir()?.join(target)),
        })
    }

    /// Runs cargo in this source tree.
    pub fn run_cargo_here(&self, cargo: &mut Command) {
        cargo.current_dir(&self.root);
        if let Some(dir) = &self.target_dir {
            cargo.env("CARGO_TARGET_DIR", dir);
        }
    }

    /// The root of the source tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the cluster leaves for the people who use this checkout.
    pub fn cluster_dir(&self) -> PathBuf {
        self.root.join("target/cluster")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster_dir().join("kubeconfig")
    }

    /// `kubectl` and its plugin.
    pub fn bin_dir(&self) -> PathBuf {
        self.cluster_dir().join("bin")
    }

    /// Where cargo puts what it builds, which the environment or a configuration file may have moved.
    pub fn cargo_target_dir(&self) -> Result<PathBuf> {
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--no-deps", "--format-version=1"]);
        self.run_cargo_here(&mut cargo);
        let metadata: serde_json::Value = serde_json::from_str(&run::output(&mut cargo)?)?;
        let dir = metadata["target_directory"]
            .as_str()
            .context("cargo metadata names no target directory")?;
        Ok(dir.into())
    }
}

/// Where build products stay for the next checkout.
pub fn cache_dir() -> Result<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("CURFEW_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|dir| dir.join("curfew")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".cache/curfew")))
        .context(
            "none of CURFEW_CACHE, XDG_CACHE_HOME and HOME names a directory for the build cache",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_fit() {
        assert!(NODES[1].veth().len() <= 15);
    }

    #[test]
    fn sockets_fit() {
        // containerd's longest: a fifo or shim socket below its state directory stays well below 108 bytes.
        assert!(NODES[1].containerd_socket().as_os_str().len() < 60);
    }
}
