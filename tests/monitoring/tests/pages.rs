//! The Markdown pages, as they are in the tree.

use curfew_monitoring::{
    pages::{fault, links, pages},
    read,
};

#[test]
fn links_and_anchors_exist() {
    let pages = pages().unwrap();
    let mut checked = 0;
    let mut faults = Vec::new();
    for (page, text) in &pages {
        for link in links(text) {
            checked += 1;
            let fault = fault(&pages, page, &link);
            faults.extend(fault.map(|fault| format!("{}: {link}: {fault}", page.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 50, "only {checked} links were found");
}

/// What does not fit has a page of its own under `docs`.
#[test]
fn the_readme_stays_short() {
    let lines = read("README.md").unwrap().lines().count();
    assert!(lines <= 150, "{lines} lines");
}
