//! Watching one object by its name.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use curfew_runtime::explain;

/// The object each time that it changes, nothing when it does not exist. It never ends and leaves out its
/// own troubles, which it only logs.
pub(crate) fn watched<K>(api: Api<K>, name: &str) -> BoxStream<'static, Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let name = name.to_owned();
    let objects = watch_object(api, &name).default_backoff();
    objects
        .filter_map(move |item| {
            let item = item.inspect_err(|error| {
                tracing::debug!(
                    event = "watch",
                    name,
                    error = explain::watch(error),
                    "trying again"
                );
            });
            std::future::ready(item.ok())
        })
        .chain(stream::pending())
        .boxed()
}
