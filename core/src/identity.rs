//! The names by which the parts know each other.
//!
//! Agents serve with a certificate that names their node, the webhook calls them with one that names the
//! webhook, and both are issued by the CA of the installation. Neither name can be had by asking for a
//! certificate as the other.

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

/// Below it stand the names of the agents; the longest that a DNS name can be is 253 (RFC 1035).
const AGENTS: &str = ".agent.curfew.dev";

/// The agent of this node, as it serves.
pub fn agent(node: &str) -> String {
    format!("{node}{AGENTS}")
}
