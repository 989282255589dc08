//! What tests run: pods of one busybox container.

use anyhow::Result;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use serde_json::{Value, json};

/// The image, present on both nodes.
pub const IMAGE: &str = "localhost/busybox:e2e";
/// The name of the container.
pub const CONTAINER: &str = "main";

/// A pod, or many alike.
#[derive(Debug, Clone)]
pub struct Workload {
    name: String,
    spec: Value,
}

impl Workload {
    /// A pod that does nothing and goes at once when it is to go.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            spec: json!({
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": CONTAINER,
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "86400"],
                }],
            }),
        }
    }

    /// On this node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        self
    }

    /// Spread over the nodes.
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": self.name}},
        }]);
        self
    }

    /// With this many seconds from its deletion to its end; the container waits for all of them.
    #[must_use]
    pub fn grace(mut self, seconds: u32) -> Self {
        self.spec["terminationGracePeriodSeconds"] = json!(seconds);
        self
    }

    /// Running this script instead.
    #[must_use]
    pub fn script(mut self, script: &str) -> Self {
        self.spec["containers"][0]["command"] = json!(["sh", "-c", script]);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a single pod, which nobody replaces.
    pub fn pod(&self) -> Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": self.spec,
        }))?)
    }

    /// As a Deployment.
    pub fn deployment(&self, replicas: usize) -> Result<Deployment> {
        let labels = json!({"app": self.name});
        Ok(serde_json::from_value(json!({
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": self.spec},
            },
        }))?)
    }
}
