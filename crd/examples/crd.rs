//! Writes the definition of InteractionPolicy: `make crd`.

use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let definition = serde_saphyr::to_string(&curfew_crd::definition())?;
    let head = include_str!("head.txt");
    write!(stdout(), "{head}{definition}")?;
    Ok(())
}
