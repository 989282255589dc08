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
    group: Option<String>,
    spec: Value,
}

impl Workload {
    /// A pod that does nothing and goes at once when it is to go.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: None,
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

    /// Of this PriorityClass.
    #[must_use]
    pub fn priority_class(mut self, name: &str) -> Self {
        self.spec["priorityClassName"] = json!(name);
        self
    }

    /// With this many seconds from its deletion to its end; the container waits for all of them.
    #[must_use]
    pub fn grace(mut self, seconds: u32) -> Self {
        self.spec["terminationGracePeriodSeconds"] = json!(seconds);
        self
    }

    /// Of this priority class.
    #[must_use]
    pub fn of_class(mut self, class: &str) -> Self {
        self.spec["priorityClassName"] = json!(class);
        self
    }

    /// Running this script instead.
    #[must_use]
    pub fn script(mut self, script: &str) -> Self {
        self.spec["containers"][0]["command"] = json!(["sh", "-c", script]);
        self
    }

    /// With this in its container, such as probes.
    #[must_use]
    pub fn with(mut self, more: Value) -> Self {
        let container = self.spec["containers"][0].as_object_mut();
        if let (Some(container), Value::Object(more)) = (container, more) {
            container.extend(more);
        }
        self
    }

    /// With an empty volume at this path.
    #[must_use]
    pub fn with_empty_dir(mut self, path: &str) -> Self {
        self.spec["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        self.with(json!({"volumeMounts": [{"name": "data", "mountPath": path}]}))
    }

    /// Ready as long as this file is there, which it is from the start.
    #[must_use]
    pub fn ready_while(mut self, file: &str) -> Self {
        self.spec["containers"][0]["readinessProbe"] = json!({
            "exec": {"command": ["cat", file]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        });
        self.script(&format!("touch {file}; exec sleep 86400"))
    }

    /// With the label `group`, which several may share.
    #[must_use]
    pub fn in_group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Not started again when it ends.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.spec["restartPolicy"] = json!("Never");
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a single pod, which nobody replaces.
    pub fn pod(&self) -> Result<Pod> {
        let mut labels = json!({"app": self.name});
        if let Some(group) = &self.group {
            labels["group"] = json!(group);
        }
        Ok(serde_json::from_value(json!({
            "metadata": {"name": self.name, "labels": labels},
            "spec": self.spec,
        }))?)
    }

    /// As a DaemonSet, a StatefulSet or a Job.
    pub fn controlled_by<K: serde::de::DeserializeOwned>(
        &self,
        more: serde_json::Value,
    ) -> Result<K> {
        let labels = json!({"app": self.name});
        let mut spec = json!({"template": {"metadata": {"labels": labels}, "spec": self.spec}});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        Ok(serde_json::from_value(
            json!({"metadata": {"name": self.name}, "spec": spec}),
        )?)
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
