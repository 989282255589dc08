//! Watches of the API server that are never blind for long.
//!
//! Every watch of a process is opened here. Each of its connections begins with a list, so that nothing
//! outlives a connection: after it is lost the objects are listed anew, and after some minutes in any case. A
//! resourceVersion means something within one connection alone: etcd may have been restored from a backup,
//! and then a revision that was seen lies in the future.
//!
//! Owns how the pauses between attempts end, how long a watch may be silent, and what is told of a watch: the
//! age of the last proof that it lives, its failures, and what a list showed that the watch had missed.

mod life;
mod rounds;
mod seen;
#[cfg(test)]
mod tests;

use std::{
    fmt::Debug,
    future::ready,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    api::ListParams,
    runtime::watcher::{Event, Result},
};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use serde::de::DeserializeOwned;

use self::{life::Life, rounds::Rounds};
use crate::{metrics::Catalog, reach::Reachability};

/// A watch that has shown nothing for so long is taken for broken. The API server sends a bookmark about every
/// minute.
pub const SILENCE: Duration = Duration::from_secs(180);

/// All watches of a process, and what is told of them. Clones are the same.
#[derive(Debug, Clone)]
pub struct Watches(Arc<OpenWatches>);

#[derive(Debug)]
struct OpenWatches {
    reach: Reachability,
    names: Vec<&'static str>,
    open: Mutex<Vec<(&'static str, Weak<Life>)>>,
    age: IntGaugeVec,
    errors: IntCounterVec,
    resynced: IntCounterVec,
}

impl Watches {
    /// Those of a part of Curfew, none of which is open yet.
    ///
    /// # Errors
    /// When the catalog does not take their metrics.
    pub fn new(
        part: &str,
        names: &[&'static str],
        catalog: &mut Catalog,
    ) -> prometheus::Result<Self> {
        let labels = [("watch", names)];
        Ok(Self(Arc::new(OpenWatches {
            reach: Reachability::default(),
            names: names.to_vec(),
            open: Mutex::default(),
            age: catalog.gauges(
                &format!("curfew_{part}_watch_age_seconds"),
                "How long ago a watch last received an event, a bookmark or a list; the oldest of several with \
                 the same name. 0 if none is open.",
                &labels,
            )?,
            errors: catalog.counters(
                &format!("curfew_{part}_watch_errors_total"),
                "Errors of a watch; it retries after each.",
                &labels,
            )?,
            resynced: catalog.counters(
                &format!("curfew_{part}_watch_resynced_total"),
                "Objects for which a new list differed from what the watch had shown before.",
                &labels,
            )?,
        })))
    }

    /// What the calls of the process tell of the API server; the client has to be connected with it.
    pub fn reach(&self) -> &Reachability {
        &self.0.reach
    }

    /// Opens a watch of that name, one of those that were named at the beginning. It is told of until it
    /// and its events are dropped.
    pub fn open(&self, name: &'static str) -> Watch {
        let life = Arc::new(Life::new());
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, life)| life.strong_count() > 0);
        open.push((name, Arc::downgrade(&life)));
        Watch {
            name,
            life,
            reach: self.0.reach.clone(),
            errors: self.0.errors.with_label_values(&[name]),
            resynced: self.0.resynced.with_label_values(&[name]),
        }
    }

    /// Sets the gauges as the watches are now.
    pub fn show(&self) {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.0.names {
            let of_name = open.iter().filter(|(of, _)| of == name);
            let ages = of_name.filter_map(|(_, life)| Some(life.upgrade()?.age()));
            let oldest = ages.max().unwrap_or_default();
            self.0
                .age
                .with_label_values(&[name])
                .set(oldest.as_secs() as i64);
        }
    }
}

/// One watch.
#[derive(Debug, Clone)]
pub struct Watch {
    name: &'static str,
    life: Arc<Life>,
    reach: Reachability,
    errors: IntCounter,
    resynced: IntCounter,
}

impl Watch {
    /// The events of these objects. They never end. What fails is told as an error, and then tried again;
    /// what had been shown before still holds then. To be called once for each watch.
    pub fn events<K>(
        &self,
        api: Api<K>,
        which: ListParams,
    ) -> impl Stream<Item = Result<Event<K>>> + Send + use<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        stream::unfold(
            Rounds::new(self.clone(), api, which),
            |mut rounds| async move {
                let item = rounds.next().await;
                Some((item, rounds))
            },
        )
    }

    /// The object of that name each time that it changes or is listed, and nothing each time that it does not
    /// exist.
    pub fn object<K>(
        &self,
        api: Api<K>,
        name: &str,
    ) -> impl Stream<Item = Result<Option<K>>> + Send + use<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let which = ListParams::default().fields(&format!("metadata.name={name}"));
        let mut listed = false;
        self.events(api, which).filter_map(move |event| {
            ready(match event {
                Ok(Event::Init) => {
                    listed = false;
                    None
                }
                Ok(Event::InitApply(object)) => {
                    listed = true;
                    Some(Ok(Some(object)))
                }
                Ok(Event::InitDone) => (!listed).then_some(Ok(None)),
                Ok(Event::Apply(object)) => Some(Ok(Some(object))),
                Ok(Event::Delete(_)) => Some(Ok(None)),
                Err(error) => Some(Err(error)),
            })
        })
    }

    /// Whether what it shows can be relied upon: it has listed the objects and lives since.
    pub fn is_live(&self) -> bool {
        self.life.is_live()
    }

    /// Where it is not live, has it try at once, and waits until it is or the API server refuses it, but no
    /// longer than this. Returns whether it is. All who wait at the same time wait for the same list.
    pub async fn revive(&self, within: Duration) -> bool {
        self.life.revive(within).await
    }
}
