//! `kubectl pi get`.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::{DynamicResourceScope, ObjectList, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    cli::{Get, Target},
    cluster::{
        blocks::Blocks,
        connection::Connection,
        find::{self, AT_ONCE, is_marked},
        placed::{PlacedPod, api},
        shortened::{self, is_shortened},
    },
    output,
    print::{
        format::Output,
        row::{self, Row, Sighting},
        style::Style,
        table::{self, Table},
    },
    verbs::watch,
};

/// Lists the pods. Returns whether those were all that were asked for.
pub(crate) async fn run(target: &Target, args: Get) -> anyhow::Result<bool> {
    let Connection { client, namespace } = match args.watch {
        true => Connection::open_to_watch(target),
        false => Connection::open(target),
    }?;
    let namespace = (!args.all_namespaces).then_some(namespace);
    if args.watch {
        if args.sort_by.is_some() {
            output::note("--sort-by has no effect together with --watch");
        }
        return watch::run(client, namespace.as_deref(), &args).await;
    }
    let scope = Scope {
        client,
        namespace,
        args,
    };
    match &scope.args.output {
        // What they are sorted by may be anything of a pod.
        Output::Table { wide } if scope.args.sort_by.is_some() => {
            let mut found = scope.pods::<DynamicObject>().await?;
            let node =
                |pod: &DynamicObject| pod.data["spec"]["nodeName"].as_str().map(str::to_owned);
            scope.complete(&mut found, node).await;
            let seen = found.pods.iter().map(|pod| Sighting {
                meta: &pod.metadata,
                node: pod.data["spec"]["nodeName"].as_str(),
                phase: pod.data["status"]["phase"].as_str(),
            });
            scope.print_table(seen.collect(), *wide).await?;
            Ok(found.complete)
        }
        Output::Table { wide: false } => {
            let mut found = scope.metadata().await?;
            scope.complete(&mut found, |_| None).await;
            let seen = found.pods.iter().map(|pod| Sighting::of(&pod.metadata));
            scope.print_table(seen.collect(), false).await?;
            Ok(found.complete)
        }
        Output::Table { wide: true } => {
            let mut found = scope.pods::<PlacedPod>().await?;
            let node = |pod: &PlacedPod| pod.spec.node_name.clone();
            scope.complete(&mut found, node).await;
            let seen = found.pods.iter().map(|pod| Sighting {
                meta: &pod.metadata,
                node: pod.spec.node_name.as_deref(),
                phase: pod.status.as_ref().and_then(|s| s.phase.as_deref()),
            });
            scope.print_table(seen.collect(), true).await?;
            Ok(found.complete)
        }
        Output::Name => {
            let (names, complete) = match scope.args.sort_by {
                Some(_) => scope.pods::<DynamicObject>().await?.names(),
                None => scope.metadata().await?.names(),
            };
            output::print(&names)?;
            Ok(complete)
        }
        Output::Object(format) => {
            let found = scope.pods::<DynamicObject>().await?;
            let shown = scope.shown_as(found.pods);
            output::print(&format.render(&shown, !scope.args.no_headers)?)?;
            Ok(found.complete)
        }
    }
}

/// What was found, and whether that is all that was asked for.
struct Found<K> {
    pods: Vec<K>,
    complete: bool,
}

impl<K: Resource> Found<K> {
    fn names(&self) -> (String, bool) {
        let names = self
            .pods
            .iter()
            .map(|pod| format!("pod/{}\n", pod.name_any()));
        (names.collect(), self.complete)
    }
}

/// Where is looked for what.
struct Scope {
    client: Client,
    /// None for all of them.
    namespace: Option<String>,
    args: Get,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        api(&self.client, self.namespace.as_deref())
    }

    /// The metadata of the pods; the API server sends no more than that.
    async fn metadata(&self) -> anyhow::Result<Found<PartialObjectMeta<DynamicObject>>> {
        let api = self.api::<DynamicObject>();
        self.fetch(
            async |params| api.list_metadata(&params).await,
            async |name| api.get_metadata(name).await,
        )
        .await
    }

    /// The pods, as much of them as `K` has room for.
    async fn pods<K>(&self) -> anyhow::Result<Found<K>>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let api = self.api::<K>();
        self.fetch(
            async |params| api.list(&params).await,
            async |name| api.get(name).await,
        )
        .await
    }

    async fn fetch<K: Resource + Clone + Serialize>(
        &self,
        list: impl AsyncFn(ListParams) -> kube::Result<ObjectList<K>>,
        get: impl AsyncFn(&str) -> kube::Result<K>,
    ) -> anyhow::Result<Found<K>> {
        let mut complete = true;
        let mut pods = Vec::new();
        if self.args.pods.is_empty() {
            // Who wrote which field is shown nowhere, and is much of what a page is made of.
            let list = async |mut params: ListParams| {
                params.field_selector.clone_from(&self.args.field_selector);
                let mut page = list(params).await?;
                for pod in &mut page.items {
                    pod.meta_mut().managed_fields = None;
                }
                Ok(page)
            };
            pods = find::marked(self.args.selector.as_deref(), list).await?;
        }
        for named in find::named(&self.args.pods, get).await {
            match find::or_tell(named, &mut complete)? {
                Some(pod) if is_marked(pod.meta()) => pods.push(pod),
                Some(pod) => output::note(&format!(
                    "Nobody interacted with pod {:?} in {} namespace.",
                    pod.name_any(),
                    pod.namespace().unwrap_or_default(),
                )),
                // What stands in the way of one pod may not stand in the way of the others.
                None => {}
            }
        }
        pods.sort_by_cached_key(|pod| row::order(pod.meta()));
        if let Some(path) = &self.args.sort_by {
            let mut sorted: Vec<_> = pods.into_iter().map(|pod| (json!(pod), pod)).collect();
            sorted.sort_by(|(one, _), (other, _)| path.compare(one, other));
            pods = sorted.into_iter().map(|(_, pod)| pod).collect();
        }
        Ok(Found { pods, complete })
    }

    /// Asks the agents for what some pods have no room to tell.
    async fn complete<K: Resource>(
        &self,
        found: &mut Found<K>,
        node: impl Fn(&K) -> Option<String>,
    ) {
        let short = found.pods.iter_mut();
        let short = short.filter(|pod| is_shortened(pod.meta()));
        let placed = stream::iter(short).map(|pod| {
            let node = node(pod);
            async move {
                let node = match node {
                    Some(node) => Some(node),
                    // The metadata alone do not say it.
                    None => self.node_of(pod.meta()).await,
                };
                node.map(|node| (pod.meta_mut(), node))
            }
        });
        let placed: Vec<_> = placed.buffer_unordered(AT_ONCE).collect().await;
        for why in shortened::complete(&self.client, placed.into_iter().flatten()).await {
            output::note(&format!(
                "The annotations of some pods are nearly full and do not show everything: {why:#}"
            ));
        }
        if self.args.sort_by.is_none() {
            found.pods.sort_by_cached_key(|pod| row::order(pod.meta()));
        }
    }

    async fn node_of(&self, pod: &ObjectMeta) -> Option<String> {
        let pods = api::<PlacedPod>(&self.client, pod.namespace.as_deref());
        let pod = pods.get(pod.name.as_deref()?).await.ok()?;
        pod.spec.node_name
    }

    async fn print_table(&self, seen: Vec<Sighting<'_>>, wide: bool) -> anyhow::Result<()> {
        if !seen.is_empty() {
            let now = Timestamp::now();
            let blocks = match seen.iter().any(|pod| pod.is_overdue(now)) {
                true => Blocks::fetch(&self.client, self.namespace.as_deref()).await,
                false => Blocks::default(),
            };
            let rows: Vec<_> = seen
                .into_iter()
                .map(|pod| Row::new(pod, &blocks, now))
                .collect();
            let columns = table::columns(self.namespace.is_none(), wide);
            let mut table = Table::new(columns, Style::of_stdout(), !self.args.no_headers);
            output::print(&table.render(&rows, now))?;
        } else if self.args.pods.is_empty() {
            output::note(&find::none_in(self.namespace.as_deref()));
        }
        Ok(())
    }

    /// The pods as kubectl shows objects: the one that was named by itself, others in a list.
    fn shown_as(&self, pods: Vec<DynamicObject>) -> Value {
        let mut pods: Vec<_> = pods.into_iter().map(as_object).collect();
        match (self.args.pods.as_slice(), pods.as_mut_slice()) {
            ([_], [pod]) => pod.take(),
            _ => json!({
                "apiVersion": "v1",
                "kind": "List",
                "items": pods,
                "metadata": {"resourceVersion": ""},
            }),
        }
    }
}

/// A pod as kubectl shows it.
pub(crate) fn as_object(mut pod: DynamicObject) -> Value {
    pod.metadata.managed_fields = None;
    pod.types
        .get_or_insert_with(kube::core::TypeMeta::resource::<Pod>);
    json!(pod)
}
