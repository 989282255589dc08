//! A Prometheus and an Alertmanager on this machine that watch the cluster as the shipped monitors and rules say.

mod discovery;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::tools;
use curfew_monitoring::{rules::Rules, scrape};
use form_urlencoded::Serializer;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{TestCluster, eventually, http::Connection};

/// By how much everything is shorter than what is shipped: a minute is a second.
pub const FACTOR: u32 = 60;
/// The shipped monitors say 30 s; in a rule's 5 m, which are 5 s here, there have to be some.
const INTERVAL: &str = "1s";
/// How much time Grafana would take for a rate at this interval.
const RATE_INTERVAL: &str = "5s";
const STARTED: Duration = Duration::from_secs(20);

/// Both of them, until this is dropped.
#[derive(Debug)]
pub struct Monitoring {
    prometheus: u16,
    alertmanager: u16,
    began: Timestamp,
    fired: Mutex<BTreeSet<String>>,
    _processes: [Child; 2],
    _discovery: AbortOnDropHandle<()>,
    _data: TempDir,
}

impl Monitoring {
    /// Starts them, and waits until they are ready. What they say is written down beside what failed tests leave.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(cluster: &TestCluster) -> Result<Self> {
        tokio::task::spawn_blocking(tools::ensure).await??;
        let data = tempfile::tempdir()?;
        let logs = cluster.results().join("monitoring");
        fs::create_dir_all(&logs)?;
        let [prometheus, alertmanager] = [free_port()?, free_port()?];
        let write = |name: &str, value: &Value| -> Result<PathBuf> {
            let path = data.path().join(name);
            // Both read YAML, of which JSON is a part.
            fs::write(&path, serde_json::to_vec(value)?)?;
            Ok(path)
        };
        let rules = serde_json::to_value(Rules::shipped()?.shortened(FACTOR)?)?;
        let rules = write("rules.yaml", &rules)?;
        let scraped = scrape::configs(data.path())?;
        let discovery = discovery::start(cluster, data.path()).await?;
        let config = json!({
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": [rules],
            "scrape_configs": scraped,
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address(alertmanager)]}]}]},
        });
        let config = write("prometheus.yaml", &config)?;
        let route = json!({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]});
        let route = write("alertmanager.yaml", &route)?;
        let alerting = start(
            "prometheus-alertmanager",
            &logs,
            &[
                ("config.file", route.as_path()),
                ("storage.path", &data.path().join("alertmanager")),
                ("web.listen-address", address(alertmanager).as_ref()),
                // It has no peers.
                ("cluster.listen-address", "".as_ref()),
            ],
        )?;
        let watching = start(
            "prometheus",
            &logs,
            &[
                ("config.file", config.as_path()),
                ("storage.tsdb.path", &data.path().join("prometheus")),
                ("web.listen-address", address(prometheus).as_ref()),
            ],
        )?;
        for (port, name) in [(prometheus, "Prometheus"), (alertmanager, "Alertmanager")] {
            let what = format!("{name} is ready; see {}", logs.display());
            eventually(STARTED, &what, async || {
                get(port, "/-/ready").await.map(|_| Some(()))
            })
            .await?;
        }
        Ok(Self {
            prometheus,
            alertmanager,
            began: Timestamp::now(),
            fired: Mutex::default(),
            _processes: [watching, alerting],
            _discovery: discovery,
            _data: data,
        })
    }

    /// The series that a query has now.
    ///
    /// # Errors
    /// When it cannot be answered.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        self.ask("query", &[("query", query)]).await
    }

    /// The series that a query had in all the time since the start, and whose values are numbers at least once.
    ///
    /// # Errors
    /// When it cannot be answered.
    pub async fn history(&self, query: &str) -> Result<Vec<Value>> {
        let (start, end) = (self.began.to_string(), Timestamp::now().to_string());
        let range = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", INTERVAL),
        ];
        let mut series = self.ask("query_range", &range).await?;
        series.retain(|one| {
            let values = one["values"].as_array();
            values.is_some_and(|values| values.iter().any(|value| value[1] != "NaN"))
        });
        Ok(series)
    }

    /// What Grafana would put in place of its variables if all of this run were shown.
    pub fn times(&self) -> [(&'static str, String); 2] {
        let shown = Timestamp::now().duration_since(self.began).as_secs();
        [
            ("__rate_interval", RATE_INTERVAL.to_owned()),
            ("__range", format!("{shown}s")),
        ]
    }

    /// Waits until an alert fires, and Alertmanager has it.
    ///
    /// # Errors
    /// When it does not.
    pub async fn fires(&self, alert: &str, within: Duration) -> Result<()> {
        eventually(within, &format!("{alert} fires"), async || {
            let active = self.active().await?;
            ensure!(active.contains(alert), "only {active:?} do");
            Ok(Some(()))
        })
        .await?;
        let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        fired.insert(alert.to_owned());
        Ok(())
    }

    /// Waits until Alertmanager has it no more.
    ///
    /// # Errors
    /// When it still has.
    pub async fn resolves(&self, alert: &str, within: Duration) -> Result<()> {
        eventually(within, &format!("{alert} is resolved"), async || {
            Ok((!self.active().await?.contains(alert)).then_some(()))
        })
        .await
    }

    /// Those that were seen to fire.
    pub fn fired(&self) -> BTreeSet<String> {
        let fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
        fired.clone()
    }

    /// The alerts that Alertmanager has.
    async fn active(&self) -> Result<BTreeSet<String>> {
        let body = get(self.alertmanager, "/api/v2/alerts").await?;
        let alerts: Vec<Value> = serde_json::from_str(&body)?;
        let names = alerts
            .iter()
            .filter_map(|alert| alert["labels"]["alertname"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>> {
        let parameters = Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let body = get(self.prometheus, &format!("/api/v1/{what}?{parameters}")).await?;
        let mut answer: Value = serde_json::from_str(&body)?;
        ensure!(answer["status"] == "success", "{answer}");
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            other => anyhow::bail!("{other} are no series"),
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A port that nobody had a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(program: &str, logs: &Path, flags: &[(&str, &Path)]) -> Result<Child> {
    let log = File::create(logs.join(format!("{program}.log")))?;
    let binary = tools::program(program)?;
    let share = binary.ancestors().nth(2).map(|usr| usr.join("share"));
    // Debian's look for files where the package would have put them. The shell becomes the program, which does
    // not outlive a test that is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig=KILL", "unshare", "--mount"])
        .args(["--propagation=private", "sh", "-c"])
        .arg("mount --bind \"$0\" /usr/share && exec \"$@\"")
        .arg(share.context("no folder of the package")?)
        .arg(binary);
    for (name, value) in flags {
        command.arg(format!("--{name}={}", value.display()));
    }
    command
        .current_dir(logs)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be started"))
}

async fn get(port: u16, path: &str) -> Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    Connection::open(stream).await?.get(path).await
}
