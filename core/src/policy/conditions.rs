//! What the lists of a policy's conditions may contain: their schemas, and the same checks in the webhook.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    pattern::{ANY_END, ANY_WORD, ANY_WORDS},
    spec::{Invalid, Spec},
};
use crate::{
    behaviour::{Decision, Thresholds},
    text::cut,
};

const NAME: &str = "must name a user or group; * may only stand at the end, after the beginning of a name, as in \
                    system:serviceaccount:ci:*";
const KIND: &str = "must be a kind as in the pod's ownerReferences, such as Deployment, StatefulSet, DaemonSet or \
                    Job, or Pod for pods without a controller";
const CRON_JOB: &str = "pods of a CronJob are controlled by its Jobs: use Job";
const PROGRAM: &str = "must begin with the name of a program, which is not empty, * or ...";
const OPEN_END: &str = "must contain ... only as the last word, for any number of words";

// An optional enumeration is described in the schema by its own comment, not by that of the field.
/// Condition: how the interaction compares with the InteractionProfile of the pod's workload. Irregular: it differs
/// from what was learned and allowed there. Usual: it does not. If too little was learned, or if there is no profile
/// that can be used, it is neither. If not set, all match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BehaviourCondition {
    /// It is not what is done there.
    Irregular,
    /// It is.
    Usual,
}

impl BehaviourCondition {
    /// Whether it holds for an interaction of which this was decided; none where there is nothing to decide by.
    pub fn holds_for(self, decision: Option<&Decision>) -> bool {
        match self {
            BehaviourCondition::Irregular => matches!(decision, Some(Decision::Irregular { .. })),
            BehaviourCondition::Usual => matches!(decision, Some(Decision::Usual { .. })),
        }
    }
}

impl Spec {
    /// What this policy takes for enough.
    pub fn thresholds(&self) -> Thresholds {
        let default = Thresholds::default();
        Thresholds {
            days: self.minimum_days.unwrap_or(default.days),
            samples: self.minimum_samples.map_or(default.samples, u64::from),
            ..default
        }
    }

    /// What this policy takes for enough, if it looks at behaviour or has it learned.
    pub fn asked_of_behaviour(&self) -> Option<Thresholds> {
        (self.behaviour.is_some() || self.learns()).then(|| self.thresholds())
    }

    /// Whether interactions are learned that this policy applies to.
    pub fn learns(&self) -> bool {
        self.learn == Some(true)
    }
}

/// Checks the conditions that are lists.
///
/// # Errors
/// Names the first entry that makes no sense.
pub(super) fn check(spec: &Spec) -> Result<(), Invalid> {
    for (field, names) in [("users", &spec.users), ("groups", &spec.groups)] {
        entries(field, names, |name| {
            let at = name.find(ANY_END);
            let sound = !name.is_empty() && at.is_none_or(|at| at > 0 && at + 1 == name.len());
            (!sound).then_some(NAME)
        })?;
    }
    entries("workloads", &spec.workloads, |kind| match kind {
        "CronJob" => Some(CRON_JOB),
        _ if is_kind(kind) => None,
        _ => Some(KIND),
    })?;
    for (at, argv) in spec.commands.iter().enumerate() {
        let problem = match argv.split_last() {
            Some((_, words)) if words.iter().any(|word| word == ANY_WORDS) => OPEN_END,
            _ if argv.first().is_none_or(|word| is_open(word)) => PROGRAM,
            _ => continue,
        };
        let field = format!("spec.commands[{at}]");
        let given = cut(&argv.join(", "), 80).into_owned();
        return Err(Invalid::new(&field, format!("[{given}] {problem}")));
    }
    Ok(())
}

fn entries(
    field: &str,
    all: &[String],
    problem: impl Fn(&str) -> Option<&'static str>,
) -> Result<(), Invalid> {
    let found = all
        .iter()
        .enumerate()
        .find_map(|(at, entry)| Some((at, entry, problem(entry)?)));
    match found {
        None => Ok(()),
        Some((at, entry, problem)) => Err(Invalid::new(
            &format!("spec.{field}[{at}]"),
            format!("{:?} {problem}", cut(entry, 80)),
        )),
    }
}

fn is_open(word: &str) -> bool {
    ["", ANY_WORD, ANY_WORDS].contains(&word)
}

fn is_kind(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.chars().all(|other| other.is_ascii_alphanumeric())
}

/// The names of users or groups.
pub(super) fn subjects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 256,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "x-kubernetes-validations": [{"rule": "!self.matches('^[*]|[*].')", "message": NAME}],
        },
        "x-kubernetes-validations": [{
            "rule": "size(self) > 0",
            "message": "an empty list matches nobody; leave it out to match everybody",
        }],
    })
}

/// The kinds of workloads.
pub(super) fn workloads(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 63,
            "x-kubernetes-validations": [
                {"rule": "self.matches('^[A-Z][A-Za-z0-9]*$')", "message": KIND},
                {"rule": "self != 'CronJob'", "message": CRON_JOB},
            ],
        },
        "x-kubernetes-validations": [{
            "rule": "size(self) > 0",
            "message": "an empty list matches no pod; leave it out to match all pods",
        }],
    })
}

/// Patterns of commands.
pub(super) fn commands(_: &mut SchemaGenerator) -> Schema {
    // An argv is not shown by the API server itself, which leaves the values of lists out.
    let told = |problem: &str| format!("'[' + self.join(', ') + '] {problem}'");
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "array",
            "maxItems": 32,
            "items": {"type": "string", "maxLength": 256},
            "x-kubernetes-validations": [
                {
                    "rule": "size(self) > 0 && !(self[0] in ['', '*', '...'])",
                    "message": PROGRAM,
                    "messageExpression": told(PROGRAM),
                },
                {
                    "rule": "size(self) == 0 || self.indexOf('...') in [-1, size(self) - 1]",
                    "message": OPEN_END,
                    "messageExpression": told(OPEN_END),
                },
            ],
        },
        "x-kubernetes-validations": [{
            "rule": "size(self) > 0",
            "message": "an empty list matches no command; leave it out to match all interactions",
        }],
    })
}
