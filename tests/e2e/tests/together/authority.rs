//! Who may do what about pods that somebody interacted with, tried on the real API server: the right
//! ones pass, all others are told in a sentence what would be right.

mod accounts;
mod as_node;
mod evict_now;
mod forgery;
mod hiding;
mod namespaces;
mod overrides;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::{EVICTION_TIME, EXTENSION, EXTENSION_REQUESTER, LAST_INTERACTION};
use curfew_e2e::{
    Kubectl, NODES, Namespace, Workload, eventually,
    kubectl::Said,
    rights::{kubectl_of, may, people, user},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

const NODE: &str = NODES[0];
/// As long as roles and marks take to be seen.
const SOON: Duration = Duration::from_secs(20);

/// A pod that the administrator reached into, once it is marked.
async fn marked(namespace: &Namespace, name: &str) -> Result<Pod> {
    namespace.run_pod(&Workload::new(name).on(NODE)).await?;
    namespace.kubectl.ok(&["exec", name, "--", "true"]).await?;
    eventually(SOON, "the pod is marked", async || {
        let pod = namespace.pods().get(name).await?;
        let marked = pod.annotations().contains_key(LAST_INTERACTION);
        Ok(marked.then_some(pod))
    })
    .await
}

/// The same, and it stays for longer than any test takes. What its agent makes of that is on it.
async fn lasting(namespace: &Namespace, name: &str) -> Result<Pod> {
    marked(namespace, name).await?;
    let user = namespace.cluster.administrator().await?;
    let wish = [(EXTENSION, "1h"), (EXTENSION_REQUESTER, user.as_str())];
    passed(&annotate(&namespace.kubectl, name, &wish, &[]).await?)?;
    let later = Timestamp::now() + SignedDuration::from_mins(30);
    eventually(SOON, "the agent saw the extension", async || {
        let pod = namespace.pods().get(name).await?;
        let time = pod.annotations().get(EVICTION_TIME);
        let time: Timestamp = time.context("no time of eviction")?.parse()?;
        Ok((time > later).then_some(pod))
    })
    .await
}

/// `kubectl annotate` of a pod.
async fn annotate(
    kubectl: &Kubectl,
    pod: &str,
    annotations: &[(&str, &str)],
    flags: &[&str],
) -> Result<Said> {
    let pairs: Vec<_> = annotations
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut args = vec!["annotate", "pod", pod, "--overwrite"];
    args.extend(flags);
    args.extend(pairs.iter().map(String::as_str));
    kubectl.run(&args).await
}

/// A way in which a client can change a pod's annotations.
#[derive(Debug, Clone, Copy)]
enum Way {
    Strategic,
    Merge,
    Json,
    Apply,
    Update,
    /// Through `pods/status`.
    Status,
}

/// All that are open to who may edit pods.
const WAYS: [Way; 5] = [
    Way::Strategic,
    Way::Merge,
    Way::Json,
    Way::Apply,
    Way::Update,
];

/// Sets annotations of a pod in this way.
async fn set(kubectl: &Kubectl, way: Way, pod: &str, annotations: &Value) -> Result<Said> {
    let metadata = json!({"metadata": {"annotations": annotations}});
    let patch = |kind: &str, patch: &Value| (format!("--type={kind}"), format!("--patch={patch}"));
    let (kind, text) = match way {
        Way::Strategic => patch("strategic", &metadata),
        Way::Merge | Way::Status => patch("merge", &metadata),
        Way::Json => {
            let set = annotations.as_object().into_iter().flatten();
            let steps: Vec<_> = set
                .map(|(key, value)| {
                    let path = format!("/metadata/annotations/{}", key.replace('/', "~1"));
                    json!({"op": "add", "path": path, "value": value})
                })
                .collect();
            patch("json", &json!(steps))
        }
        Way::Apply => {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "annotations": annotations},
            });
            let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
            return kubectl.feed(&args, &pod.to_string()).await;
        }
        Way::Update => {
            let found = kubectl.ok(&["get", "pod", pod, "-o", "json"]).await?;
            let mut found: Value = serde_json::from_str(&found)?;
            // Whatever version it has: the agent writes to it, too.
            if let Some(metadata) = found["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            for (key, value) in annotations.as_object().into_iter().flatten() {
                found["metadata"]["annotations"][key] = value.clone();
            }
            return kubectl
                .feed(&["replace", "-f", "-"], &found.to_string())
                .await;
        }
    };
    let mut args = vec!["patch", "pod", pod, &kind, &text];
    if let Way::Status = way {
        args.push("--subresource=status");
    }
    kubectl.run(&args).await
}

fn passed(said: &Said) -> Result<()> {
    ensure!(said.code == Some(0), "{said:?}");
    Ok(())
}

/// That an admission policy refused it, in these words.
fn refused(said: &Said, policy: &str, words: &str) -> Result<()> {
    let denied =
        format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: ");
    let sentence = said.stderr.split_once(&denied);
    let fits = sentence.is_some_and(|(_, sentence)| sentence.contains(words));
    ensure!(
        said.code == Some(1) && said.stderr.contains("Forbidden") && fits,
        "{policy} should say {words:?}: {said:?}"
    );
    Ok(())
}
