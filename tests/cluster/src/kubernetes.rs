//! The minors of Kubernetes that the cluster can be made of, and what differs between them for Curfew and its tests.
//!
//! Each is pinned by a go.mod of its own beside the one program that is built of all of them. The default has the file
//! `go.mod` itself, the others `MINOR.mod`; `tests/cluster/kube/pin` writes them.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context, Result, bail};

use crate::layout::Checkout;

/// Where the files are, from the root of the checkout.
pub const DIRECTORY: &str = "tests/cluster/kube";
/// What the line of a test begins with that does not hold on the Kubernetes that runs. The minor, the name of the test and
/// the reason follow, each after a colon.
pub const SKIPPED: &str = "skipped on Kubernetes ";
/// What it begins with if the rest of the test holds.
pub const SKIPPED_IN_PART: &str = "skipped in part on Kubernetes ";
/// The file of the default.
const DEFAULT: &str = "go.mod";

/// A minor of Kubernetes, such as 1.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor(u32);

impl Minor {
    /// Reads the number as the API server writes it, to which a distribution may have added a `+`.
    pub fn of_server(minor: &str) -> Result<Self> {
        let number = minor.trim_end_matches('+').parse();
        Ok(Self(number.with_context(|| {
            format!("the API server says that its minor is {minor:?}")
        })?))
    }

    /// Whether an agent may act as its node, which is constrained impersonation (KEP-5284, beta in 1.36). If not, it
    /// needs the component `legacy`.
    pub fn agents_act_as_nodes(self) -> bool {
        self >= Self(36)
    }

    /// Whether a connection to a pod by WebSocket takes the verb `create` and not only `get`
    /// (AuthorizePodWebsocketUpgradeCreatePermission, beta in 1.35).
    pub fn connections_take_create(self) -> bool {
        self >= Self(35)
    }

    /// Whether a watch may begin with a list (WatchList, KEP-3157): on by default in 1.32, off again in 1.33.
    pub fn streams_lists(self) -> bool {
        self != Self(33)
    }

    /// Whether pods have the subresource `resize` (InPlacePodVerticalScaling, beta in 1.33).
    pub fn resizes_pods(self) -> bool {
        self >= Self(33)
    }

    /// Whether the API server names the value that a rule of a CustomResourceDefinition refuses, and not only its type:
    /// since 1.35.
    pub fn names_refused_values(self) -> bool {
        self >= Self(35)
    }

    /// Whether there are MutatingAdmissionPolicies of the version v1.
    pub fn has_mutating_policies(self) -> bool {
        self >= Self(36)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

impl FromStr for Minor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
        let number = number
            .with_context(|| format!("{text:?} is not a minor of Kubernetes, such as 1.36"))?;
        Ok(Self(number))
    }
}

/// A release of Kubernetes that a go.mod pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its minor.
    pub minor: Minor,
    /// The release, such as `v1.36.3`.
    pub version: String,
    /// The name of the file.
    pub mod_file: String,
}

/// The release that the checkout pins for this minor, or the default.
///
/// # Errors
/// When it pins none.
pub fn pinned(checkout: &Checkout, minor: Option<Minor>) -> Result<Pinned> {
    let all = all(checkout)?;
    let wanted = |pinned: &&Pinned| match minor {
        Some(minor) => pinned.minor == minor,
        None => pinned.mod_file == DEFAULT,
    };
    if let Some(found) = all.iter().find(wanted) {
        return Ok(found.clone());
    }
    let minors: Vec<_> = all.iter().map(|pinned| pinned.minor.to_string()).collect();
    match minor {
        Some(minor) => bail!(
            "Kubernetes {minor} is not pinned in {DIRECTORY}; there are {}",
            minors.join(", ")
        ),
        None => bail!("{DIRECTORY}/{DEFAULT} does not exist"),
    }
}

/// The minors that the checkout pins, the oldest first.
///
/// # Errors
/// When a file cannot be read, or pins no Kubernetes.
pub fn minors(checkout: &Checkout) -> Result<Vec<Minor>> {
    Ok(all(checkout)?.into_iter().map(|one| one.minor).collect())
}

fn all(checkout: &Checkout) -> Result<Vec<Pinned>> {
    let directory = checkout.root().join(DIRECTORY);
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let mod_file = entry?.file_name().to_string_lossy().into_owned();
        if mod_file.ends_with(".mod") {
            let text = fs::read_to_string(directory.join(&mod_file))?;
            let version = version(&text)
                .with_context(|| format!("{DIRECTORY}/{mod_file} pins no Kubernetes"))?;
            all.push(Pinned {
                minor: minor_of(version)?,
                version: version.to_owned(),
                mod_file,
            });
        }
    }
    all.sort_by_key(|pinned| pinned.minor);
    Ok(all)
}

/// Which Kubernetes a go.mod pins.
fn version(go_mod: &str) -> Option<&str> {
    let lines = go_mod.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("k8s.io/kubernetes "))
        .find(|version| version.starts_with('v'))
}

fn minor_of(version: &str) -> Result<Minor> {
    let minor = version.trim_start_matches('v').rsplit_once('.');
    let (minor, _) = minor.with_context(|| format!("{version} is not a release of Kubernetes"))?;
    minor.parse()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_pinned_release_is_found() -> Result<()> {
        let go_mod = "require (\n\tk8s.io/kubectl v0.0.0\n\tk8s.io/kubernetes v1.36.3\n)\n";
        assert_eq!(version(go_mod), Some("v1.36.3"));
        assert_eq!(minor_of("v1.36.3")?, "1.36".parse()?);
        assert!(minor_of("v1").is_err());
        assert!("1.36.3".parse::<Minor>().is_err() && "36".parse::<Minor>().is_err());
        assert_eq!(Minor::of_server("33+")?, "1.33".parse()?);
        Ok(())
    }

    #[test]
    fn every_minor_is_pinned_once_and_as_a_whole() -> Result<()> {
        let checkout = Checkout::find()?;
        let minors = minors(&checkout)?;
        let default = pinned(&checkout, None)?.minor;
        assert_eq!(Some(&default), minors.last(), "the default is the newest");
        assert_eq!(
            minors.iter().collect::<BTreeSet<_>>().len(),
            minors.len(),
            "{minors:?}"
        );
        for minor in minors {
            let pinned = pinned(&checkout, Some(minor))?;
            let path = checkout.root().join(DIRECTORY).join(&pinned.mod_file);
            let staging = format!(" {}.", minor.to_string().replacen("1.", "v0.", 1));
            let text = fs::read_to_string(&path)?;
            let replaced: Vec<_> = text.lines().filter(|line| line.contains(" => ")).collect();
            assert!(replaced.len() > 30, "{minor}: {replaced:?}");
            for line in replaced {
                assert!(line.contains(&staging), "{minor}: {line}");
            }
            assert!(path.with_extension("sum").is_file(), "{minor}");
            if pinned.mod_file != DEFAULT {
                assert_eq!(pinned.mod_file, format!("{minor}.mod"));
            }
        }
        Ok(())
    }

    #[test]
    fn a_minor_that_is_not_pinned_is_told_with_those_that_are() -> Result<()> {
        let error = pinned(&Checkout::find()?, Some("1.9".parse()?)).unwrap_err();
        assert!(error.to_string().contains("1.36"), "{error}");
        Ok(())
    }
}
