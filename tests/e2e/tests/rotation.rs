//! Certificates and CA are exchanged while people reach into pods.

use anyhow::ensure;
use curfew_e2e::{rotation, within_namespace};

/// The long run is `make bench ARGS=rotation`.
#[tokio::test]
async fn every_exchange_goes_unnoticed() {
    within_namespace("rotation", async |namespace| {
        let seen = rotation::exchange(namespace, 2, 10).await?;
        rotation::check(&seen)?;
        ensure!(
            seen.in_metadata == 0.0,
            "{} times an agent could not be told",
            seen.in_metadata
        );
        Ok(())
    })
    .await;
}
