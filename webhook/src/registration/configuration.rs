//! The ValidatingWebhookConfiguration that this release expects, and how another one differs from it.
//!
//! Owns which requests the API server sends to the webhook. [`crate::registration`] writes the configuration to the
//! API server. Nothing here does any I/O.

mod fit;

use std::collections::BTreeMap;

use crate::{
    identity::paths::Paths,
    names::{
        EVICTION, EVICTION_PATH, INTERACTION, INTERACTION_PATH, NAME, PROBE, PROBE_PATH, TIMEOUT,
        labels,
    },
    registration::api_server::ConnectVerbs,
};
use curfew_core::{identity::AGENT_ACCOUNT, namespaces};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{
        LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
    },
};

pub use fit::{Fit, fit};

/// The label of the objects by which it is proved that the API server reaches a replica.
pub const PROBE_LABEL: &str = "curfew.dev/probe";
/// The label that tells which release wrote the configuration.
const VERSION_LABEL: &str = "app.kubernetes.io/version";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the configuration depends on.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "it holds secrets")]
pub struct Installation {
    /// The namespace of Curfew.
    pub namespace: String,
    /// Its UID.
    pub namespace_uid: String,
    /// The CAs of the webhook's certificate (PEM).
    pub ca: String,
    /// Under which paths it is asked.
    pub paths: Paths,
    /// Whether it guards the agents' evictions.
    pub eviction_guard: bool,
    /// Who may connect to a pod.
    pub connect_verbs: ConnectVerbs,
}

impl Installation {
    /// The whole configuration.
    pub fn full(&self) -> ValidatingWebhookConfiguration {
        let mut webhooks = vec![self.interaction(), self.probe()];
        webhooks.extend(self.eviction_guard.then(|| self.eviction()));
        self.configuration(webhooks)
    }

    /// What stands while it is not proved that the API server reaches a replica: the probe alone,
    /// and what may have stood for interactions and evictions before, as it was.
    pub fn probing(
        &self,
        before: Option<&ValidatingWebhookConfiguration>,
    ) -> ValidatingWebhookConfiguration {
        let mut webhooks = vec![self.probe()];
        webhooks.extend(
            [INTERACTION, EVICTION]
                .iter()
                .filter_map(|name| webhook(before?, name).cloned()),
        );
        self.configuration(webhooks)
    }

    fn configuration(&self, webhooks: Vec<ValidatingWebhook>) -> ValidatingWebhookConfiguration {
        let mut labels = labels();
        // On AKS, an enforcer adds to the selectors of configurations without it.
        labels.insert("admissions.enforcer/disabled".to_owned(), "true".to_owned());
        labels.insert(VERSION_LABEL.to_owned(), VERSION.to_owned());
        ValidatingWebhookConfiguration {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(labels),
                // It goes with the namespace, even when no replica is left to delete it.
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Namespace".to_owned(),
                    name: self.namespace.clone(),
                    uid: self.namespace_uid.clone(),
                    block_owner_deletion: Some(false),
                    controller: None,
                }]),
                ..ObjectMeta::default()
            },
            webhooks: Some(webhooks),
        }
    }

    fn interaction(&self) -> ValidatingWebhook {
        ValidatingWebhook {
            name: INTERACTION.to_owned(),
            rules: Some(vec![
                rule("CONNECT", &["pods/exec", "pods/attach", "pods/portforward"]),
                rule("UPDATE", &["pods/ephemeralcontainers"]),
            ]),
            namespace_selector: Some(selector(&[
                (
                    "kubernetes.io/metadata.name",
                    "NotIn",
                    &[namespaces::SYSTEM, &self.namespace],
                ),
                (namespaces::LABEL, "NotIn", &[namespaces::EXEMPT]),
            ])),
            object_selector: Some(LabelSelector::default()),
            side_effects: "NoneOnDryRun".to_owned(),
            match_conditions: Some(vec![
                // Without Curfew's permissions nothing could be recorded. They are taken away first
                // when it is removed, and from then on this configuration stops nobody.
                condition(
                    "curfew-is-installed",
                    format!(
                        "authorizer.serviceAccount('{}', '{NAME}').group('').resource('pods')\
                         .check('get').allowed()",
                        self.namespace
                    ),
                ),
                is_allowed(self.connect_verbs),
            ]),
            ..self.webhook(INTERACTION_PATH)
        }
    }

    /// The guard of the evictions that agents request as their own account. It knows no exemption, of namespaces or of a removed Curfew:
    /// whom it stops is an agent and nobody else, and an agent that it does not stop could evict
    /// whatever pod it likes, there too.
    fn eviction(&self) -> ValidatingWebhook {
        ValidatingWebhook {
            name: EVICTION.to_owned(),
            rules: Some(vec![rule("CREATE", &["pods/eviction"])]),
            namespace_selector: Some(LabelSelector::default()),
            object_selector: Some(LabelSelector::default()),
            side_effects: "None".to_owned(),
            match_conditions: Some(vec![condition(
                "is-agent",
                format!(
                    "request.userInfo.username == 'system:serviceaccount:{}:{}'",
                    self.namespace, AGENT_ACCOUNT
                ),
            )]),
            ..self.webhook(EVICTION_PATH)
        }
    }

    fn probe(&self) -> ValidatingWebhook {
        ValidatingWebhook {
            name: PROBE.to_owned(),
            rules: Some(vec![rule("CREATE", &["configmaps"])]),
            namespace_selector: Some(selector(&[(
                "kubernetes.io/metadata.name",
                "In",
                &[&self.namespace],
            )])),
            object_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(
                    PROBE_LABEL.to_owned(),
                    "true".to_owned(),
                )])),
                ..LabelSelector::default()
            }),
            side_effects: "None".to_owned(),
            ..self.webhook(PROBE_PATH)
        }
    }

    fn webhook(&self, path: &str) -> ValidatingWebhook {
        ValidatingWebhook {
            client_config: WebhookClientConfig {
                ca_bundle: Some(ByteString(self.ca.clone().into_bytes())),
                service: Some(ServiceReference {
                    name: NAME.to_owned(),
                    namespace: self.namespace.clone(),
                    path: Some(self.paths.told(path)),
                    port: Some(443),
                }),
                url: None,
            },
            failure_policy: Some("Fail".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            admission_review_versions: vec!["v1".to_owned()],
            timeout_seconds: Some(TIMEOUT.as_secs() as i32),
            ..ValidatingWebhook::default()
        }
    }
}

fn rule(operation: &str, resources: &[&str]) -> RuleWithOperations {
    let owned = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    RuleWithOperations {
        api_groups: owned(&[""]),
        api_versions: owned(&["v1"]),
        operations: owned(&[operation]),
        resources: owned(resources),
        scope: Some("Namespaced".to_owned()),
    }
}

fn selector(all: &[(&str, &str, &[&str])]) -> LabelSelector {
    let requirements = all
        .iter()
        .map(|(key, operator, values)| LabelSelectorRequirement {
            key: (*key).to_owned(),
            operator: (*operator).to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        });
    LabelSelector {
        match_expressions: Some(requirements.collect()),
        match_labels: None,
    }
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition {
        name: name.to_owned(),
        expression,
    }
}

/// Since Kubernetes 1.35, admission comes before the API server's own check that a connection may be made: what it is
/// about to refuse must mark no pod. An update was checked before. Older API servers have checked `get`, which is the
/// verb of a WebSocket, and check nothing after admission.
fn is_allowed(verbs: ConnectVerbs) -> MatchCondition {
    let check = |verb: &str| {
        format!(
            "authorizer.group('').resource('pods').subresource(request.subResource)\
             .namespace(request.namespace).name(request.name).check('{verb}').allowed()"
        )
    };
    let checks = match verbs {
        ConnectVerbs::Create => check("create"),
        ConnectVerbs::GetOrCreate => format!("{} || {}", check("get"), check("create")),
    };
    condition(
        "is-allowed",
        format!("request.operation != 'CONNECT' || {checks}"),
    )
}

fn webhook<'a>(
    configuration: &'a ValidatingWebhookConfiguration,
    name: &str,
) -> Option<&'a ValidatingWebhook> {
    configuration
        .webhooks
        .iter()
        .flatten()
        .find(|webhook| webhook.name == name)
}

/// Whom the API server trusts by this configuration (PEM).
pub fn trusted(configuration: &ValidatingWebhookConfiguration) -> Option<String> {
    let first = configuration.webhooks.as_ref()?.first()?;
    String::from_utf8(first.client_config.ca_bundle.clone()?.0).ok()
}

/// Whether another release wrote this configuration and not this one. While an update of Curfew is
/// rolled out, two releases run side by side and must not undo each other's work for ever.
pub fn is_of_another_release(actual: &ValidatingWebhookConfiguration) -> bool {
    let version = actual
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(VERSION_LABEL));
    version.is_some_and(|version| version != VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn installation() -> Installation {
        Installation {
            namespace: "curfew".into(),
            namespace_uid: "u-1".into(),
            ca: "PEM".into(),
            paths: Paths::new(std::time::SystemTime::now()).unwrap(),
            eviction_guard: true,
            connect_verbs: ConnectVerbs::Create,
        }
    }

    #[test]
    fn who_connects_with_either_verb_is_seen_where_either_suffices() {
        let expression = |verbs| is_allowed(verbs).expression;
        let (one, both) = (
            expression(ConnectVerbs::Create),
            expression(ConnectVerbs::GetOrCreate),
        );
        assert!(one.contains("check('create')") && !one.contains("check('get')"));
        assert!(both.contains("check('create')") && both.contains("check('get')"));
        for expression in [one, both] {
            assert!(expression.starts_with("request.operation != 'CONNECT' || "));
        }
    }

    #[test]
    fn nothing_else_is_sent_here_before_it_is_proved_that_they_arrive() {
        let probing = installation().probing(None);
        assert!(webhook(&probing, INTERACTION).is_none());
        assert!(webhook(&probing, EVICTION).is_none());
        assert!(webhook(&probing, PROBE).is_some());
        assert!(webhook(&installation().full(), EVICTION).is_some());
    }

    #[test]
    fn evictions_are_sent_here_only_where_the_guard_is_wanted() {
        let mut without = installation();
        without.eviction_guard = false;
        let (full, before) = (without.full(), installation().full());
        assert!(webhook(&full, EVICTION).is_none());
        assert!(webhook(&full, INTERACTION).is_some() && webhook(&full, PROBE).is_some());
        let same = |wanted: &_, actual: &_| fit(wanted, actual) == Fit::Same;
        let before = ValidatingWebhookConfiguration {
            webhooks: before.webhooks.map(|all| {
                let own = full.webhooks.clone().unwrap_or_default();
                let guard = all.into_iter().filter(|webhook| webhook.name == EVICTION);
                own.into_iter().chain(guard).collect()
            }),
            ..full.clone()
        };
        assert!(same(&full, &full));
        assert!(!same(&full, &before), "a guard that is left is taken away");
        assert!(!same(&before, &full), "a guard that is missing is added");
    }

    #[test]
    fn every_path_ends_in_the_token() {
        let installation = installation();
        let full = installation.full();
        assert!(installation.paths.are_told_by(&full));
        let others = Paths::new(std::time::SystemTime::now()).unwrap();
        assert!(!others.are_told_by(&full));
        for webhook in full.webhooks.iter().flatten() {
            let path = webhook.client_config.service.as_ref().unwrap().path.clone();
            assert_eq!(path.unwrap().split('/').count(), 4);
        }
        let labels = full.metadata.labels.unwrap();
        assert_eq!(labels["admissions.enforcer/disabled"], "true");
    }

    #[test]
    fn what_stood_before_stays_while_it_is_probed() {
        let mut before = installation();
        before.ca = "an older one".into();
        let before = before.full();
        let probing = installation().probing(Some(&before));
        for name in [INTERACTION, EVICTION] {
            assert!(webhook(&probing, name).is_some());
            assert_eq!(webhook(&probing, name), webhook(&before, name));
        }
        let probe = webhook(&probing, PROBE).unwrap();
        assert!(
            probe.client_config.ca_bundle
                != webhook(&before, PROBE).unwrap().client_config.ca_bundle
        );
    }

    #[test]
    fn evictions_by_agents_are_sent_here_from_everywhere() {
        let eviction = installation().eviction();
        assert_eq!(
            eviction.namespace_selector,
            Some(LabelSelector::default()),
            "no namespace is exempt"
        );
        let conditions: Vec<_> = eviction.match_conditions.iter().flatten().collect();
        assert_eq!(conditions.len(), 1);
        assert_eq!(
            conditions[0].expression,
            "request.userInfo.username == 'system:serviceaccount:curfew:curfew-agent'"
        );
        assert_eq!(eviction.failure_policy.as_deref(), Some("Fail"));
    }

    #[test]
    fn another_release_is_known_by_its_label() {
        let mut actual = installation().full();
        assert!(!is_of_another_release(&actual));
        let labels = actual.metadata.labels.as_mut().unwrap();
        labels.insert(VERSION_LABEL.into(), "99.0.0".into());
        assert!(is_of_another_release(&actual));
        actual.metadata.labels = None;
        assert!(!is_of_another_release(&actual));
    }
}
