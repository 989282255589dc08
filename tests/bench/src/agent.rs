//! An agent of a [node without a kubelet](crate::node): the release's own binary as a process of this
//! machine, with the rights of any agent of the cluster and no more.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use curfew_cluster::{layout::Checkout, rust_binaries};
use curfew_core::Notice;
use curfew_e2e::{CURFEW, TestCluster, footprint};
use curfew_runtime::{connection_limit::Bounds, metrics::Catalog, tls::Refusals};
use curfew_webhook::{
    identity::{
        Identity,
        secret::{self, Authorities},
    },
    recording::forward::Forwarder,
};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Secret, ServiceAccount},
};
use kube::{Api, ResourceExt, api::PostParams};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::node::PretendNode;

/// The name of the binary, and of the ServiceAccount.
const NAME: &str = "curfew-agent";

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the agent is ready: what is measured is not finer than that.
const LOOK: Duration = Duration::from_millis(5);
/// How many notices are on their way at a time.
const NOTICES_AT_ONCE: usize = 32;
const TOKEN_SECONDS: i64 = 3600;
/// No run takes longer.
const CERTIFICATE: Duration = Duration::from_secs(3600);

/// A port that nobody listens on at this moment.
pub(crate) fn free_port(address: impl Into<IpAddr>) -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::new(address.into(), 0))?;
    Ok(listener.local_addr()?.port())
}

/// What an agent needs to start, and to start again with the same store.
pub(crate) struct Setup {
    program: PathBuf,
    node: String,
    notices: SocketAddr,
    metrics: SocketAddr,
    debug: SocketAddr,
    webhook: Identity,
    // The last: what lies in it is in use until the others are gone.
    scratch: TempDir,
}

impl Setup {
    /// For the agent of this node.
    pub(crate) async fn new(cluster: &TestCluster, node: &PretendNode) -> Result<Self> {
        let program = rust_binaries::static_dir(&Checkout::find()?)?.join(NAME);
        ensure!(
            program.is_file(),
            "{} is not there; `make cluster` builds it",
            program.display()
        );
        // Beside other build products: the store is to lie on a real disk, which /tmp may not be.
        let place = cluster.machine.checkout().join("target/bench");
        fs::create_dir_all(&place)?;
        let scratch = tempfile::tempdir_in(place)?;
        let kubeconfig = kubeconfig(cluster, node).await?;
        fs::write(scratch.path().join("kubeconfig"), kubeconfig)?;
        let address = || {
            let local = Ipv4Addr::LOCALHOST;
            anyhow::Ok(SocketAddr::from((local, free_port(local)?)))
        };
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), CURFEW);
        let authorities = Authorities::read(&secrets.get(secret::NAME).await?, CURFEW)?;
        Ok(Self {
            webhook: Identity::new(None, Arc::new(authorities), None, CURFEW, CERTIFICATE)?,
            program,
            node: node.name.clone(),
            notices: address()?,
            metrics: address()?,
            debug: address()?,
            scratch,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The folder of its store.
    pub(crate) fn store(&self) -> PathBuf {
        self.file("store")
    }

    /// Starts the agent and waits until it says that it is ready.
    pub(crate) async fn start(&self) -> Result<Agent<'_>> {
        let log = fs::File::create(self.file("log"))?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("KUBECONFIG", self.file("kubeconfig"))
            .arg("--node-name")
            .arg(&self.node)
            .arg("--store")
            .arg(self.store())
            .arg(format!("--listen={}", self.notices))
            .arg(format!("--metrics-listen={}", self.metrics))
            .arg(format!("--debug-listen={}", self.debug))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        // Before the agent closes an idle connection, maybe just when the next request is sent on it.
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Bounds::FEW.idle / 2)
            .build(HttpConnector::new());
        let began = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let mut agent = Agent {
            setup: self,
            child,
            http,
            ready: Duration::ZERO,
        };
        let ready = agent.becomes_ready(began).await;
        agent.ready = ready.with_context(|| tail(&self.file("log")))?;
        Ok(agent)
    }
}

/// The last that the agent said.
fn tail(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = said.lines().collect();
    let last = lines.len().saturating_sub(10);
    format!("the agent's last words:\n{}\n", lines[last..].join("\n"))
}

/// A kubeconfig with a token of the node's agent.
async fn kubeconfig(cluster: &TestCluster, node: &PretendNode) -> Result<String> {
    let token = token(cluster, &node.name).await?;
    // The administrator's with another user: JSON is YAML, and as JSON it was written.
    let file = fs::read_to_string(cluster.machine.kubeconfig())?;
    let mut config: Value = serde_json::from_str(&file)?;
    config["users"][0]["user"] = json!({ "token": token });
    Ok(config.to_string())
}

/// A token as the kubelet of the node would give it to an agent's pod.
pub(crate) async fn token(cluster: &TestCluster, node: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), CURFEW);
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
    let node = nodes.get(node).await?;
    let wanted: TokenRequest = serde_json::from_value(json!({"spec": {
        "audiences": [],
        "expirationSeconds": TOKEN_SECONDS,
        // By this the token tells the node, as that of a pod does.
        "boundObjectRef": {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node.name_any(),
            "uid": node.uid(),
        },
    }}))?;
    let given = accounts
        .create_token_request(NAME, &PostParams::default(), &wanted)
        .await
        .context("no token for the agent")?;
    Ok(given.status.context("no token in the answer")?.token)
}

/// A running agent; it is killed when this is dropped.
pub(crate) struct Agent<'a> {
    setup: &'a Setup,
    child: Child,
    http: Client<HttpConnector, Full<Bytes>>,
    /// How long it took from its start until it was ready.
    pub(crate) ready: Duration,
}

impl Agent<'_> {
    async fn becomes_ready(&mut self, began: Instant) -> Result<Duration> {
        loop {
            let looked = self.get(self.setup.metrics, "/readyz").await;
            let took = began.elapsed();
            let Err(error) = looked else {
                return Ok(took);
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if took > PATIENCE {
                return Err(error.context(format!("it is not ready after {PATIENCE:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its metrics at this moment, as text.
    pub(crate) async fn metrics(&self) -> Result<String> {
        self.get(self.setup.metrics, "/metrics").await
    }

    /// Its process.
    pub(crate) fn process(&self) -> Result<footprint::Process> {
        let pid = self.child.id().context("the agent has ended")?;
        Ok(footprint::Process::with_id(pid))
    }

    /// Its anonymous memory that is resident, in KiB.
    pub(crate) fn anonymous_kib(&self) -> Result<u64> {
        self.process()?.anonymous_kib()
    }

    /// Tells it of interactions as the webhook does, and returns when it has recorded all of them.
    pub(crate) async fn tell(&self, notices: Vec<Notice>) -> Result<()> {
        let agents = HashMap::from([(self.setup.node.clone(), self.setup.notices)]);
        let (_, agents) = watch::channel(Arc::new(agents));
        let (_, identities) = watch::channel(Some(self.setup.webhook.clone()));
        let refusals = Refusals::new(
            &mut Catalog::default(),
            "refused_total",
            "Who the agent is not",
        )?;
        let forwarder = Forwarder::new(agents, identities, LIMIT, refusals);
        stream::iter(notices)
            .map(async |notice: Notice| {
                anyhow::Ok(forwarder.tell(&self.setup.node, vec![notice]).await?)
            })
            .buffer_unordered(NOTICES_AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
    }

    /// Tells it to stop, and returns how long that took.
    pub(crate) async fn stop(mut self) -> Result<Duration> {
        let pid = self.child.id().context("the agent has ended")?;
        let began = Instant::now();
        kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
        let status = timeout(LIMIT, self.child.wait())
            .await
            .with_context(|| format!("the agent runs on {LIMIT:?} after SIGTERM"))??;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(began.elapsed())
    }

    fn url(&self, address: SocketAddr, path: &str) -> String {
        format!("http://{address}{path}")
    }

    async fn get(&self, address: SocketAddr, path: &str) -> Result<String> {
        let request = axum::http::Request::get(self.url(address, path)).body(Full::default())?;
        self.send(request).await
    }

    /// The body of a good answer.
    async fn send(&self, request: axum::http::Request<Full<Bytes>>) -> Result<String> {
        let answered = async {
            let answer = self.http.request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let body = String::from_utf8(body.to_vec())?;
            ensure!(status.is_success(), "{status}: {body}");
            Ok(body)
        };
        timeout(LIMIT, answered)
            .await
            .with_context(|| format!("the agent does not answer within {LIMIT:?}"))?
    }
}
