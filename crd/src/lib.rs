//! InteractionPolicy and InteractionProfile as objects of Kubernetes.
//!
//! Owns the custom resources and their definitions (`manifests/base/crd.yaml` is [`definitions`] as YAML), and the rule
//! that decides which version of a policy is in force ([`Stored::reading`]): the one on the API server or, if that
//! is not valid, the last valid one. [`curfew_core::policy`] defines what a policy means, and
//! [`curfew_core::behaviour`] what a profile does. The input for the decision is built from an [`Attempt`] and a pod.
#![warn(missing_docs)]

mod profile;
mod subject;

pub use curfew_core::condition::{ACCEPTED, Condition};
pub use profile::{InteractionProfile, ProfileObjectSpec};
pub use subject::{Attempt, workload};

use curfew_core::{policy::Spec, text::cut};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{CustomResource, CustomResourceExt, Resource};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest sentence in a condition, in bytes.
const MAX_MESSAGE: usize = 512;

/// What happens after which interactions with which pods. If the conditions of several policies are met, the
/// one with the highest priority is used; of several with the same priority, the one whose name comes first in
/// the alphabet. Only this policy is used: fields that it leaves out are taken from the flags of Curfew's webhook,
/// not from other policies. A change applies to new interactions immediately, and does not move evictions that
/// were already announced.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "curfew.dev",
    version = "v1alpha1",
    kind = "InteractionPolicy",
    plural = "interactionpolicies",
    shortname = "ipol",
    status = "Status",
    derive = "PartialEq",
    doc = "Says what happens after an interaction with a pod by exec, attach, port-forward or debug. Applies \
           to all pods that meet its conditions, in all namespaces that are not exempt from Curfew.",
    printcolumn = r#"{"name": "Priority", "type": "integer", "jsonPath": ".spec.priority",
        "description": "The policy with the highest priority is used"}"#,
    printcolumn = r#"{"name": "Action", "type": "string", "jsonPath": ".spec.action",
        "description": "What happens; empty: Record for port-forward, Evict for all other kinds"}"#,
    printcolumn = r#"{"name": "Enforcement", "type": "string", "jsonPath": ".spec.enforcement",
        "description": "Whether pods are really evicted; empty: set by the webhook's flags"}"#,
    printcolumn = r#"{"name": "TTL", "type": "string", "jsonPath": ".spec.ttl",
        "description": "How long a pod may live after an interaction; empty: set by the webhook's flags"}"#,
    printcolumn = r#"{"name": "Max-Extension", "type": "string", "jsonPath": ".spec.maxExtension",
        "description": "The maximum by which users may extend that; empty: set by the webhook's flags"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status",
        "description": "Whether the policy is in force as written"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].message", "priority": 1,
        "description": "Why it is not in force as written"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct PolicySpec(pub Spec);

/// What Curfew reports about a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Accepted says whether the policy is in force as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
    ))]
    pub conditions: Vec<Condition>,
    /// The last valid version of the policy, which is in force instead of the current one. Absent if the policy is in
    /// force as written, or if there is no valid version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}

/// An earlier version of a policy that is still in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// Its metadata.generation.
    pub generation: i64,
    /// Its spec.
    #[schemars(schema_with = "anything")]
    pub spec: Spec,
}

/// A policy as it stands on the API server, whether it can be followed or not.
///
/// Lists and watches of [`InteractionPolicy`] itself fail as a whole on a single object that has another
/// form, for example one that a later release wrote.
#[derive(Debug, Clone, Default, Resource, Serialize, Deserialize)]
#[resource(inherit = "InteractionPolicy")]
pub struct Stored {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: Value,
    /// What Curfew made of it.
    #[serde(default)]
    pub status: Value,
}

/// What a stored policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It can be followed.
    Accepted(Spec),
    /// It cannot.
    Rejected {
        /// Why, in bounded length.
        why: String,
        /// What it said last that could be followed, as far as its status tells.
        in_force: Option<InForce>,
    },
}

impl Stored {
    /// Reads what it says. Fields that this release does not know make it unfit to be followed: they could
    /// be conditions, without which it would apply to more than was meant.
    pub fn reading(&self) -> Reading {
        match fit(self.spec.clone()) {
            Ok(spec) => Reading::Accepted(spec),
            Err(why) => Reading::Rejected {
                why: cut(&why, MAX_MESSAGE).into_owned(),
                in_force: self
                    .status()
                    .in_force
                    .filter(|old| old.spec.check().is_ok()),
            },
        }
    }

    /// Its status; an empty one where there is none that can be read.
    pub fn status(&self) -> Status {
        serde_json::from_value(self.status.clone()).unwrap_or_default()
    }

    /// Which version of it this is.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }
}

fn fit(spec: Value) -> Result<Spec, String> {
    let spec: Spec = serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))?;
    spec.check().map_err(|invalid| invalid.to_string())?;
    Ok(spec)
}

/// The definitions of the custom resources.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [
        readable(InteractionPolicy::crd()),
        readable(InteractionProfile::crd()),
    ]
}

fn readable(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            unfold(schema);
        }
    }
    definition
}

/// Joins the lines of descriptions, which are broken where the source code's lines end, and names formats as Kubernetes
/// does.
fn unfold(
    schema: &mut k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    };
    if let Some(description) = &mut schema.description {
        *description = description.replace('\n', " ");
    }
    // Kubernetes knows no unsigned formats, and warns whoever applies them. What is too large for the others is far
    // from what is possible.
    if let Some(format) = &mut schema.format
        && format.starts_with("uint")
    {
        *format = "int64".to_owned();
    }
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|all| all.values_mut())
    {
        unfold(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unfold(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        unfold(values);
    }
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(spec: Value, status: Value) -> Stored {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "generation": 3}, "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_can_be_followed_is() {
        let Reading::Accepted(spec) = stored(json!({"priority": 7}), Value::Null).reading() else {
            panic!()
        };
        assert_eq!(spec.priority, 7);
    }

    #[test]
    fn what_cannot_be_followed_comes_with_what_it_said_last_that_could() {
        let status = json!({"inForce": {"generation": 2, "spec": {"priority": 7}}});
        let Reading::Rejected { why, in_force } =
            stored(json!({"nodes": ["a"], "priority": 8}), status).reading()
        else {
            panic!()
        };
        assert!(why.contains("unknown field `nodes`"), "{why}");
        let in_force = in_force.unwrap();
        assert_eq!((in_force.generation, in_force.spec.priority), (2, 7));
    }

    #[test]
    fn nothing_is_in_force_where_that_cannot_be_followed_either() {
        for status in [
            Value::Null,
            json!({}),
            json!([1]),
            json!({"inForce": {"generation": 2, "spec": {"nodes": []}}}),
            json!({"inForce": {"generation": 2, "spec": {"ttl": "9000h"}}}),
        ] {
            let reading = stored(json!({"ttl": "1d"}), status.clone()).reading();
            let Reading::Rejected { why, in_force } = reading else {
                panic!("{status}")
            };
            assert!(why.contains("\"1d\" is not a duration"), "{why}");
            assert_eq!(in_force, None, "{status}");
        }
    }

    #[test]
    fn an_object_without_anything_is_a_policy_that_says_nothing() {
        let empty: Stored = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        assert!(matches!(empty.reading(), Reading::Rejected { .. }));
        let empty = stored(json!({}), Value::Null);
        assert_eq!(empty.reading(), Reading::Accepted(Spec::default()));
    }
}
