//! The names by which the parts know each other.
//!
//! Agents serve with a certificate that names their node, the webhook calls them with one that names the
//! webhook, and both are issued by the CA of the installation. Neither name can be had by asking for a
//! certificate as the other.

use sha2::{Digest, Sha256};

/// The signer of the agents' certificates, as a CertificateSigningRequest names it.
pub const SIGNER: &str = "curfew.dev/agent";
/// The webhook, as it calls an agent.
pub const WEBHOOK: &str = "webhook.curfew.dev";
/// The ServiceAccount of the agents.
pub const AGENT_ACCOUNT: &str = "curfew-agent";
/// The ConfigMap of Curfew's namespace that says which CAs are trusted.
pub const TRUST: &str = "curfew-ca";
/// Its key: certificates in PEM, first that of the CA that issues now.
pub const TRUST_KEY: &str = "ca.crt";
/// Where a token tells the node of the pod that it was made for (KEP-4193).
pub const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// Below it stand the names of the agents.
const AGENTS: &str = ".agent.curfew.dev";
/// Below it stand the names of the agents whose nodes have names that are too long for DNS. No other name ends so.
const LONG: &str = ".long-agent.curfew.dev";
/// The most characters of a DNS name, and of each of its labels (RFC 1035). Kubernetes allows a node of 253 characters, and
/// as many in one label.
const LONGEST: (usize, usize) = (253, 63);

/// The agent of this node, as it serves.
pub fn agent(node: &str) -> String {
    let name = format!("{node}{AGENTS}");
    if name.len() <= LONGEST.0 && name.split('.').all(|label| label.len() <= LONGEST.1) {
        return name;
    }
    // 160 bits: nobody finds two nodes with the same.
    let digest = Sha256::digest(node);
    let digits = digest.iter().take(20).map(|byte| format!("{byte:02x}"));
    digits.collect::<String>() + LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_agent_with_a_name_for_dns() {
        assert_eq!(agent("node-1"), "node-1.agent.curfew.dev");
        let dotted = "ip-10-0-0-1.eu-central-1.compute.internal";
        assert_eq!(agent(dotted), format!("{dotted}.agent.curfew.dev"));
        let mut names = Vec::new();
        for node in [
            "a".repeat(64),
            "a".repeat(253),
            ["a".repeat(60), "b".repeat(60)].join(".").repeat(2),
        ] {
            let name = agent(&node);
            assert!(name.len() <= 253 && name.ends_with(LONG), "{name}");
            assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
            names.push(name);
        }
        names.dedup();
        assert_eq!(names.len(), 3);
        // The longest that need no other name.
        assert!(agent(&"a".repeat(63)).ends_with(AGENTS));
    }
}
