//! What runs and what does not.

use anyhow::{Result, bail};

use crate::{
    cluster::{components, kubectl},
    process::{self, Fate, Process},
    progress, run,
    state::State,
};

/// Shows the cluster of this machine; an error if there is none or if it is not whole.
pub fn show() -> Result<()> {
    let Some(state) = State::load()? else {
        bail!("no cluster is running; `make cluster` starts it")
    };
    progress::plain(&format!("cluster of {}", state.owner.display()));
    let mut faults = Vec::new();
    for name in components() {
        let what = match Process::fate(&name) {
            Fate::Alive => {
                let pid = Process::identity(&name).map_or(0, process::Identity::pid);
                format!("running, process {pid}")
            }
            Fate::Absent => {
                faults.push(format!("{name} was never started; run `make cluster`"));
                "not started".to_owned()
            }
            Fate::Dead => {
                faults.push(process::obituary(&name));
                "dead".to_owned()
            }
        };
        progress::plain(&format!("  {name:<26} {what}"));
    }
    if !faults.is_empty() {
        bail!(faults.join("\n"));
    }
    progress::plain(run::output(kubectl().args(["get", "nodes", "-o", "wide"]))?.trim_end());
    Ok(())
}
