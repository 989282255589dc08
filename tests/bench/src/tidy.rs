//! Leaving the cluster as it was, whatever comes of a measurement.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context, Result};
use curfew_e2e::{CURFEW, TestCluster, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    certificates::v1::CertificateSigningRequest,
    core::v1::{Namespace, Node},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::{bindings, say};

/// What the names of all that is made here begin with.
pub(crate) const PREFIX: &str = "bench-";

/// How many deletions are waited for at a time.
const AT_ONCE: usize = 16;
/// A namespace with ten thousand pods takes its time.
const REMOVAL: Duration = Duration::from_secs(600);

/// Somebody wants it to end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// A name that nobody has.
pub(crate) fn unique(purpose: &str) -> String {
    format!("{PREFIX}{purpose}-{:06x}", fastrand::u32(..1 << 24))
}

/// Does the work until it ends or somebody interrupts it, and cleans up after it in any case.
///
/// # Errors
/// The work's, or the cleaning's where the work has none.
pub(crate) async fn tidily<T>(
    work: impl Future<Output = Result<T>>,
    clean: impl Future<Output = Result<()>>,
) -> Result<T> {
    let outcome = tokio::select! {
        outcome = work => outcome,
        interrupted = interrupted() => Err(interrupted),
    };
    match (outcome, clean.await) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(_), Err(error)) => Err(error.context("cannot clean up")),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(unclean)) => {
            say(&format!("cannot clean up: {unclean:#}"));
            Err(error)
        }
    }
}

/// Waits for a signal. From then on none ends the process at once, so that it can clean up.
async fn interrupted() -> anyhow::Error {
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    match signals {
        Ok((mut interrupt, mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Interrupted.into()
        }
        Err(error) => error.into(),
    }
}

/// Deletes an object, if there is one of that name, and waits until it is gone.
pub(crate) async fn remove<K>(api: Api<K>, name: &str) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        deleted => deleted.with_context(|| format!("cannot delete {name}"))?,
    };
    eventually(REMOVAL, &format!("{name} is gone"), async || {
        // The answer lists nothing, but it is asked for every few milliseconds.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(api.get_opt(name).await?.is_none().then_some(()))
    })
    .await
}

/// The same for all whose names begin with this.
pub(crate) async fn remove_all<K>(api: Api<K>, prefix: &str) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let all = api.list_metadata(&ListParams::default()).await?.items;
    let names = all.iter().map(ResourceExt::name_any);
    stream::iter(names.filter(|name| name.starts_with(prefix)))
        .map(async |name| remove(api.clone(), &name).await)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Removes what a run that was killed has left behind.
pub(crate) async fn leftovers(cluster: &TestCluster) -> Result<()> {
    bindings::restore(cluster).await?;
    let client = || cluster.client.clone();
    sweep::<ValidatingWebhookConfiguration>(Api::all(client())).await?;
    sweep::<EndpointSlice>(Api::namespaced(client(), CURFEW)).await?;
    sweep::<CertificateSigningRequest>(Api::all(client())).await?;
    // Nodes last: pods of a node that is gone are collected by others.
    sweep::<Namespace>(Api::all(client())).await?;
    sweep::<Node>(Api::all(client())).await
}

async fn sweep<K>(api: Api<K>) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let all = api.list_metadata(&ListParams::default()).await?.items;
    for left in all.iter().map(ResourceExt::name_any) {
        if left.starts_with(PREFIX) {
            say(&format!("removing {left}, which an earlier run left"));
        }
    }
    remove_all(api, PREFIX).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn cleans_up_after_failures_and_tells_the_first() {
        let cleaned = Cell::new(0);
        let clean = async || {
            cleaned.set(cleaned.get() + 1);
            if cleaned.get() > 1 {
                bail!("stuck");
            }
            Ok(())
        };
        let failed = tidily(async { bail!("broken") as Result<()> }, clean()).await;
        assert_eq!(failed.unwrap_err().to_string(), "broken");
        let failed = tidily(async { bail!("broken again") as Result<()> }, clean()).await;
        assert_eq!(failed.unwrap_err().to_string(), "broken again");
        let failed = tidily(async { Ok(()) }, clean()).await;
        assert_eq!(failed.unwrap_err().to_string(), "cannot clean up");
        assert_eq!(cleaned.get(), 3);
    }
}
