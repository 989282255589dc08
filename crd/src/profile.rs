//! InteractionProfile as an object of Kubernetes.

use curfew_core::behaviour::{ProfileSpec, ProfileStatus};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people say about a workload, and what is usual there whether it was learned or not.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "curfew.dev",
    version = "v1alpha1",
    kind = "InteractionProfile",
    plural = "interactionprofiles",
    shortname = "iprof",
    namespaced,
    status = "ProfileStatus",
    derive = "PartialEq",
    doc = "Says what is usual for the pods of a workload: which users interact with them, how, and with which programs. \
           Its name is the kind and the name of the workload, such as deployment.web. Curfew's webhook writes the \
           status if an InteractionPolicy says learn: true. People write the spec.",
    printcolumn = r#"{"name": "Stage", "type": "string", "jsonPath": ".status.stage",
        "description": "The stage of the workload"}"#,
    printcolumn = r#"{"name": "Samples", "type": "integer", "jsonPath": ".status.samples",
        "description": "How many interactions were learned"}"#,
    printcolumn = r#"{"name": "Since", "type": "date", "jsonPath": ".status.since",
        "description": "When the first of them was"}"#,
    printcolumn = r#"{"name": "Irregular", "type": "integer", "jsonPath": ".status.irregular",
        "description": "How many irregular interactions there were"}"#,
    printcolumn = r#"{"name": "Last-Irregular", "type": "date", "jsonPath": ".status.lastIrregular.time",
        "description": "When the last of them was"}"#,
    printcolumn = r#"{"name": "Why", "type": "string", "jsonPath": ".status.lastIrregular.reason", "priority": 1,
        "description": "Why it was irregular"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status", "priority": 1,
        "description": "Whether the profile can be used"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct ProfileObjectSpec(pub ProfileSpec);
