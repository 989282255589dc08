//! Label selectors, with the meaning that they have everywhere in Kubernetes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::Invalid;
use crate::names::is_subdomain;

/// A label selector: all entries of both fields must match. A selector without entries matches everything.
// What stands here and in the fields below is shown by `kubectl explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that must exist with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<Requirement>,
}

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "message": "operators In and NotIn need values; Exists and DoesNotExist must have none",
}]))]
pub struct Requirement {
    /// The key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In and NotIn compare the label with the values; Exists and DoesNotExist check whether the label exists.
    /// NotIn also matches if the label does not exist.
    pub operator: Operator,
    /// The values for In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// Its value is one of these.
    In,
    /// Its value is none of these, or it is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether these labels are selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }

    /// Finds what no API server would take for a selector.
    pub(super) fn check(&self, field: &str) -> Result<(), Invalid> {
        for (key, value) in &self.match_labels {
            check_label(&format!("{field}.matchLabels"), key, &[value.as_str()])?;
        }
        for (at, requirement) in self.match_expressions.iter().enumerate() {
            let field = format!("{field}.matchExpressions[{at}]");
            let values: Vec<_> = requirement.values.iter().map(String::as_str).collect();
            check_label(&field, &requirement.key, &values)?;
            let needs_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
            if needs_values == values.is_empty() {
                return Err(Invalid::new(
                    &field,
                    "In and NotIn need values, Exists and DoesNotExist must have none",
                ));
            }
        }
        Ok(())
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

fn check_label(field: &str, key: &str, values: &[&str]) -> Result<(), Invalid> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("example.com", key));
    if name.is_empty() || !is_label_text(name) || !is_subdomain(prefix) {
        let problem = format!("{:?} is not a valid label key", crate::text::cut(key, 80));
        return Err(Invalid::new(field, problem));
    }
    match values.iter().find(|value| !is_label_text(value)) {
        None => Ok(()),
        Some(value) => {
            let problem = format!(
                "{:?} is not a valid label value",
                crate::text::cut(value, 80)
            );
            Err(Invalid::new(field, problem))
        }
    }
}

/// Whether this can be a label's value, or the part of its key behind the slash.
fn is_label_text(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn match_labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    // The keys are checked by the webhook alone: a rule over them would be refused as too expensive,
    // because a schema cannot bound the length of keys.
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}
