//! Writes docs/metrics.md: `make metrics`.

use std::io::{Write, stdout};

use curfew_runtime::metrics::page::page;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = curfew_agent::metrics::Metrics::new()?;
    let webhook = curfew_webhook::metrics::Metrics::new()?;
    let parts = [
        ("Agent", agent.catalog().rows()),
        ("Webhook", webhook.catalog().rows()),
    ];
    stdout().write_all(page(include_str!("metrics.md"), &parts).as_bytes())?;
    Ok(())
}
