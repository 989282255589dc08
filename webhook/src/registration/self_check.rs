//! Notices an API server that admits interactions without asking the webhook, although the configuration says so.
//!
//! Owns no state. A replica that is registered sends a [probe](super::probe) now and then, on a connection of its own: of
//! several API servers, a load balancer then chooses another one each time. Nothing else would show that one of them does
//! not call webhooks, because it was started without ValidatingAdmissionWebhook, for example.

use std::time::Duration;

use curfew_runtime::client;
use tokio::time::sleep;

use super::probe::{Probed, probe};
use crate::metrics::{Metrics, SelfCheck};

/// Between two probes of a replica. A random part keeps the replicas from asking at the same time.
const INTERVAL: Duration = Duration::from_secs(45);
const JITTER: Duration = Duration::from_secs(30);

/// Checks until it is dropped.
pub(crate) async fn run(namespace: String, metrics: Metrics) {
    loop {
        sleep(INTERVAL + JITTER.mul_f64(fastrand::f64())).await;
        // Without a configuration nobody is asked, which has a metric of its own.
        if !metrics.is_registered() {
            continue;
        }
        let probed = match client::connect(metrics.watches.reach()).await {
            Ok(client) => probe(client, &namespace).await,
            Err(error) => Probed::Failed(format!("{error:#}")),
        };
        let result = match &probed {
            Probed::Seen => SelfCheck::Seen,
            // The configuration may have been deleted meanwhile.
            Probed::Unseen if !metrics.is_registered() => continue,
            Probed::Unseen => {
                tracing::warn!(
                    event = "self-check-unseen",
                    "an API server admitted the self-check without asking the webhook; it may not ask about \
                     interactions either"
                );
                SelfCheck::Unseen
            }
            Probed::Failed(why) => {
                tracing::info!(event = "self-check-failed", why);
                SelfCheck::Failed
            }
        };
        metrics.self_checked(result);
    }
}
