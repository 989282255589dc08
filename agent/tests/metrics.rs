//! The page that people read is the one that the code makes.

use curfew_runtime::metrics::page::page;

#[test]
fn the_page_is_current() {
    let agent = curfew_agent::metrics::Metrics::new().unwrap();
    let webhook = curfew_webhook::metrics::Metrics::new().unwrap();
    let parts = [
        ("Agent", agent.catalog().rows()),
        ("Webhook", webhook.catalog().rows()),
    ];
    assert!(
        include_str!("../../docs/metrics.md")
            == page(include_str!("../examples/metrics.md"), &parts),
        "docs/metrics.md is not what the code says; run `make metrics`"
    );
}
