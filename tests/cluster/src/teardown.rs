//! Takes away everything that the cluster brought to this machine, however far it had come.
//!
//! Works from what is there, not from what should be: a run that was killed half way, a checkout that was deleted and a
//! machine that was started again are all the same here.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{
    cgroup,
    layout::{Checkout, MACHINE_DIR},
    network,
    process::Process,
    state::{self, State},
};

/// Whether there is anything to take away.
pub fn is_needed() -> bool {
    Path::new(MACHINE_DIR).exists()
}

/// Removes the cluster of this machine, whosever it is.
pub fn run(state: &State) -> Result<()> {
    // All at once and without a goodbye: everything that they would save is thrown away below.
    for name in Process::all() {
        if let Some(identity) = Process::identity(&name) {
            identity.signal(Signal::SIGKILL);
        }
    }
    cgroup::kill_all()?;
    for name in Process::all() {
        if Process::identity(&name).is_some_and(|identity| identity.is_alive()) {
            Process::kill(&name)?;
        }
    }
    network::remove(state.netns_mounts)?;
    cgroup::remove(&state.root_controllers)?;
    // Nodes mount in namespaces of their own, so nothing should be left; but deleting through a mount would delete what
    // is not ours.
    state::unmount_below(MACHINE_DIR)?;
    remove_dir(Path::new(MACHINE_DIR))?;
    if let Ok(checkout) = Checkout::find() {
        for dir in [checkout.cluster_dir(), state.owner.join("target/cluster")] {
            remove_dir(&dir)?;
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}
