//! Policies of tests, which apply to the test's own namespace and go with it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{Namespace, eventually, kubectl::Said};

/// How soon a change of a policy holds for new interactions.
pub const PROMPT: Duration = Duration::from_secs(1);
const SETUP: Duration = Duration::from_secs(10);

/// The policies of a test.
#[derive(Debug)]
pub struct Policies<'a> {
    namespace: &'a Namespace,
    owner: Value,
}

/// Lets touched pods live for longer than the test takes.
pub async fn long_ttl(namespace: &Namespace) -> Result<()> {
    let policies = Policies::new(namespace).await?;
    policies.hold(&[("long", json!({"ttl": "1h"}))]).await
}

/// A policy was applied.
#[derive(Debug)]
pub struct Applied {
    /// Its name.
    pub name: String,
    at: Instant,
}

impl Applied {
    /// Waits until it has to hold.
    pub async fn holds(&self) {
        tokio::time::sleep_until(self.at + PROMPT).await;
    }
}

impl<'a> Policies<'a> {
    /// None yet.
    pub async fn new(namespace: &'a Namespace) -> Result<Self> {
        let owner = namespace.as_owner().await?;
        Ok(Self { namespace, owner })
    }

    /// The whole name of a policy of this test.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace.name)
    }

    /// Applies a policy as people do, whatever comes of it.
    pub async fn try_apply(&self, name: &str, spec: &Value) -> Result<Said> {
        let mut spec = spec.clone();
        if spec.get("namespaceSelector").is_none() {
            spec["namespaceSelector"] =
                json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace.name}});
        }
        let policy = json!({
            "apiVersion": "curfew.dev/v1alpha1",
            "kind": "InteractionPolicy",
            "metadata": {
                "name": self.name(name),
                "ownerReferences": [self.owner],
            },
            "spec": spec,
        });
        let kubectl = self.namespace.cluster.kubectl();
        kubectl
            .feed(&["apply", "-f", "-"], &policy.to_string())
            .await
    }

    /// Applies a policy.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, name: &str, spec: Value) -> Result<Applied> {
        self.try_apply(name, &spec).await?.success()?;
        Ok(Applied {
            name: self.name(name),
            at: Instant::now(),
        })
    }

    /// Applies several, and waits until they have to hold.
    pub async fn hold(&self, all: &[(&str, Value)]) -> Result<()> {
        for (name, spec) in all {
            self.apply(name, spec.clone()).await?;
        }
        tokio::time::sleep(PROMPT).await;
        Ok(())
    }

    /// Deletes a policy.
    pub async fn delete(&self, name: &str) -> Result<Applied> {
        let name = self.name(name);
        let kubectl = self.namespace.cluster.kubectl();
        kubectl.ok(&["delete", "ipol", &name]).await?;
        Ok(Applied {
            name,
            at: Instant::now(),
        })
    }

    /// Waits until the status speaks of the policy as it stands, and returns the policy.
    pub async fn reported(&self, name: &str) -> Result<Value> {
        let name = self.name(name);
        let kubectl = self.namespace.cluster.kubectl();
        eventually(SETUP, "the policy's status is current", async || {
            let text = kubectl.ok(&["get", "ipol", &name, "-o", "json"]).await?;
            let policy: Value = serde_json::from_str(&text)?;
            let condition = &policy["status"]["conditions"][0];
            ensure!(condition["type"] == "Accepted", "{policy}");
            let current = condition["observedGeneration"] == policy["metadata"]["generation"];
            Ok(current.then_some(policy))
        })
        .await
    }
}
