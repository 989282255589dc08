//! Tells the agents which CAs to trust: writes the ConfigMap `curfew-ca`, and writes it again when someone changes
//! or deletes it.

use std::time::Duration;

use curfew_core::identity::{TRUST, TRUST_KEY};
use curfew_runtime::{api, error_chain, time::until, watch::Watch};
use futures::StreamExt;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::time::Instant;

use super::{Identities, bundle};
use crate::{
    names::{MANAGER, labels},
    watching::watched,
};

const RETRY: Duration = Duration::from_secs(2);
/// How long a change has to last before it is mended: another replica may know better.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two repairs: somebody who insists on something else is not fought faster than that.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(10);

/// Keeps the ConfigMap as it should be until it is dropped.
///
/// # Errors
/// None; a task says so by its type.
pub async fn run(
    watch: Watch,
    client: Client,
    namespace: String,
    mut identities: Identities,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut found = watched(&watch, maps.clone(), TRUST);
    let mut actual: Option<Option<String>> = None;
    let mut repair_not_before = Instant::now();
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            changed = identities.changed() => {
                // The controller is gone only when the process stops.
                if changed.is_err() {
                    return Ok(());
                }
                // What this replica knows is new: agents are to know it at once.
                repair_not_before = Instant::now();
                due = (bundle(&identities) != actual.clone().flatten()).then(Instant::now);
            }
            Some(map) = found.next() => {
                actual = Some(map.and_then(|map| map.data?.remove(TRUST_KEY)));
                let right = bundle(&identities) == actual.clone().flatten();
                let repair = repair_not_before.max(Instant::now() + SETTLE);
                due = (!right).then(|| due.unwrap_or(repair).min(repair));
            }
            () = until(due) => {
                due = publish(&maps, bundle(&identities)).await.err().map(|()| Instant::now() + RETRY);
                repair_not_before = Instant::now() + BETWEEN_REPAIRS;
            }
        }
    }
}

async fn publish(maps: &Api<ConfigMap>, bundle: Option<String>) -> Result<(), ()> {
    let Some(bundle) = bundle else {
        return Ok(());
    };
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(TRUST.to_owned()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        data: Some([(TRUST_KEY.to_owned(), bundle)].into()),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(MANAGER).force();
    let published = api::call(maps.patch(TRUST, &params, &Patch::Apply(&map))).await;
    published.map(drop).map_err(|error| {
        tracing::warn!(
            event = "trust-unpublished",
            error = error_chain::short(&error),
            "cannot publish the CA that agents must trust; retrying"
        );
    })
}
