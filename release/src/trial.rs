//! Runs what was built: that it starts on its platform, has the version, and that what depends on the processor (the
//! store, the cryptography) works.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{progress, run};

use crate::{
    binaries::{Built, IN_IMAGES, PLUGIN},
    source::Source,
};

/// Runs all that can be run here, and says what cannot.
///
/// # Errors
/// When a program does not do what it should.
pub fn run(source: &Source, programs: &[Built], plugins: &[Built]) -> Result<()> {
    progress::step("Trying what was built");
    for built in programs {
        for name in IN_IMAGES {
            says(
                built,
                name,
                &["--version"],
                &format!("{name} {}", source.version),
            )?;
        }
        // A folder that the agent has to make, as on a new node.
        let scratch = source.scratch()?;
        let store = scratch.path().join("store");
        let arguments = ["self-test", "--store", &store.to_string_lossy()];
        says(built, "curfew-agent", &arguments, "ok")?;
    }
    for built in plugins {
        let expected = format!("Client Version: v{}", source.version);
        says(built, PLUGIN, &["version", "--client"], &expected)?;
    }
    Ok(())
}

fn says(built: &Built, name: &str, arguments: &[&str], expected: &str) -> Result<()> {
    let (os, arch) = (built.platform.os, built.platform.arch);
    let what = format!("{name} {} on {os}/{arch}", arguments.first().unwrap_or(&""));
    let Some(mut command) = built.platform.runs(&built.program(name)) else {
        progress::note(&format!("not tried: {what}, which nothing here runs"));
        return Ok(());
    };
    without_configuration(&mut command);
    let said = run::output(command.args(arguments)).with_context(|| what.clone())?;
    let last = run::last_line(&said);
    ensure!(last == expected, "{what} says {last:?}, not {expected:?}");
    progress::note(&format!("{what}: {last}"));
    Ok(())
}

/// Nothing of whoever runs this may matter.
fn without_configuration(command: &mut Command) {
    command.env_remove("KUBECONFIG").current_dir(Path::new("/"));
}
