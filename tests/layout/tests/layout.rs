//! That the sources keep to the layout.

use curfew_layout::{circle, crates, imports, repeated_types, sources, workspace};

/// No file is longer.
const MOST_LINES: usize = 500;

/// Crates whose rooms form no circle, and stay so.
const IN_ORDER: [&str; 6] = [
    "agent",
    "agent/state",
    "core",
    "kubectl-pi",
    "runtime",
    "webhook",
];

/// Crates of which no two types have the same name, and stay so.
const NAMED: [&str; 7] = [
    "agent",
    "agent/state",
    "core",
    "crd",
    "kubectl-pi",
    "runtime",
    "webhook",
];

#[test]
fn imports_between_rooms_go_one_way() {
    for name in IN_ORDER {
        let sources = sources(&workspace().unwrap().join(name).join("src")).unwrap();
        let imports = imports(&sources);
        assert!(imports.len() > 4, "{name}: {imports:?}");
        let circle = circle(&imports);
        assert_eq!(circle, None, "{name}: each of these imports the next");
    }
}

#[test]
fn no_file_is_too_long() {
    let root = workspace().unwrap();
    let mut files = 0;
    for folder in crates(&root).unwrap() {
        for source in sources(&folder).unwrap() {
            files += 1;
            assert!(
                source.lines() <= MOST_LINES,
                "{}/{} has {} lines: split it by what it is about",
                folder.display(),
                source.path,
                source.lines()
            );
        }
    }
    assert!(files > 300, "{files}");
}

#[test]
fn no_type_has_the_name_of_another_in_its_crate() {
    for name in NAMED {
        let sources = sources(&workspace().unwrap().join(name).join("src")).unwrap();
        assert_eq!(repeated_types(&sources), Default::default(), "{name}");
    }
}
