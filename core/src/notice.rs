//! The notice of an interaction on its way from the webhook to the agent of the pod's node:
//! `POST /v1/interactions`, JSON both ways.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    interaction::{Command, MAX_USER},
    pod_id::PodId,
    record::{MAX_IRREGULAR, RecordedInteraction},
    text::cut,
};

/// The version of the wire format that this build writes.
///
/// A reader takes its own version and older ones, and ignores fields it does not know: within one
/// version fields are only added, so that neighbours one release apart understand each other.
pub const VERSION: u32 = 1;

/// The path that notices are posted to.
pub const PATH: &str = "/v1/interactions";

/// The largest notice in bytes that an agent reads. All texts in it are bounded far below that.
pub const MAX_BYTES: usize = 64 * 1024;

/// What the webhook tells the agent of the pod's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The format, [`VERSION`].
    pub version: u32,
    /// The node on which the webhook saw the pod; an agent takes only notices of its own.
    pub node: String,
    /// The pod.
    pub pod: PodId,
    /// What happened, and what follows from it.
    #[serde(flatten)]
    pub known: RecordedInteraction,
    /// When the webhook sent it, by its own clock: the agent tells by it how far the two clocks are
    /// apart. Nothing else depends on it, and older webhooks do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Timestamp>,
}

/// What the agent answers once the interaction is on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The format, [`VERSION`].
    pub version: u32,
    /// When the pod will be evicted; none when only recorded.
    pub eviction_time: Option<Timestamp>,
    /// Whether that is only a dry run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How many interactions of this pod are known now.
    pub interactions: u32,
}

/// Why an agent does not take a notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was written by a later release.
    #[error("version: {0} is newer than {VERSION}, the newest version that this agent can read")]
    Version(u32),
    /// It was meant for another node.
    #[error("node: {given:?} is not {own:?}, the node of this agent")]
    Node {
        /// What the notice says.
        given: String,
        /// Whose agent this is.
        own: String,
    },
    /// A field that has to be there is empty or overlong.
    #[error("{field}: has {length} bytes; it must have 1 to {max}")]
    Length {
        /// The field's path.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most it may have.
        max: usize,
    },
}

impl Notice {
    /// Checks what the agent of `node` relies on.
    ///
    /// # Errors
    /// Names the first field that is not as it should be.
    pub fn check(&self, node: &str) -> Result<(), Refusal> {
        if self.version > VERSION {
            return Err(Refusal::Version(self.version));
        }
        if self.node != node {
            return Err(Refusal::Node {
                given: cut(&self.node, 253).into_owned(),
                own: node.to_owned(),
            });
        }
        let interaction = &self.known.interaction;
        let policy = self.known.policy.as_deref().unwrap_or_default();
        let irregular = self.known.irregular.as_deref().unwrap_or_default();
        let container = interaction.container.as_deref().unwrap_or_default();
        for (field, text, least, max) in [
            ("pod.namespace", self.pod.namespace.as_str(), 1, 63),
            ("pod.name", &self.pod.name, 1, 253),
            ("pod.uid", &self.pod.uid, 1, 128),
            ("interaction.user", &interaction.user, 1, MAX_USER),
            ("interaction.request", &interaction.request, 1, 128),
            ("policy", policy, 0, 253),
            ("irregular", irregular, 0, MAX_IRREGULAR),
            ("interaction.container", container, 0, 63),
            (
                "interaction.command",
                interaction.command.as_str(),
                0,
                Command::MAX,
            ),
        ] {
            let length = text.len();
            if length < least || length > max {
                return Err(Refusal::Length { field, length, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A notice as the release without `sent` reads it.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Older {
        version: u32,
        node: String,
        pod: PodId,
        #[serde(flatten)]
        known: RecordedInteraction,
    }

    fn written_by_the_older() -> serde_json::Value {
        json!({
            "version": 1,
            "node": "node-1",
            "pod": {"namespace": "shop", "name": "cart-1", "uid": "u-1"},
            "interaction": {
                "time": "2027-01-15T08:00:00Z", "kind": "exec", "user": "alice",
                "container": "app", "command": "sh", "request": "r-1"
            },
            "terms": {"action": "Evict", "ttl": "10m0s", "maxExtension": "1h0m0s", "maxHold": "2h0m0s"}
        })
    }

    #[test]
    fn an_older_notice_is_understood_and_says_nothing_of_its_time() {
        let notice: Notice = serde_json::from_value(written_by_the_older()).unwrap();
        notice.check("node-1").unwrap();
        assert_eq!(notice.sent, None);
        assert_eq!(
            serde_json::to_value(&notice).unwrap(),
            written_by_the_older()
        );
    }

    #[test]
    fn an_older_agent_understands_a_notice_that_says_when_it_was_sent() {
        let mut notice: Notice = serde_json::from_value(written_by_the_older()).unwrap();
        notice.sent = Some("2027-01-15T08:00:00.123456Z".parse().unwrap());
        let written = serde_json::to_value(&notice).unwrap();
        assert_eq!(written["sent"], "2027-01-15T08:00:00.123456Z");
        let read: Older = serde_json::from_value(written.clone()).unwrap();
        assert_eq!((read.version, read.node.as_str()), (VERSION, "node-1"));
        assert_eq!(
            (read.pod, read.known),
            (notice.pod.clone(), notice.known.clone())
        );
        assert_eq!(serde_json::from_value::<Notice>(written).unwrap(), notice);
    }
}
