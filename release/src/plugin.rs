//! Archives of the plugin, and the manifest with which Krew finds them.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    archive,
    binaries::{Built, PLUGIN},
    source::Source,
};

const TEMPLATE: &str = "kubectl-pi/krew.yaml";
const LICENCE: &str = "LICENSE";
/// What the template has where an address and a checksum are to stand.
const BEGIN: &str = "{{addURIAndSha \"";
const END: &str = "\" .TagName }}";
const TAG: &str = "{{ .TagName }}";
/// Where the part of a platform begins.
const PLATFORM: &str = "  - selector:\n";

/// Packs the plugin of one platform with the licence.
///
/// # Errors
/// When it cannot be packed.
pub fn pack(source: &Source, built: &Built, output: &Path) -> Result<()> {
    let scratch = source.scratch()?;
    let program = built.platform.file_name(PLUGIN);
    fs::copy(built.program(PLUGIN), scratch.path().join(&program))?;
    fs::copy(source.path(LICENCE), scratch.path().join(LICENCE))?;
    let (os, arch) = (built.platform.os, built.platform.arch);
    let archive = output.join(format!("{PLUGIN}_{os}_{arch}.tar.gz"));
    archive::pack(source, scratch.path(), &[LICENCE, &program], &archive)
}

/// Writes the manifest for Krew, with the platforms whose archives are there.
///
/// # Errors
/// When a file cannot be read or written.
pub fn fill_in_krew(source: &Source, output: &Path) -> Result<()> {
    let template = fs::read_to_string(source.path(TEMPLATE)).context("no template for Krew")?;
    let text = fill_in(&template, &format!("v{}", source.version), |name| {
        let path = output.join(name);
        path.is_file().then(|| archive::sum(&path)).transpose()
    })?;
    fs::write(output.join("krew.yaml"), text).context("the manifest for Krew cannot be written")
}

/// Fills in a template. `sum` says the checksum of the archive of that name, if there is one.
fn fill_in(
    template: &str,
    tag: &str,
    sum: impl Fn(&str) -> Result<Option<String>>,
) -> Result<String> {
    let mut parts = template.split(PLATFORM);
    let head = parts.next().unwrap_or_default();
    // It is for whoever changes the template.
    let head = head.lines().skip_while(|line| line.starts_with('#'));
    let mut text: String = head.map(|line| format!("{line}\n")).collect();
    for part in parts {
        let part = part.replace(TAG, tag);
        let (before, rest) = part
            .split_once(BEGIN)
            .context("a platform has no address")?;
        let (address, after) = rest.split_once(END).context("an address has no end")?;
        let name = address.rsplit('/').next().unwrap_or_default();
        if let Some(sum) = sum(name)? {
            text += &format!("{PLATFORM}{before}uri: {address}\n    sha256: {sum}{after}");
        }
    }
    Ok(text.replace(TAG, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ALL;

    const REAL: &str = include_str!("../../kubectl-pi/krew.yaml");

    #[test]
    fn the_manifest_has_what_there_is() -> Result<()> {
        let text = fill_in(REAL, "v9.8.7", |name| {
            Ok((!name.contains("darwin")).then(|| format!("{:a>64}", name.len())))
        })?;
        assert!(!text.contains("{{") && !text.starts_with('#'), "{text}");
        let manifest: serde_json::Value = serde_saphyr::from_str(&text)?;
        assert_eq!(manifest["spec"]["version"], "v9.8.7");
        let platforms = manifest["spec"]["platforms"].as_array().context("a list")?;
        assert_eq!(platforms.len(), 3);
        for platform in platforms {
            let address = platform["uri"].as_str().context("an address")?;
            let name = address.rsplit('/').next().unwrap_or_default();
            assert!(address.contains("/v9.8.7/"), "{address}");
            assert_eq!(platform["sha256"], format!("{:a>64}", name.len()));
        }
        Ok(())
    }

    #[test]
    fn the_template_names_every_platform() -> Result<()> {
        let text = fill_in(REAL, "v1.0.0", |_| Ok(Some("0".repeat(64))))?;
        let manifest: serde_json::Value = serde_saphyr::from_str(&text)?;
        for platform in ALL {
            let name = format!("{PLUGIN}_{}_{}.tar.gz", platform.os, platform.arch);
            let listed = manifest["spec"]["platforms"].as_array();
            let found = listed.into_iter().flatten().find(|one| {
                let labels = &one["selector"]["matchLabels"];
                labels["os"] == platform.os && labels["arch"] == platform.arch
            });
            let found = found.with_context(|| format!("no {name}"))?;
            assert!(
                found["uri"]
                    .as_str()
                    .is_some_and(|uri| uri.ends_with(&name)),
                "{found}"
            );
            assert_eq!(found["bin"], platform.file_name(PLUGIN));
            assert_eq!(found["files"][0]["from"], platform.file_name(PLUGIN));
        }
        Ok(())
    }
}
