//! What tells the clusters of the table from each other.

use curfew_cluster::{IpFamily, Minor};

/// What follows the version where the family is not the default.
const IPV6_ONLY: &str = ", IPv6 only";

/// What a cluster is made of. Each has a row of the table and a folder of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setup {
    pub(crate) minor: Minor,
    pub(crate) ip_family: IpFamily,
}

impl Setup {
    /// What the table calls it.
    pub(crate) fn name(self, version: &str) -> String {
        match self.ip_family {
            IpFamily::IPv4 => version.to_owned(),
            IpFamily::IPv6 => format!("{version}{IPV6_ONLY}"),
        }
    }

    /// Reads that name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (version, ip_family) = match name.strip_suffix(IPV6_ONLY) {
            Some(version) => (version, IpFamily::IPv6),
            None => (name, IpFamily::IPv4),
        };
        let (minor, _) = version.rsplit_once('.')?;
        Some(Self {
            minor: minor.parse().ok()?,
            ip_family,
        })
    }

    /// The name of the folder of its logs.
    pub(crate) fn folder(self) -> String {
        match self.ip_family {
            IpFamily::IPv4 => self.minor.to_string(),
            family => format!("{}-{family}", self.minor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_a_name_and_a_folder() {
        for (ip_family, name, folder) in [
            (IpFamily::IPv4, "1.36.3", "1.36"),
            (IpFamily::IPv6, "1.36.3, IPv6 only", "1.36-IPv6"),
        ] {
            let setup = Setup {
                minor: "1.36".parse().unwrap(),
                ip_family,
            };
            assert_eq!(setup.name("1.36.3"), name);
            assert_eq!(setup.folder(), folder);
            assert_eq!(Setup::of_name(name), Some(setup));
        }
        assert_eq!(Setup::of_name("Kubernetes"), None);
    }
}
