//! Takes the bindings of Curfew's admission policies away for a while, and puts them back.
//!
//! Nothing is guarded without them, so they are written to a file first: a run that is killed leaves that, and the
//! next run puts them back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{Namespace, TestCluster, Workload, eventually};
use k8s_openapi::{
    api::admissionregistration::v1::ValidatingAdmissionPolicyBinding as Binding,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};

use crate::say;

const OURS: &str = "app.kubernetes.io/name=curfew";
/// The policy that is asked whether it is in force: the others come and go with it.
const MARKS: &str = "curfew-marks";
/// The API server looks at its policies every second.
const IN_FORCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// One policy is seen to come and go; the others may take a moment longer.
const OTHERS: Duration = Duration::from_secs(2);

/// The bindings, as they were.
#[derive(Debug)]
pub(crate) struct Bindings {
    all: Api<Binding>,
    saved: Vec<Binding>,
    file: PathBuf,
}

impl Bindings {
    /// Those that there are, from now on in the file, too.
    ///
    /// # Errors
    /// When there are none: then nothing could be compared.
    pub(crate) async fn save(cluster: &TestCluster) -> Result<Self> {
        let all: Api<Binding> = Api::all(cluster.client.clone());
        let ours = all.list(&ListParams::default().labels(OURS)).await?.items;
        let saved: Vec<_> = ours.into_iter().map(without_traces).collect();
        ensure!(
            saved.iter().any(|binding| binding.name_any() == MARKS),
            "there is no binding {MARKS}; `make cluster` installs it"
        );
        let file = file(cluster)?;
        fs::write(&file, serde_json::to_vec(&saved)?)?;
        Ok(Self { all, saved, file })
    }

    /// Those that an earlier run has left in its file.
    fn left(cluster: &TestCluster) -> Result<Option<Self>> {
        let file = file(cluster)?;
        if !file.exists() {
            return Ok(None);
        }
        let saved = serde_json::from_slice(&fs::read(&file)?);
        Ok(Some(Self {
            all: Api::all(cluster.client.clone()),
            saved: saved.with_context(|| format!("cannot read {}", file.display()))?,
            file,
        }))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.saved.len()
    }

    /// Removes them, or puts them back, and waits until that is in force in this namespace.
    pub(crate) async fn bind(&self, bound: bool, namespace: &Namespace) -> Result<()> {
        match bound {
            true => self.create().await?,
            false => self.delete().await?,
        }
        let what = format!("that the policies are bound is {bound}");
        eventually(IN_FORCE, &what, async || {
            tokio::time::sleep(PAUSE).await;
            Ok((in_force(namespace).await? == bound).then_some(()))
        })
        .await?;
        tokio::time::sleep(OTHERS).await;
        Ok(())
    }

    async fn create(&self) -> Result<()> {
        for binding in &self.saved {
            match self.all.create(&PostParams::default(), binding).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                created => {
                    created.with_context(|| format!("cannot bind {}", binding.name_any()))?;
                }
            }
        }
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        for binding in &self.saved {
            let name = binding.name_any();
            match self.all.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => {
                    deleted.with_context(|| format!("cannot unbind {name}"))?;
                }
            }
        }
        Ok(())
    }

    /// Puts them back for good.
    pub(crate) async fn restore(&self) -> Result<()> {
        self.create().await?;
        fs::remove_file(&self.file)?;
        Ok(())
    }
}

/// Puts back what a run that was killed, or that failed, has taken away.
pub(crate) async fn restore(cluster: &TestCluster) -> Result<()> {
    if let Some(bindings) = Bindings::left(cluster)? {
        say("putting the bindings of Curfew's admission policies back");
        bindings.restore().await?;
    }
    Ok(())
}

fn file(cluster: &TestCluster) -> Result<PathBuf> {
    let place: &Path = cluster.machine.checkout();
    let place = place.join("target/bench");
    fs::create_dir_all(&place)?;
    Ok(place.join("bindings.json"))
}

/// As somebody would write it, so that it can be created again.
fn without_traces(binding: Binding) -> Binding {
    let metadata = binding.metadata;
    Binding {
        metadata: ObjectMeta {
            name: metadata.name,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        },
        ..binding
    }
}

/// Whether the administrator, too, is kept from creating a marked pod in this namespace.
pub(crate) async fn in_force(namespace: &Namespace) -> Result<bool> {
    let mut pod = Workload::new("forged").pod()?;
    let mark = [(metadata::TTL.to_owned(), "1h0m0s".to_owned())];
    pod.metadata.annotations = Some(mark.into());
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match namespace.pods().create(&dry_run, &pod).await {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(status)) if status.message.contains(MARKS) => Ok(true),
        Err(error) => Err(error).context("cannot find out whether the policies are in force"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_added_is_left_out() {
        let binding: Binding = serde_json::from_value(json!({
            "metadata": {
                "name": MARKS, "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {"policyName": MARKS, "validationActions": ["Deny"]},
        }))
        .unwrap();
        let written = serde_json::to_value(without_traces(binding)).unwrap();
        assert_eq!(written["metadata"]["uid"], json!(null));
        assert_eq!(written["metadata"]["resourceVersion"], json!(null));
        assert_eq!(written["metadata"]["labels"]["a"], "b");
        assert_eq!(written["spec"]["policyName"], MARKS);
    }
}
