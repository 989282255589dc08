//! The terms on which an interaction is recorded: what follows from it, and when.

mod strictest;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray, VariantNames};

use crate::interaction::Kind;

/// What follows from an interaction.
#[derive(IntoStaticStr, VariantNames)]
#[strum(serialize_all = "PascalCase")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The pod is evicted when its time to live ends.
    Evict,
    /// The interaction is recorded and shown; no timer starts.
    Record,
}

impl Action {
    /// The name of each, as [`Action::as_str`] gives it.
    pub const NAMES: &[&str] = Self::VARIANTS;

    /// The name of the action in policies and in labels of metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why an interaction of a kind that would start a timer is only recorded.
#[derive(IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "camelCase")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exemption {
    /// The command is one of those that change nothing.
    Harmless,
    /// The pod is one of those that are never evicted.
    Protected,
    /// Nothing would put another pod in its place. It ends when the pod gets a controller: the action is
    /// [`Action::Evict`] then.
    Unmanaged,
    /// A Job controls the pod, which ends by itself. It ends when that Job no longer controls the pod: the action is
    /// [`Action::Evict`] then.
    Completing,
}

impl Exemption {
    /// All of them.
    pub const ALL: &[Exemption] = <Self as VariantArray>::VARIANTS;

    /// The name of each, as [`Exemption::as_str`] gives it.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Whether it depends on what controls the pod, so that it may end.
    pub fn may_end(self) -> bool {
        matches!(self, Exemption::Unmanaged | Exemption::Completing)
    }

    /// Whether it holds for a pod that has no controller, or a Job as its controller.
    pub fn holds(self, bare: bool, of_job: bool) -> bool {
        match self {
            Exemption::Harmless | Exemption::Protected => true,
            Exemption::Unmanaged => bare,
            Exemption::Completing => of_job,
        }
    }

    /// Why no timer starts, as a clause.
    pub fn why(self) -> &'static str {
        match self {
            Exemption::Harmless => "a policy lists the command as harmless",
            Exemption::Protected => "pods like this one are never evicted",
            Exemption::Unmanaged => "it has no controller that would replace it",
            Exemption::Completing => {
                "it belongs to a Job, which an eviction could fail, and ends by itself"
            }
        }
    }

    /// Its name, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

// The order matters: of the timers of a pod, each that is enforced comes before each that is not.
/// Whether the pod is really evicted. Enforce: it is. DryRun: everything else happens (the mark, the timer, the
/// Events), and when the time to live ends, the Eviction API is only asked, with dryRun, whether the pod would be
/// evicted. If not set: the webhook's --default-enforcement.
#[derive(IntoStaticStr)]
#[strum(serialize_all = "PascalCase")]
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Enforcement {
    /// The pod is evicted.
    #[default]
    Enforce,
    /// The API server is asked whether it would evict the pod.
    DryRun,
}

impl Enforcement {
    /// Its name, as it stands in policies and on pods.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// When a pod is evicted in which something has changed since somebody interacted with it, as far as the agent's
/// --evidence can see that. AtDeadline: when its time to live ends, like any other. Now: as soon as that is found; a
/// hold keeps it all the same, an extension does not. If not set: AtDeadline.
#[derive(IntoStaticStr)]
#[strum(serialize_all = "PascalCase")]
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum WhenChanged {
    /// When its time to live ends.
    #[default]
    AtDeadline,
    /// As soon as it is found.
    Now,
}

impl WhenChanged {
    /// Its name, as it stands in policies and on pods.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What happens at the end of its time to live to a pod in which nothing has changed since somebody interacted with it.
/// Evict: it is evicted, like any other. Release: it stays, if the agent's --evidence saw all of it, nothing has
/// changed, and nothing that a session started still runs; in all doubt it is evicted. If not set: Evict.
#[derive(IntoStaticStr)]
#[strum(serialize_all = "PascalCase")]
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum WhenUnchanged {
    /// It is evicted.
    #[default]
    Evict,
    /// It stays, and its timers end.
    Release,
}

impl WhenUnchanged {
    /// Its name, as it stands in policies and on pods.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What follows from what is found in the pod. Without any finding, the terms hold as they are.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct OnEvidence {
    /// When something has changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_changed: WhenChanged,
    /// When nothing has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_unchanged: WhenUnchanged,
}

impl OnEvidence {
    /// Whether nothing follows that would not follow anyway.
    pub fn is_default(&self) -> bool {
        is_default(self)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What the webhook decided for one interaction. It travels with the interaction and stands on the
/// pod, so that a policy changed later does not move a deadline that people were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "WrittenTerms", into = "WrittenTerms")]
pub struct Terms {
    /// What follows from the interaction.
    pub action: Action,
    /// How long the pod may live on, in whole seconds; without meaning under [`Action::Record`].
    pub ttl: Duration,
    /// By how much people may extend that at the most, in whole seconds.
    pub max_extension: Duration,
    /// How long beyond its deadline people may keep the pod at the most, in whole seconds.
    pub max_hold: Duration,
    /// Why it is only recorded, where that is not simply what is asked for.
    pub exemption: Option<Exemption>,
    /// Whether the pod is evicted, or only whether it would be is asked. Terms that an earlier release wrote are
    /// enforced.
    pub enforcement: Enforcement,
    /// What follows from what is found in the pod.
    pub on_evidence: OnEvidence,
}

/// [`Terms`] as they are written. A dry run is written as an interaction that is only recorded, with the rest beside
/// it: an agent of an earlier release does not know dry runs, and must not evict the pod.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenTerms {
    action: Action,
    #[serde(with = "crate::duration")]
    ttl: Duration,
    #[serde(with = "crate::duration")]
    max_extension: Duration,
    #[serde(with = "crate::duration", default)]
    max_hold: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exemption: Option<Exemption>,
    /// [`Exemption::Completing`]. Releases before it refuse a value of `exemption` that they do not know, and ignore
    /// this field: for them, the interaction is only recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    completing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dry_run: Option<DryRunTerms>,
    /// [`OnEvidence`]. Earlier releases ignore both fields: for them, what is found changes nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    when_changed: WhenChanged,
    #[serde(default, skip_serializing_if = "is_default")]
    when_unchanged: WhenUnchanged,
}

/// What would follow if the terms were enforced.
#[derive(Serialize, Deserialize)]
struct DryRunTerms {
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exemption: Option<Exemption>,
}

impl From<Terms> for WrittenTerms {
    fn from(terms: Terms) -> Self {
        let completing = terms.exemption == Some(Exemption::Completing);
        let written = Self {
            action: terms.action,
            ttl: terms.ttl,
            max_extension: terms.max_extension,
            max_hold: terms.max_hold,
            exemption: terms.exemption.filter(|_| !completing),
            completing,
            dry_run: None,
            when_changed: terms.on_evidence.when_changed,
            when_unchanged: terms.on_evidence.when_unchanged,
        };
        match terms.enforcement {
            Enforcement::Enforce => written,
            Enforcement::DryRun => Self {
                action: Action::Record,
                exemption: None,
                completing: false,
                dry_run: Some(DryRunTerms {
                    action: terms.action,
                    exemption: terms.exemption,
                }),
                ..written
            },
        }
    }
}

impl From<WrittenTerms> for Terms {
    fn from(written: WrittenTerms) -> Self {
        let (action, exemption, enforcement) = match written.dry_run {
            None => {
                let completing = written.completing.then_some(Exemption::Completing);
                let exemption = written.exemption.or(completing);
                (written.action, exemption, Enforcement::Enforce)
            }
            Some(would) => (would.action, would.exemption, Enforcement::DryRun),
        };
        Self {
            action,
            ttl: written.ttl,
            max_extension: written.max_extension,
            max_hold: written.max_hold,
            exemption,
            enforcement,
            on_evidence: OnEvidence {
                when_changed: written.when_changed,
                when_unchanged: written.when_unchanged,
            },
        }
    }
}

/// The terms that hold where no policy says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DefaultTerms {
    /// The time to live after an interaction.
    pub ttl: Duration,
    /// The longest extension.
    pub max_extension: Duration,
    /// The longest hold beyond the deadline.
    pub max_hold: Duration,
    /// Whether pods are evicted.
    pub enforcement: Enforcement,
}

impl DefaultTerms {
    /// The terms of an interaction of this kind: all start the timer but port-forward, which leaves
    /// the container as it was.
    pub fn of(self, kind: Kind) -> Terms {
        Terms {
            action: match kind {
                Kind::Exec | Kind::Attach | Kind::Debug | Kind::Bypass => Action::Evict,
                Kind::Portforward => Action::Record,
            },
            ttl: self.ttl,
            max_extension: self.max_extension,
            max_hold: self.max_hold,
            exemption: None,
            enforcement: self.enforcement,
            on_evidence: OnEvidence::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn terms(action: Action, exemption: Option<Exemption>, enforcement: Enforcement) -> Terms {
        Terms {
            action,
            ttl: Duration::from_secs(600),
            max_extension: Duration::from_secs(60),
            max_hold: Duration::from_secs(30),
            exemption,
            enforcement,
            on_evidence: OnEvidence::default(),
        }
    }

    #[test]
    fn what_follows_from_findings_is_written_where_it_is_not_the_default() {
        let plain = terms(Action::Evict, None, Enforcement::Enforce);
        for (when_changed, when_unchanged, changed, unchanged) in [
            (WhenChanged::AtDeadline, WhenUnchanged::Evict, None, None),
            (WhenChanged::Now, WhenUnchanged::Evict, Some("Now"), None),
            (
                WhenChanged::AtDeadline,
                WhenUnchanged::Release,
                None,
                Some("Release"),
            ),
        ] {
            for enforcement in [Enforcement::Enforce, Enforcement::DryRun] {
                let on_evidence = OnEvidence {
                    when_changed,
                    when_unchanged,
                };
                let terms = Terms {
                    on_evidence,
                    enforcement,
                    ..plain
                };
                let written = serde_json::to_value(terms).unwrap();
                let of = |field: &str| written.get(field).and_then(serde_json::Value::as_str);
                assert_eq!(
                    (of("whenChanged"), of("whenUnchanged")),
                    (changed, unchanged)
                );
                assert_eq!(serde_json::from_value::<Terms>(written).unwrap(), terms);
                assert_eq!(on_evidence.is_default(), changed.or(unchanged).is_none());
            }
        }
    }

    #[test]
    fn an_earlier_release_takes_a_dry_run_for_an_interaction_that_is_only_recorded() {
        for action in [Action::Evict, Action::Record] {
            for exemption in [
                None,
                Some(Exemption::Unmanaged),
                Some(Exemption::Completing),
            ] {
                let dry = terms(action, exemption, Enforcement::DryRun);
                let written = serde_json::to_value(dry).unwrap();
                // An unmanaged pod would start a timer once it has a controller.
                assert_eq!(
                    (&written["action"], written.get("exemption")),
                    (&json!("Record"), None)
                );
                assert_eq!(serde_json::from_value::<Terms>(written).unwrap(), dry);
            }
        }
    }

    #[test]
    fn the_previous_release_reads_what_is_written() {
        let plain =
            json!({"action": "Record", "ttl": "10m0s", "maxExtension": "1m0s", "maxHold": "30s"});
        let mut harmless = plain.clone();
        harmless["exemption"] = json!("harmless");
        let mut completing = plain.clone();
        completing["completing"] = json!(true);
        for (exemption, written) in [
            (None, plain),
            (Some(Exemption::Harmless), harmless),
            (Some(Exemption::Completing), completing),
        ] {
            let terms = terms(Action::Record, exemption, Enforcement::Enforce);
            assert_eq!(serde_json::to_value(terms).unwrap(), written);
            assert_eq!(serde_json::from_value::<Terms>(written).unwrap(), terms);
        }
        for &exemption in Exemption::ALL {
            let terms = terms(Action::Record, Some(exemption), Enforcement::Enforce);
            let text = serde_json::to_string(&terms).unwrap();
            assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), terms);
            let known = ["harmless", "protected", "unmanaged"].contains(&exemption.as_str());
            assert_eq!(text.contains("\"exemption\""), known, "{text}");
        }
    }
}
