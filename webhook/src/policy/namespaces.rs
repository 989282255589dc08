//! The labels of namespaces, by which policies select.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt, api::ListParams, core::PartialObjectMeta, runtime::watcher};
use tokio::sync::watch::Sender;

use curfew_runtime::watch::Watch;

/// The label that the API server puts on every namespace: its name.
const NAME: &str = "kubernetes.io/metadata.name";

/// The labels of a namespace.
pub type Labels = Arc<BTreeMap<String, String>>;
/// The labels of each namespace.
pub type Namespaces = HashMap<String, Labels>;

/// The labels of this namespace. Of one that is not known (yet) only its name is.
pub(super) fn labels(known: Option<&Namespaces>, namespace: &str) -> Labels {
    match known.and_then(|known| known.get(namespace)) {
        Some(labels) => labels.clone(),
        None => Arc::new(BTreeMap::from([(NAME.to_owned(), namespace.to_owned())])),
    }
}

/// Keeps them up to date. Ends only with the watch.
pub(super) async fn run(watch: &Watch, client: Client, namespaces: &Sender<Option<Namespaces>>) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let events = watch.events(api, ListParams::default());
    follow(events, namespaces).await;
}

pub(super) async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<Namespace>>>>,
    namespaces: &Sender<Option<Namespaces>>,
) {
    let mut events = std::pin::pin!(events);
    let mut listed = Namespaces::new();
    let labels = |namespace: &PartialObjectMeta<Namespace>| {
        (namespace.name_any(), Arc::new(namespace.labels().clone()))
    };
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(namespace))) => {
                listed.extend([labels(&namespace)]);
            }
            // Only when the list is complete does it replace what was known.
            Ok(Some(watcher::Event::InitDone)) => {
                namespaces.send_replace(Some(std::mem::take(&mut listed)));
            }
            Ok(Some(watcher::Event::Apply(namespace))) => namespaces.send_modify(|known| {
                known.get_or_insert_default().extend([labels(&namespace)]);
            }),
            Ok(Some(watcher::Event::Delete(namespace))) => namespaces.send_modify(|known| {
                known.get_or_insert_default().remove(&namespace.name_any());
            }),
            Ok(None) => return,
            // The watch tries again, and logs it; what was known of them holds.
            Err(_) => {}
        }
    }
}
