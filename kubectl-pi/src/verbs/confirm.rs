//! Asks before what somebody else wished for is replaced.

use std::io::{self, BufRead, IsTerminal};

use anyhow::bail;

use crate::output;

/// Asks whether what is there may be replaced.
///
/// # Errors
/// When it may not, and where nobody can be asked.
pub(crate) fn replace(name: &str, fact: &str) -> anyhow::Result<()> {
    ask(fact, "Replace", "replace", &format!("pod/{name}"))
}

/// Asks whether what was learned may be forgotten.
///
/// # Errors
/// When it may not, and where nobody can be asked.
pub(crate) fn forget(fact: &str) -> anyhow::Result<()> {
    ask(fact, "Forget", "forget", "the profile")
}

fn ask(fact: &str, question: &str, verb: &str, what: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{fact}; use --yes to {verb} it");
    }
    loop {
        output::ask(&format!("{fact}. {question} it? [y/n]: "));
        let mut reply = String::new();
        if io::stdin().lock().read_line(&mut reply)? == 0 {
            bail!("{what} was not changed");
        }
        match reply.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(()),
            "n" | "no" => bail!("{what} was not changed"),
            _ => output::note("Please answer y or n."),
        }
    }
}
