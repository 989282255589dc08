//! PodDisruptionBudgets over the pods of a test.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{Namespace, eventually};

/// How soon a budget has its numbers.
const SEEN: Duration = Duration::from_secs(20);

/// The budgets of the namespace.
pub fn budgets(namespace: &Namespace) -> Api<PodDisruptionBudget> {
    Api::namespaced(namespace.cluster.client.clone(), &namespace.name)
}

/// Makes a budget over the two pods of `web`, which keeps both unless `more` of its spec says otherwise, and
/// waits until its controller has looked at it.
pub async fn budget(namespace: &Namespace, name: &str, more: Value) -> Result<()> {
    let mut spec = json!({"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    create(namespace, name, &spec, 2, None).await
}

/// Makes a budget over all pods of a workload, of which `least` have to run, and waits until its controller has
/// counted them.
pub async fn budget_of(namespace: &Namespace, app: &str, pods: i32, least: i32) -> Result<()> {
    let spec = json!({"minAvailable": least, "selector": {"matchLabels": {"app": app}}});
    create(namespace, app, &spec, pods, Some(pods - least)).await
}

/// Makes a budget, and waits until its controller has found so many pods, of which so many may go.
async fn create(
    namespace: &Namespace,
    name: &str,
    spec: &Value,
    pods: i32,
    allowed: Option<i32>,
) -> Result<()> {
    let object: PodDisruptionBudget =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
    budgets(namespace)
        .create(&PostParams::default(), &object)
        .await?;
    let what = format!("the budget {name} has its numbers");
    eventually(SEEN, &what, async || {
        let status = budgets(namespace).get(name).await?.status;
        Ok(status
            .filter(|status| status.expected_pods == pods)
            .filter(|status| allowed.is_none_or(|allowed| status.disruptions_allowed == allowed))
            .map(drop))
    })
    .await
}
