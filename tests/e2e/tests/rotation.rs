//! Certificates and CA are exchanged while people reach into pods.

use anyhow::ensure;
use curfew_e2e::{
    rotation::{self, Course},
    within_namespace,
};

/// The long run is `make bench ARGS=rotation`.
#[tokio::test]
async fn every_exchange_goes_unnoticed() {
    within_namespace("rotation", async |namespace| {
        let course = Course {
            exchanges: 1,
            rate: 10,
            settles: false,
        };
        let seen = rotation::exchange(namespace, course).await?;
        ensure!(
            seen.renewals >= 4,
            "two replicas and two agents have only renewed {} times",
            seen.renewals
        );
        ensure!(
            seen.in_metadata == 0.0,
            "{} times an agent could not be told",
            seen.in_metadata
        );
        Ok(())
    })
    .await;
}
