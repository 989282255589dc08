//! Krew's manifest, filled in as at a release.

use serde_json::Value;

const TEMPLATE: &str = include_str!("../krew.yaml");

/// What the release bot makes of the template, with digits of the right length for each archive.
fn filled_in() -> Value {
    let lines = TEMPLATE
        .lines()
        .map(|line| match line.split_once("{{addURIAndSha \"") {
            Some((indent, rest)) => {
                let address = rest
                    .split_once("\" .TagName }}")
                    .map(|(address, _)| address);
                let (address, sum) = (address.unwrap_or_default(), "a1".repeat(32));
                format!("{indent}uri: {address}\n{indent}sha256: {sum}\n")
            }
            None => format!("{line}\n"),
        });
    let text = lines
        .collect::<String>()
        .replace("{{ .TagName }}", "v0.1.0");
    serde_saphyr::from_str(&text).expect("the manifest is YAML")
}

#[test]
fn is_what_krew_reads() {
    let manifest = filled_in();
    assert_eq!(
        manifest["apiVersion"],
        "krew.googlecontainertools.github.com/v1alpha2"
    );
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "pi");
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], "v0.1.0");
    for field in ["homepage", "shortDescription", "description", "caveats"] {
        assert!(
            spec[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}"
        );
    }
    // Krew's index takes no longer ones, and none that end like a sentence.
    let short = spec["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 80 && !short.ends_with('.'), "{short}");
    let platforms = spec["platforms"].as_array().unwrap();
    assert!(!platforms.is_empty());
    for platform in platforms {
        let labels = &platform["selector"]["matchLabels"];
        let (os, arch) = (
            labels["os"].as_str().unwrap(),
            labels["arch"].as_str().unwrap(),
        );
        let uri = platform["uri"].as_str().unwrap();
        assert!(
            uri.starts_with("https://") && uri.contains("/v0.1.0/"),
            "{uri}"
        );
        assert!(uri.ends_with(&format!("_{os}_{arch}.tar.gz")), "{uri}");
        assert_eq!(platform["sha256"].as_str().unwrap().len(), 64);
        let program = match os {
            "windows" => "kubectl-pi.exe",
            _ => "kubectl-pi",
        };
        assert_eq!(platform["bin"], program);
        assert_eq!(platform["files"][0]["from"], program);
    }
}

#[test]
fn holds_no_sum_that_nobody_computed() {
    assert!(!TEMPLATE.contains("sha256:"));
}
