//! `kubectl pi get`.

use std::process::ExitCode;

use curfew_core::metadata::{INTERACTED, LABEL};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::{DynamicResourceScope, NotUsed, Object, ObjectList},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cli::{Get, Output, Target},
    connection::Connection,
    find, output,
    row::{self, Row},
    table, yaml,
};

/// Of a pod's spec what the wide table shows.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    #[serde(default)]
    node_name: Option<String>,
}

type PlacedPod = Object<Placement, NotUsed>;

pub(crate) async fn run(target: &Target, args: Get) -> anyhow::Result<ExitCode> {
    let Connection { client, namespace } = Connection::open(target).await?;
    let namespace = (!args.all_namespaces).then_some(namespace);
    let scope = Scope {
        client,
        namespace,
        args,
    };
    let now = Timestamp::now();
    let complete = match scope.args.output {
        Output::Table => {
            let found = scope.metadata().await?;
            let rows = found.pods.iter().map(|pod| Row::new(pod.meta(), None, now));
            scope.print_table(rows.collect(), false)?;
            found.complete
        }
        Output::Wide => {
            let found = scope.pods::<PlacedPod>().await?;
            let rows = found
                .pods
                .iter()
                .map(|pod| Row::new(&pod.metadata, pod.spec.node_name.as_deref(), now));
            scope.print_table(rows.collect(), true)?;
            found.complete
        }
        Output::Name => {
            let found = scope.metadata().await?;
            let names: String = found
                .pods
                .iter()
                .map(|pod| format!("pod/{}\n", pod.name_any()))
                .collect();
            output::print(&names)?;
            found.complete
        }
        format @ (Output::Json | Output::Yaml) => {
            let found = scope.pods::<DynamicObject>().await?;
            let shown = scope.shown_as(found.pods);
            output::print(&match format {
                Output::Yaml => yaml::render(&shown),
                _ => output::json(&shown)?,
            })?;
            found.complete
        }
    };
    Ok(match complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What was found, and whether that is all that was asked for.
struct Found<K> {
    pods: Vec<K>,
    complete: bool,
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
        let pods = ApiResource::erase::<Pod>(&());
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &pods),
            None => Api::all_with(self.client.clone(), &pods),
        }
    }

    /// The metadata of the pods; the API server sends no more than that.
    async fn metadata(
        &self,
    ) -> anyhow::Result<Found<kube::core::PartialObjectMeta<DynamicObject>>> {
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
            + DeserializeOwned,
    {
        let api = self.api::<K>();
        self.fetch(
            async |params| api.list(&params).await,
            async |name| api.get(name).await,
        )
        .await
    }

    async fn fetch<K: Resource + Clone>(
        &self,
        list: impl AsyncFn(ListParams) -> kube::Result<ObjectList<K>>,
        get: impl AsyncFn(&str) -> kube::Result<K>,
    ) -> anyhow::Result<Found<K>> {
        let mut complete = true;
        let mut pods = Vec::new();
        if self.args.pods.is_empty() {
            pods = find::marked(self.args.selector.as_deref(), list).await?;
        }
        for named in find::named(&self.args.pods, get).await {
            match named {
                Ok(pod) if is_marked(&pod) => pods.push(pod),
                Ok(pod) => output::note(&format!(
                    "Nobody interacted with pod {:?} in {} namespace.",
                    pod.name_any(),
                    pod.namespace().unwrap_or_default(),
                )),
                // What stands in the way of one pod may not stand in the way of the others.
                Err(error @ kube::Error::Api(_)) => {
                    output::error(&error.into());
                    complete = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        pods.sort_by_cached_key(|pod| row::order(pod.meta()));
        Ok(Found { pods, complete })
    }

    fn print_table(&self, rows: Vec<Row>, wide: bool) -> anyhow::Result<()> {
        if !rows.is_empty() {
            let columns = table::columns(self.namespace.is_none(), wide);
            output::print(&table::render(&columns, &rows))?;
        } else if self.args.pods.is_empty() {
            output::note(&match &self.namespace {
                Some(namespace) => format!("No interacted pods found in {namespace} namespace."),
                None => "No interacted pods found in any namespace.".to_owned(),
            });
        }
        Ok(())
    }

    /// The pods as kubectl shows objects: the one that was named by itself, others in a list.
    fn shown_as(&self, mut pods: Vec<DynamicObject>) -> serde_json::Value {
        for pod in &mut pods {
            pod.metadata.managed_fields = None;
            pod.types
                .get_or_insert_with(kube::core::TypeMeta::resource::<Pod>);
        }
        match (self.args.pods.as_slice(), pods.as_slice()) {
            ([_], [pod]) => serde_json::json!(pod),
            _ => serde_json::json!({
                "apiVersion": "v1",
                "kind": "List",
                "items": pods,
                "metadata": {"resourceVersion": ""},
            }),
        }
    }
}

fn is_marked(pod: &impl Resource) -> bool {
    pod.labels()
        .get(LABEL)
        .is_some_and(|value| value == INTERACTED)
}
