//! Policies as they stand on the API server, up to what follows from an interaction.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{
    Action, Kind,
    policy::{Policies, Policy, PolicyDecision, PolicyMatch, Spec, Subject},
    terms::DefaultTerms,
};
use curfew_crd::{Reading, Stored};
use serde::Deserialize;

use crate::same;

const YEAR: Duration = Duration::from_secs(8760 * 3600);

/// What people reach into.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Asked {
    namespace: String,
    namespace_labels: BTreeMap<String, String>,
    pod_labels: BTreeMap<String, String>,
    priority: i32,
    managed: bool,
    of_job: bool,
    workload: String,
    user: String,
    groups: Vec<String>,
    argv: Vec<String>,
    stdin: bool,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    items: Vec<Stored>,
    #[serde(default)]
    asked: Asked,
}

/// A list of policies as `kubectl get ipol -o json` shows it, and in `asked` who does what to which pod.
pub fn policy(bytes: &[u8]) {
    let Ok(Input { items, asked }) = serde_json::from_slice(bytes) else {
        return;
    };
    let read = items.iter().enumerate().filter_map(|(at, stored)| {
        let spec = match stored.reading() {
            Reading::Accepted(spec) => spec,
            Reading::Rejected { why, in_force } => {
                assert!(!why.is_empty() && why.len() <= 512, "{why}");
                in_force?.spec
            }
        };
        sound(&spec);
        Some(Policy {
            name: format!("policy-{at}"),
            spec,
        })
    });
    let policies: Policies = read.collect();
    for &kind in Kind::ALL {
        let subject = Subject {
            namespace: &asked.namespace,
            namespace_labels: &asked.namespace_labels,
            pod_labels: &asked.pod_labels,
            priority: asked.priority,
            managed: asked.managed,
            of_job: asked.of_job,
            workload: &asked.workload,
            mirror: false,
            user: &asked.user,
            groups: &asked.groups,
            kind,
            argv: &asked.argv,
            stdin: asked.stdin,
            tty: false,
            behaviour: None,
        };
        judged(&policies, &subject);
    }
}

/// What is followed can be written down and read again.
fn sound(spec: &Spec) {
    assert!(spec.check().is_ok());
    let written = serde_json::to_value(spec).unwrap_or_default();
    same!(
        serde_json::from_value::<Spec>(written).ok().as_ref(),
        Some(spec)
    );
}

fn judged(policies: &Policies, subject: &Subject<'_>) {
    let defaults = DefaultTerms {
        ttl: Duration::from_secs(600),
        max_extension: Duration::from_secs(8 * 3600),
        max_hold: Duration::from_secs(24 * 3600),
        enforcement: curfew_core::Enforcement::Enforce,
    };
    let explained = policies.explain(subject);
    let mut applying = explained
        .iter()
        .filter(|considered| considered.matched == PolicyMatch::Applies)
        .map(|considered| considered.policy.name.as_str());
    let applies = applying.next();
    assert_eq!(applying.next(), None, "two policies apply");
    match policies.decide(subject, defaults) {
        PolicyDecision::Deny { policy, .. } => assert_eq!(Some(policy), applies),
        PolicyDecision::Admit(admitted) => {
            assert_eq!(admitted.policy, applies);
            let terms = admitted.terms;
            assert!(terms.ttl >= Duration::from_secs(1) && terms.ttl <= YEAR);
            assert!(terms.max_extension <= YEAR && terms.max_hold <= YEAR);
            assert!(terms.exemption.is_none() || terms.action == Action::Record);
        }
    }
}
