//! What the plugin itself answers to command lines, without a cluster.

#![allow(
    clippy::unwrap_used,
    reason = "the lint knows tests only where they are marked as such"
)]

use std::process::{Command, Output};

fn pi(words: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_kubectl-pi"))
        .args(words)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn without_a_verb_there_is_help() {
    for words in [&[][..], &["-n", "shop"]] {
        let (code, out, err) = pi(words);
        assert_eq!((code, &*err), (Some(0), ""), "{words:?}");
        assert!(
            out.contains("Usage: kubectl pi") && out.contains("extend"),
            "{out}"
        );
    }
}

#[test]
fn an_unknown_flag_is_named_without_a_misleading_tip() {
    let (code, _, err) = pi(&["get", "--frobnicate"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("--frobnicate") && !err.contains("-- --frobnicate"),
        "{err}"
    );
}

#[test]
fn its_version_takes_no_cluster() {
    let (code, out, _) = pi(&["version", "--client"]);
    let version = concat!("Client Version: v", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((code, &*out), (Some(0), version));
}

#[test]
fn formats_that_it_does_not_have_are_refused_with_a_sentence() {
    for format in ["go-template={{.kind}}", "jsonpath-file=x", "kyaml"] {
        let (code, _, err) = pi(&["get", "-o", format]);
        assert_eq!(code, Some(1), "{format}");
        assert!(err.contains("kubectl pi does not support "), "{err}");
    }
}
