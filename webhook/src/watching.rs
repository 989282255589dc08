//! Watching one object by its name.
//!
//! Owns no state. How a watch is kept alive, and what is logged of it, is in [`curfew_runtime::watch`].

use std::fmt::Debug;

use curfew_runtime::watch::Watch;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// The object each time that it changes or is listed, nothing when it does not exist. It never ends and leaves
/// out its own troubles, which the watch logs.
pub(crate) fn watched<K>(watch: &Watch, api: Api<K>, name: &str) -> BoxStream<'static, Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watch
        .object(api, name)
        .filter_map(|item| std::future::ready(item.ok()))
        .chain(stream::pending())
        .boxed()
}
