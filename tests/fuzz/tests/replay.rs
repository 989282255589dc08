//! Every input that is kept, without a fuzzer.

use std::{fs, panic};

use curfew_fuzz_targets::TARGETS;

#[test]
fn whatever_is_kept_holds() {
    let mut failed = Vec::new();
    for target in &TARGETS {
        let mut tried = 0;
        for folder in target.folders() {
            // Not each has had a finding.
            let Ok(files) = fs::read_dir(&folder) else {
                continue;
            };
            for file in files {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                tried += 1;
                if panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                    failed.push(path);
                }
            }
        }
        assert!(tried > 0, "{} has no inputs", target.name);
    }
    assert!(failed.is_empty(), "findings: {failed:#?}");
}

#[test]
fn every_target_has_its_binary() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    let binaries = manifest.matches("[[bin]]").count();
    assert_eq!(binaries, TARGETS.len());
    for target in &TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{} is not in fuzz/Cargo.toml",
            target.name
        );
    }
}
