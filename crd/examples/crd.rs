//! Writes the definitions of InteractionPolicy and InteractionProfile: `make crd`.

use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [policy, profile] = curfew_crd::definitions().map(|one| serde_saphyr::to_string(&one));
    let head = include_str!("head.txt");
    write!(stdout(), "{head}{}---\n{}", policy?, profile?)?;
    Ok(())
}
