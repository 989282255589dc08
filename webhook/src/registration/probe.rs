//! Proves that the API server asks a replica: creates, as a dry run, an object that nobody but a replica denies in these
//! words.

use std::time::SystemTime;

use curfew_runtime::{api, error_chain};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use crate::{names::MANAGER, registration::configuration::PROBE_LABEL, review::answer};

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probed {
    /// A replica that shares the CA was asked.
    Seen,
    /// The API server admitted it without asking anyone.
    Unseen,
    /// It was refused for another reason.
    Failed(String),
}

/// Sends a probe.
pub(super) async fn probe(client: Client, namespace: &str) -> Probed {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // It only has to differ from those before.
    let nonce = format!("{:x}", since.unwrap_or_default().as_nanos());
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some("curfew-webhook-probe".to_owned()),
            labels: Some([(PROBE_LABEL.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("nonce".to_owned(), nonce.clone())].into()),
        ..ConfigMap::default()
    };
    let params = PostParams {
        dry_run: true,
        field_manager: Some(MANAGER.to_owned()),
    };
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    match api::call(maps.create(&params, &object)).await {
        Ok(_) => Probed::Unseen,
        Err(error) => {
            let said = error_chain::short(&error);
            match said.contains(&answer::probed(&nonce)) {
                true => Probed::Seen,
                false => Probed::Failed(said),
            }
        }
    }
}
