//! Names and numbers on which the parts of the webhook agree, with each other and with the API server.
//!
//! Owns the names of the webhooks, their paths and their labels. The token behind a path is in
//! [`crate::identity::paths`], and what is registered under these names in [`crate::registration`].

use std::{collections::BTreeMap, time::Duration};

/// The name of the webhook configuration, and of the Service and the account of this webhook.
pub const NAME: &str = "curfew-webhook";
/// The field manager of everything that the webhook writes.
pub const MANAGER: &str = NAME;
/// How long the API server waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The webhook that interactions are sent to.
pub const INTERACTION: &str = "interaction.curfew.dev";
/// The webhook that the agents' evictions are sent to.
pub const EVICTION: &str = "eviction.curfew.dev";
/// The webhook by which it is proved that the API server reaches a replica.
pub const PROBE: &str = "probe.curfew.dev";

/// Where interactions are admitted. What API servers are told ends in a token, see [`crate::identity::paths`].
pub const INTERACTION_PATH: &str = "/admit/interaction";
/// Where the evictions of the agents are admitted.
pub const EVICTION_PATH: &str = "/admit/eviction";
/// Where it is proved that the API server reaches a replica.
pub const PROBE_PATH: &str = "/admit/probe";

/// The webhooks and their paths.
pub const WEBHOOKS: [(&str, &str); 3] = [
    (INTERACTION, INTERACTION_PATH),
    (EVICTION, EVICTION_PATH),
    (PROBE, PROBE_PATH),
];

/// The labels of all that the webhook makes.
pub fn labels() -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "curfew"),
        ("app.kubernetes.io/component", "webhook"),
        ("app.kubernetes.io/managed-by", NAME),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
