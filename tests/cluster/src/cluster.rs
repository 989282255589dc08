//! The running cluster, as tests see it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    control_plane,
    ip_family::IpFamily,
    kubernetes::Minor,
    layout::{self, Checkout, NODES},
    node, pki,
    process::{self, Fate, Process},
    release::Release,
    run,
    state::{Lock, State},
};

/// `kubectl` as administrator, independent of any checkout.
pub fn kubectl() -> Command {
    let mut kubectl = Command::new(layout::machine("bin/kubectl"));
    kubectl.arg("--kubeconfig").arg(pki::kubeconfig("admin"));
    kubectl
}

/// The minor of the API server that runs.
pub fn minor() -> Result<Minor> {
    let said = run::output(kubectl().args(["get", "--raw=/version"]))?;
    let version: serde_json::Value = serde_json::from_str(&said)?;
    let minor = version["minor"].as_str();
    Minor::of_server(minor.context("the API server tells no version")?)
}

/// The names of all processes of a complete cluster.
pub fn components() -> Vec<String> {
    let control = control_plane::PARTS.iter().map(|part| (*part).to_owned());
    control
        .chain(NODES.into_iter().flat_map(node::parts))
        .collect()
}

/// The cluster that this checkout brought up.
#[derive(Clone, Debug)]
pub struct Cluster {
    checkout: Checkout,
    ip_family: IpFamily,
}

impl Cluster {
    /// The running cluster. It is an error if it is another checkout's, or if a part of it is dead.
    pub fn running() -> Result<Self> {
        let checkout = Checkout::find()?;
        let Some(state) = State::load()? else {
            bail!("no cluster is running; `make cluster` starts it")
        };
        if state.owner != checkout.root() {
            bail!(
                "the running cluster belongs to {}; run `make down` and `make cluster`",
                state.owner.display()
            );
        }
        for name in components() {
            match Process::fate(&name) {
                Fate::Alive => {}
                Fate::Absent => bail!("{name} was never started; run `make cluster`"),
                Fate::Dead => bail!(process::obituary(&name)),
            }
        }
        Ok(Self {
            checkout,
            ip_family: state.ip_family,
        })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.checkout.kubeconfig()
    }

    /// The directory of `kubectl` and `kubectl-pi`.
    pub fn bin_dir(&self) -> PathBuf {
        self.checkout.bin_dir()
    }

    /// `kubectl`, as administrator and able to find its plugin.
    pub fn kubectl(&self) -> Command {
        let bin = self.bin_dir();
        let mut kubectl = Command::new(bin.join("kubectl"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        if let Ok(path) = path {
            kubectl.env("PATH", path);
        }
        kubectl
    }

    /// The family of its addresses.
    pub fn ip_family(&self) -> IpFamily {
        self.ip_family
    }

    /// The names of the nodes.
    pub fn nodes(&self) -> [String; 2] {
        NODES.map(layout::Node::name)
    }

    /// The nodes, with their addresses and places on this machine.
    pub fn machine_nodes(&self) -> [layout::Node; 2] {
        NODES
    }

    /// The logs of all components, and the audit log.
    pub fn log_dir(&self) -> PathBuf {
        layout::machine("logs")
    }

    /// What the API server was asked, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        control_plane::audit_log()
    }

    /// The root of the checkout.
    pub fn checkout(&self) -> &Path {
        self.checkout.root()
    }

    /// Deploys a version of Curfew over the one that runs, and waits until it guards the cluster.
    pub fn deploy(&self, release: &Release) -> Result<()> {
        let _lock = Lock::take()?;
        release.deploy()
    }

    /// The source tree that the cluster belongs to.
    pub fn source(&self) -> &Checkout {
        &self.checkout
    }

    /// The components that [`Self::kill`] and [`Self::start`] know.
    pub fn components(&self) -> Vec<String> {
        components()
    }

    /// The pid of a component.
    pub fn pid(&self, component: &str) -> Option<i32> {
        Process::identity(component)
            .filter(|identity| identity.is_alive())
            .map(process::Identity::pid)
    }

    /// Kills a component with SIGKILL and returns when it is gone. Pods go on running when it is a kubelet; a containerd
    /// was not seen to recover its pods.
    pub fn kill(&self, component: &str) -> Result<()> {
        Process::kill(component)
    }

    /// Starts a killed component again, with the same command line. Returns when it runs, not when it is ready: see
    /// [`Self::wait_until_ready`].
    pub fn start(&self, component: &str) -> Result<()> {
        let process = Process::load(component)?;
        if Process::fate(component) == Fate::Alive {
            bail!("{component} is running");
        }
        process.start()
    }

    /// Starts every part of the control plane that is not running, as a kubelet does where they are static pods. They end
    /// by themselves, too: kube-scheduler was seen to, when an API server that was killed had bound a pod and not said so.
    pub fn revive(&self) -> Result<()> {
        control_plane::PARTS
            .iter()
            .filter(|part| self.pid(part).is_none())
            .try_for_each(|part| self.start(part))
    }

    /// Waits until the API server serves and the nodes are ready.
    pub fn wait_until_ready(&self) -> Result<()> {
        control_plane::wait_until_ready()?;
        NODES
            .into_iter()
            .try_for_each(|node| node::wait_until_ready(node, self.ip_family))
    }
}
