//! What an InteractionPolicy says, and which of what can be said makes no sense.
//!
//! The comments on the fields are what `kubectl explain ipol.spec` shows. The schema and its rules are
//! what the API server checks; [`Spec::check`] repeats what following a policy relies on.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    Selector, conditions,
    conditions::BehaviourCondition,
    length::{Length, MAX_LENGTH, length},
};
use crate::{
    actor::Actor,
    duration,
    interaction::{Command, Kind},
    masking::masked,
    namespaces,
    terms::{Enforcement, OnEvidence, WhenChanged, WhenUnchanged},
};

/// What a policy says: conditions, all of which have to hold, and what follows from an interaction then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.action) || self.action != 'Deny' || !has(self.harmlessCommands)",
        "message": "action Deny also denies harmless commands: leave out harmlessCommands, or choose another action",
    },
    {
        "rule": "!has(self.commands) || !has(self.interactions) || 'exec' in self.interactions",
        "message": "only exec has a command: leave out commands, or add exec to interactions",
    },
    {
        "rule": "!has(self.learn) || !self.learn || !has(self.action) || self.action != 'Deny'",
        "message": "denied interactions are never learned: leave out learn, or choose another action",
    },
    {
        "rule": "!has(self.learn) || !self.learn || !has(self.behaviour) || self.behaviour != 'Irregular'",
        "message": "irregular interactions are never learned: leave out learn, or choose another behaviour",
    },
    {
        "rule": "!has(self.minimumDays) && !has(self.minimumSamples) || has(self.behaviour) || \
                 has(self.learn) && self.learn",
        "message": "minimumDays and minimumSamples say when a profile is used: set behaviour or learn, or leave them out",
    },
    {
        "rule": "!has(self.action) || self.action != 'Deny' || !has(self.interactions) || \
                 !('bypass' in self.interactions)",
        "message": "a bypass has begun when it is seen, and cannot be denied: leave out bypass, or choose another action",
    },
    {
        "rule": "!has(self.interactions) || self.interactions.exists(kind, kind != 'bypass') || \
                 !has(self.interactive) && !has(self.behaviour) && !has(self.harmlessCommands) && \
                 (!has(self.learn) || !self.learn)",
        "message": "of a bypass only container and command are seen: leave out interactive, behaviour, learn and \
                    harmlessCommands, or add another interaction",
    },
    {
        "rule": "!has(self.action) || self.action == 'Evict' || \
                 (!has(self.whenChanged) || self.whenChanged == 'AtDeadline') && \
                 (!has(self.whenUnchanged) || self.whenUnchanged == 'Evict')",
        "message": "whenChanged and whenUnchanged say when a timer ends, and only action Evict starts one: leave them \
                    out, or choose action Evict",
    },
    {
        "rule": "!has(self.whenUnchanged) || self.whenUnchanged == 'Evict' || !has(self.interactions) || \
                 self.interactions.exists(kind, kind in ['exec', 'bypass'])",
        "message": "only of exec and bypass it is seen when they end: leave out whenUnchanged, or add one of them to \
                    interactions",
    },
    {
        "rule": "!has(self.ttl) || !self.ttl.matches('^(0+[hms])+$') || !has(self.whenUnchanged) || \
                 self.whenUnchanged == 'Evict'",
        "message": "with ttl 0s the pod is evicted before anyone can look for changes: leave out whenUnchanged, or \
                    choose a longer ttl",
    },
]))]
pub struct Spec {
    /// If several policies apply, the one with the highest priority is used. If several have the same priority, the
    /// one whose name comes first in the alphabet is used.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub priority: i32,

    /// Condition: selects the labels of the pod's namespace. Every namespace has the label
    /// kubernetes.io/metadata.name with its name as the value. If empty or not set, all namespaces match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,

    /// Condition: selects the labels of the pod. If empty or not set, all pods match. Users who may edit pods choose
    /// their labels, and so the policy that applies: a policy for all pods should be the strictest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,

    /// Condition: the name of the user, exactly as `kubectl auth whoami` shows it. A * at the end stands for any end:
    /// system:serviceaccount:ci:* matches all ServiceAccounts of the namespace ci. If groups are set too, a match in
    /// one of the two lists is enough. If neither is set, all users match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::subjects")]
    pub users: Vec<String>,

    /// Condition: a group of the user, exactly as `kubectl auth whoami` shows it. A * at the end stands for any end.
    /// The group of all ServiceAccounts of a namespace is system:serviceaccounts:NAMESPACE. If users are set too, a
    /// match in one of the two lists is enough. If neither is set, all users match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::subjects")]
    pub groups: Vec<String>,

    /// Condition: what the name of the user stands for. ServiceAccount: system:serviceaccount:NAMESPACE:NAME. Node:
    /// system:node:NAME. User: every other name, such as those of people. If not set, all match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 3),
        extend("x-kubernetes-list-type" = "set"),
        extend("x-kubernetes-validations" = [{
            "rule": "size(self) > 0",
            "message": "an empty list matches nobody; leave it out to match everybody",
        }]),
    )]
    pub actors: Vec<Actor>,

    /// Condition: the kind of the interaction. bypass: a process that somebody started in a container without asking the
    /// API server, such as by crictl exec or nsenter on the node; agents see it with --evidence. Its user is unknown, and
    /// interactive, commands and behaviour do not match it. If not set, all kinds match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 5),
        extend("x-kubernetes-list-type" = "set"),
        extend("x-kubernetes-validations" = [{
            "rule": "size(self) > 0",
            "message": "an empty list matches no kind; leave it out to match all kinds",
        }]),
    )]
    pub interactions: Vec<Kind>,

    /// Condition: whether the user can type. true: with standard input (-i) or a terminal (-t). false: without both, as
    /// a port-forward always is. If not set, both match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,

    /// Condition: the kind of the controller in the pod's ownerReferences, such as StatefulSet, DaemonSet, Job or the
    /// kind of a custom resource. Deployment: a ReplicaSet whose pods have the label pod-template-hash; other pods of
    /// ReplicaSets are of ReplicaSet. Pod: the pod has no controller. If not set, all pods match. Users who may edit
    /// pods can change this, as they can change labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::workloads")]
    pub workloads: Vec<String>,

    /// Condition: the command of an exec. Each entry is an argv, compared word for word; the word * matches exactly one
    /// word, and ... as the last word matches any number of words, including none. An entry for a shell matches
    /// whatever the shell runs. If set, only exec matches. If not set, all interactions match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::commands")]
    pub commands: Vec<Vec<String>>,

    /// Condition: how the interaction compares with the InteractionProfile of the pod's workload. Irregular: it differs
    /// from what was learned and allowed there. Usual: it does not. If too little was learned, or if there is no
    /// profile that can be used, it is neither. If not set, all match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<BehaviourCondition>,

    /// How many days ago the first learned interaction must be, before an interaction is taken for irregular or usual.
    /// If not set: 14.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 365))]
    pub minimum_days: Option<u32>,

    /// How many interactions must be learned, before an interaction is taken for irregular or usual: those of people
    /// for a person, those of ServiceAccounts and nodes for a ServiceAccount or node. If not set: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub minimum_samples: Option<u32>,

    // Without a default in the schema: webhooks of the previous release would find it in every policy, and refuse it.
    /// Whether interactions that this policy applies to are learned in the InteractionProfile of the pod's workload,
    /// unless they are irregular. If not set: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<bool>,

    /// How long the pod may live after the interaction, in whole seconds: 90s, 30m, 1h30m. With 0s, the pod is evicted
    /// at once. If not set, the webhook's --default-ttl is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length")]
    pub ttl: Option<Length>,

    /// The maximum by which users may extend the time to live; 0s allows no extension. If not set, the webhook's
    /// --default-max-extension is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length")]
    pub max_extension: Option<Length>,

    /// The maximum time beyond its deadline for which users may hold the pod; 0s allows no hold. If not set, the
    /// webhook's --default-max-hold is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "length")]
    pub max_hold: Option<Length>,

    /// What happens after the interaction. If not set, the default action of the kind is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<PolicyAction>,

    /// Whether pods are really evicted. If not set, the webhook's --default-enforcement is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,

    /// Commands of exec that change nothing: they are recorded and shown, but start no timer. Each entry is a complete
    /// argv, compared word for word; the word * matches exactly one word. Entries match only without -i and -t, because
    /// a user who can type can do more than the command itself. `kubectl exec POD -- sh -c 'ls /'` has the argv
    /// [sh, -c, "ls /"].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "commands")]
    pub harmless_commands: Vec<Vec<String>>,

    /// What happens to pods without a controller, which nothing would replace. Evict: they are evicted like all
    /// others. Record: the interaction is recorded and shown, and no timer starts while the pod has no controller. If
    /// the pod gets a controller later, its time to live starts at that moment.
    #[serde(default)]
    pub unmanaged_pods: UnmanagedPods,

    // Without a default in the schema: webhooks of the previous release would find it in every policy, and refuse it.
    /// What happens to pods that a Job controls. If not set: Record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completing_pods: Option<CompletingPods>,

    // Both without a default in the schema, too.
    /// When a pod is evicted that was changed. If not set: AtDeadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_changed: Option<WhenChanged>,

    /// What happens to a pod that was not changed. If not set: Evict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unchanged: Option<WhenUnchanged>,

    /// Pods that are never evicted: pods in these namespaces with at least this priority. Interactions with them are
    /// recorded and shown.
    #[serde(default)]
    pub protect: Protect,

    /// How much of a command is kept. Full: all words, up to 512 bytes. Name: the first word. None: nothing. In each
    /// case, words that look like secrets (--password=x, TOKEN=x, the password in a URL, known token formats) are
    /// replaced by xxxxx; secrets that look like ordinary words are not. Curfew neither stores nor logs what is left
    /// out or replaced; the API server's audit log may contain it.
    #[serde(default)]
    pub record_command: RecordCommand,
}

// An optional enumeration is described in the schema by its own comment, not by that of the field.
/// What happens after the interaction. Evict: the pod is evicted when its time to live ends. Record: the
/// interaction is recorded and shown, and no timer starts. Deny: the interaction is denied, and the message names
/// this policy; a bypass, which has begun when it is seen, is treated as with Evict. If not set: Record for
/// port-forward, Evict for all other kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyAction {
    /// The pod is evicted when its time to live ends.
    Evict,
    /// It is recorded, and no timer starts.
    Record,
    /// It is refused.
    Deny,
}

/// What happens to pods that nothing would replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnmanagedPods {
    /// They are evicted like all others.
    #[default]
    Evict,
    /// Interactions with them start no timer.
    Record,
}

/// What happens to pods that a Job controls. Record: the interaction is recorded and shown, and no timer starts,
/// because the pods end by themselves, and an eviction can fail the Job. If the Job no longer controls the pod, its
/// time to live starts at that moment. Evict: they are evicted like all others; a podFailurePolicy that ignores the
/// condition DisruptionTarget keeps this from failing the Job. If not set: Record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompletingPods {
    /// They are evicted like all others.
    Evict,
    /// Interactions with them start no timer.
    #[default]
    Record,
}

/// How much of a command is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RecordCommand {
    /// All of it, as far as it fits.
    #[default]
    Full,
    /// Its first word.
    Name,
    /// Nothing.
    None,
}

impl RecordCommand {
    /// What is kept of this argv. What looks like a secret is masked, see [`crate::masking`].
    pub fn of(self, argv: &[String]) -> Command {
        let kept = match self {
            RecordCommand::Full => argv.len(),
            RecordCommand::Name => 1,
            RecordCommand::None => 0,
        };
        Command::new(masked(argv.iter().take(kept)))
    }
}

/// Pods that are never evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Protect {
    /// The minimum spec.priority of a protected pod. The priority of system-cluster-critical is 2000000000.
    #[serde(default = "critical")]
    #[schemars(
        extend("x-kubernetes-validations" = [{
            "rule": "self > 0",
            "message": "must be greater than 0, the priority of pods without a priority class: otherwise every pod \
                        there is protected, and action Record does that",
        }]),
    )]
    pub priority_at_least: i32,

    /// The names of the namespaces in which pods are protected; an empty list protects none. In other namespaces the
    /// priority does not matter, because in most clusters everyone may give a pod a high priority.
    #[serde(default = "kube_system")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63)),
        extend("x-kubernetes-list-type" = "set"),
    )]
    pub namespaces: Vec<String>,
}

impl Default for Protect {
    fn default() -> Self {
        Self {
            priority_at_least: critical(),
            namespaces: kube_system(),
        }
    }
}

fn critical() -> i32 {
    2_000_000_000
}

fn kube_system() -> Vec<String> {
    vec![namespaces::SYSTEM.to_owned()]
}

/// What makes a policy unfit to be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    pub(super) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }
}

impl Spec {
    /// Checks what following this policy relies on. The API server has checked most of it before; some
    /// of it no schema can express.
    ///
    /// # Errors
    /// Names the first field that makes no sense.
    pub fn check(&self) -> Result<(), Invalid> {
        for (field, selector) in [
            ("spec.namespaceSelector", &self.namespace_selector),
            ("spec.podSelector", &self.pod_selector),
        ] {
            if let Some(selector) = selector {
                selector.check(field)?;
            }
        }
        for (field, length) in [
            ("spec.ttl", self.ttl),
            ("spec.maxExtension", self.max_extension),
            ("spec.maxHold", self.max_hold),
        ] {
            if length.is_some_and(|Length(length)| length > MAX_LENGTH) {
                let most = duration::format(MAX_LENGTH);
                return Err(Invalid::new(field, format!("must be from 0s to {most}")));
            }
        }
        for (at, argv) in self.harmless_commands.iter().enumerate() {
            let problem = match argv.first().map(String::as_str) {
                None => "is empty; it must name at least the program",
                Some("" | "*") => "does not name the program",
                Some(_) if is_any_command(argv) => "lets a shell run any command",
                Some(_) => continue,
            };
            let field = format!("spec.harmlessCommands[{at}]");
            return Err(Invalid::new(&field, problem));
        }
        conditions::check(self)
    }

    /// What follows from what is found in the pod.
    pub fn on_evidence(&self) -> OnEvidence {
        OnEvidence {
            when_changed: self.when_changed.unwrap_or_default(),
            when_unchanged: self.when_unchanged.unwrap_or_default(),
        }
    }
}

/// Whether a pattern leaves open what a shell is to run.
fn is_any_command(argv: &[String]) -> bool {
    let is_shell = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or_default();
        ["sh", "ash", "bash", "dash", "ksh", "zsh"].contains(&name)
    };
    argv.iter().any(is_shell) && argv.iter().any(|word| word == "*")
}

fn commands(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "array",
            "maxItems": 32,
            "items": {"type": "string", "maxLength": 256},
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(argv, size(argv) > 0)",
                "message": "must not contain an empty argv: name the program and its arguments, as in [ls, -l]",
            },
            {
                "rule": "self.all(argv, size(argv) == 0 || !(argv[0] in ['', '*']))",
                "message": "the first word names the program; it must not be * or empty",
            },
            {
                "rule": "self.all(argv, !argv.exists(word, word == '*') || \
                         !argv.exists(word, word.matches('^(.*/)?(a|ba|da|k|z)?sh$')))",
                "message": "must not contain a shell together with the word *: any command would be harmless",
            },
        ],
    })
}
