//! The cluster under test, and a client with the administrator's rights.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use curfew_cluster::{Cluster, Minor, manifests};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};

use crate::{CURFEW, Kubectl};

/// The header that says as whom a request is meant.
const AS_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// The running cluster. A client belongs to the runtime it was made in, so each test makes its own.
#[derive(Clone)]
pub struct TestCluster {
    /// What runs on this machine.
    pub machine: Cluster,
    /// The administrator's client. It does not retry: what fails is to be seen.
    pub client: Client,
}

impl std::fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCluster")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl TestCluster {
    /// Connects to the running cluster.
    ///
    /// # Errors
    /// When none of this checkout's is running.
    pub async fn connect() -> Result<Self> {
        let machine = Cluster::running()?;
        let client = Client::try_from(config(&machine).await?)?;
        Ok(Self { machine, client })
    }

    /// A client that is whoever the token says, and not the administrator.
    pub async fn client_of(&self, token: &str) -> Result<Client> {
        self.client_as(token, None).await
    }

    /// A client that is whoever the token says, and acts as this user where there is one. The API server decides
    /// whether it may.
    pub async fn client_as(&self, token: &str, user: Option<&str>) -> Result<Client> {
        let mut config = config(&self.machine).await?;
        config.auth_info = AuthInfo::default();
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        config.headers.push((AUTHORIZATION, bearer));
        if let Some(user) = user {
            config.headers.push((AS_USER, HeaderValue::from_str(user)?));
        }
        Ok(Client::try_from(config)?)
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.machine.clone())
    }

    /// The name under which the API server knows the administrator.
    pub async fn administrator(&self) -> Result<String> {
        let whoami = [
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
        ];
        self.kubectl().ok(&whoami).await
    }

    /// The running pods of one of Curfew's parts: `agent` or `webhook`.
    pub async fn pods_of(&self, part: &str) -> Result<Vec<Pod>> {
        let running = ListParams::default()
            .labels(&selector(part))
            .fields("status.phase=Running");
        let mut pods = Api::namespaced(self.client.clone(), CURFEW)
            .list(&running)
            .await
            .with_context(|| format!("cannot list the pods of {part}"))?
            .items;
        pods.retain(|pod: &Pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    /// The address of the pod of a part that runs on this node.
    pub async fn address_of(&self, part: &str, node: &str) -> Result<IpAddr> {
        let pods = self.pods_of(part).await?;
        let there = |pod: &&Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
        };
        let status = pods.iter().find(there).and_then(|pod| pod.status.as_ref());
        let ip = status.and_then(|status| status.pod_ip.as_deref());
        Ok(ip
            .with_context(|| format!("no {part} runs on {node}"))?
            .parse()?)
    }

    /// Where tests leave what they found out.
    pub fn results(&self) -> PathBuf {
        self.machine.checkout().join("target/e2e")
    }

    /// The minor of Kubernetes that runs.
    pub async fn kubernetes(&self) -> Result<Minor> {
        Minor::of_server(&self.client.apiserver_version().await?.minor)
    }

    /// One of the overlays for this cluster, as it is applied to its Kubernetes.
    pub async fn overlay(&self, name: &str) -> Result<PathBuf> {
        manifests::overlay(self.machine.source(), name, self.kubernetes().await?)
    }
}

async fn config(machine: &Cluster) -> Result<Config> {
    let file = Kubeconfig::read_from(machine.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    Ok(config)
}

/// The labels of the pods of one of Curfew's parts.
pub fn selector(part: &str) -> String {
    format!("app.kubernetes.io/name=curfew,app.kubernetes.io/component={part}")
}
