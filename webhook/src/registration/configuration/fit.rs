//! How the configuration on the API server differs from the expected one.
//!
//! Additions by others are fine if they have no effect on the requests that are sent to the webhook. An addition to
//! a selector or to the conditions can only exclude requests. It is reported, but it is not reverted as quickly as a
//! change.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, ValidatingWebhook, ValidatingWebhookConfiguration,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement,
};
use serde_json::Value;

use super::{is_allowed, webhook};
use crate::{names::EVICTION, registration::api_server::ConnectVerbs};

/// How a configuration is, compared with the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// Everything that is wanted stands there. What else stands there changes nothing.
    Same,
    /// Others have added conditions, by which the API server does not ask about everything that it should.
    Narrowed(String),
    /// Something else stands there.
    Other,
}

/// How this configuration is, compared with the one that is wanted.
pub fn fit(
    wanted: &ValidatingWebhookConfiguration,
    actual: &ValidatingWebhookConfiguration,
) -> Fit {
    let mut without = actual.clone();
    let mut added = Vec::new();
    for webhook in without.webhooks.iter_mut().flatten() {
        let wanted = wanted.webhooks.iter().flatten();
        if let Some(wanted) = wanted
            .into_iter()
            .find(|wanted| wanted.name == webhook.name)
        {
            take_additions_off(webhook, wanted, &mut added);
        }
    }
    // An earlier release, or this one with other flags, has left the guard.
    let is_left = webhook(wanted, EVICTION).is_none() && webhook(actual, EVICTION).is_some();
    match (is_there(wanted, &without) && !is_left, added.is_empty()) {
        (false, _) => Fit::Other,
        (true, true) => Fit::Same,
        (true, false) => Fit::Narrowed(added.join("; ")),
    }
}

/// Takes off whatever narrows a webhook and is not wanted. What makes a difference is added to the list.
fn take_additions_off(
    webhook: &mut ValidatingWebhook,
    wanted: &ValidatingWebhook,
    added: &mut Vec<String>,
) {
    let name = webhook.name.clone();
    for (field, selector, wanted) in [
        (
            "namespaceSelector",
            &mut webhook.namespace_selector,
            &wanted.namespace_selector,
        ),
        (
            "objectSelector",
            &mut webhook.object_selector,
            &wanted.object_selector,
        ),
    ] {
        let (Some(selector), Some(wanted)) = (selector, wanted) else {
            continue;
        };
        let expressions: &[_] = wanted.match_expressions.as_deref().unwrap_or_default();
        if let Some(actual) = &mut selector.match_expressions {
            actual.retain(|requirement| {
                let is_wanted = expressions.contains(requirement);
                if !is_wanted && !expressions.iter().any(|one| implies(one, requirement)) {
                    let LabelSelectorRequirement { key, operator, .. } = requirement;
                    added.push(format!("{name}: {field}: {key} {operator}"));
                }
                is_wanted
            });
            if actual.is_empty() && wanted.match_expressions.is_none() {
                selector.match_expressions = None;
            }
        }
        if let Some(actual) = &mut selector.match_labels {
            actual.retain(|key, value| {
                let labels = wanted.match_labels.as_ref();
                let is_wanted = labels.and_then(|labels| labels.get(key)) == Some(value);
                if !is_wanted {
                    added.push(format!("{name}: {field}: {key}={value}"));
                }
                is_wanted
            });
        }
    }
    if let Some(actual) = &mut webhook.match_conditions {
        take_for_wanted(actual, wanted);
        actual.retain(|condition| {
            let is_wanted = wanted
                .match_conditions
                .iter()
                .flatten()
                .any(|one| one == condition);
            if !is_wanted {
                added.push(format!("{name}: matchConditions: {}", condition.name));
            }
            is_wanted
        });
    }
}

/// While API servers are upgraded, replicas of the webhook may see servers of both kinds. The condition of older ones
/// excludes nothing that the other one lets through, so it stands until the configuration is written for another reason.
fn take_for_wanted(actual: &mut [MatchCondition], wanted: &ValidatingWebhook) {
    let (older, newer) = (
        is_allowed(ConnectVerbs::GetOrCreate),
        is_allowed(ConnectVerbs::Create),
    );
    let wants_newer = wanted
        .match_conditions
        .iter()
        .flatten()
        .any(|one| *one == newer);
    for condition in actual.iter_mut().filter(|_| wants_newer) {
        if *condition == older {
            condition.clone_from(&newer);
        }
    }
}

/// Whether whatever meets one requirement meets the other.
fn implies(one: &LabelSelectorRequirement, other: &LabelSelectorRequirement) -> bool {
    let values = |of: &LabelSelectorRequirement| of.values.clone().unwrap_or_default();
    one.key == other.key
        && one.operator == "NotIn"
        && other.operator == "NotIn"
        && values(other)
            .iter()
            .all(|value| values(one).contains(value))
}

/// Whether everything that is wanted stands there. What else stands there is somebody else's.
fn is_there(
    wanted: &ValidatingWebhookConfiguration,
    actual: &ValidatingWebhookConfiguration,
) -> bool {
    let labels = wanted.metadata.labels.iter().flatten().all(|(key, value)| {
        let actual = actual.metadata.labels.as_ref();
        actual.and_then(|labels| labels.get(key)) == Some(value)
    });
    let owners = wanted
        .metadata
        .owner_references
        .iter()
        .flatten()
        .all(|wanted| {
            let actual = actual.metadata.owner_references.iter().flatten();
            actual.into_iter().any(|actual| actual.uid == wanted.uid)
        });
    let webhooks = wanted.webhooks.iter().flatten().all(|wanted| {
        webhook(actual, &wanted.name).is_some_and(|actual| {
            match (serde_json::to_value(wanted), serde_json::to_value(actual)) {
                (Ok(wanted), Ok(actual)) => covers(&actual, &wanted),
                _ => false,
            }
        })
    });
    labels && owners && webhooks
}

/// Whether a value has all that is wanted of it; objects may have more.
fn covers(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| actual.get(key).is_some_and(|actual| covers(actual, wanted))),
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len()
                && actual
                    .iter()
                    .zip(wanted)
                    .all(|(actual, wanted)| covers(actual, wanted))
        }
        _ => actual == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{condition, tests::installation},
        *,
    };

    #[test]
    fn what_differs_is_seen_and_what_others_added_is_not_ours() {
        let wanted = installation().full();
        let mut actual = wanted.clone();
        actual.metadata.resource_version = Some("7".into());
        actual.webhooks.as_mut().unwrap().push(ValidatingWebhook {
            name: "else.example".into(),
            ..ValidatingWebhook::default()
        });
        assert!(is_there(&wanted, &actual));

        let mut other = actual.clone();
        other.webhooks.as_mut().unwrap()[0].failure_policy = Some("Ignore".into());
        assert!(!is_there(&wanted, &other));
        let mut other = actual.clone();
        other.webhooks.as_mut().unwrap()[0]
            .rules
            .as_mut()
            .unwrap()
            .pop();
        assert!(!is_there(&wanted, &other));
        let mut other = actual.clone();
        other.webhooks.as_mut().unwrap().remove(0);
        assert!(!is_there(&wanted, &other));
        assert!(!is_there(&wanted, &installation().probing(None)));
    }

    #[test]
    fn what_others_add_is_told_from_what_they_change() {
        let wanted = installation().full();
        let changed = |change: &dyn Fn(&mut ValidatingWebhook)| {
            let mut actual = wanted.clone();
            change(&mut actual.webhooks.as_mut().unwrap()[0]);
            fit(&wanted, &actual)
        };
        let require = |key: &str, operator: &str, values: &[&str], first: bool| {
            changed(&|webhook: &mut ValidatingWebhook| {
                let selector = webhook.namespace_selector.as_mut().unwrap();
                let all = selector.match_expressions.as_mut().unwrap();
                all.insert(
                    if first { 0 } else { all.len() },
                    LabelSelectorRequirement {
                        key: key.into(),
                        operator: operator.into(),
                        values: Some(values.iter().map(|value| (*value).into()).collect()),
                    },
                );
            })
        };
        let narrowed = |fit: Fit, what: &str| match fit {
            Fit::Narrowed(told) => assert!(told.contains(what), "{told}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(fit(&wanted, &wanted), Fit::Same);
        for first in [true, false] {
            // As the enforcer of AKS does.
            narrowed(
                require("control-plane", "DoesNotExist", &[], first),
                "control-plane",
            );
            let same = require(
                "kubernetes.io/metadata.name",
                "NotIn",
                &["kube-system"],
                first,
            );
            assert_eq!(same, Fit::Same, "no other namespace is left out");
            narrowed(
                require(
                    "kubernetes.io/metadata.name",
                    "NotIn",
                    &["kube-system", "shop"],
                    first,
                ),
                "metadata.name",
            );
            narrowed(
                require("kubernetes.io/metadata.name", "In", &["kube-system"], first),
                "metadata.name",
            );
        }
        let labels = Some([("team".to_owned(), "a".to_owned())].into());
        narrowed(
            changed(&|webhook| {
                webhook.namespace_selector.as_mut().unwrap().match_labels = labels.clone();
            }),
            "team=a",
        );
        narrowed(
            changed(&|webhook| {
                webhook.object_selector.as_mut().unwrap().match_labels = labels.clone();
            }),
            "objectSelector",
        );
        narrowed(
            changed(&|webhook| {
                let never = condition("never", "false".into());
                webhook.match_conditions.as_mut().unwrap().push(never);
            }),
            "never",
        );
        let other = changed(&|webhook| {
            let selector = webhook.namespace_selector.as_mut().unwrap();
            selector.match_expressions.as_mut().unwrap().pop();
        });
        assert_eq!(other, Fit::Other);
        let other = changed(&|webhook| webhook.match_conditions = None);
        assert_eq!(other, Fit::Other);
        let other = changed(&|webhook| webhook.failure_policy = Some("Ignore".into()));
        assert_eq!(other, Fit::Other);
    }

    #[test]
    fn the_condition_of_older_servers_may_stay_and_the_other_may_not() {
        let newer = installation();
        let mut older = newer.clone();
        older.connect_verbs = ConnectVerbs::GetOrCreate;
        let (newer, older) = (newer.full(), older.full());
        assert_eq!(fit(&newer, &older), Fit::Same);
        assert_eq!(fit(&older, &newer), Fit::Other);
        assert_eq!(fit(&older, &older), Fit::Same);
    }
}
