//! A real agent process, and what one can ask of it.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::api::{ApiServer, DAY};
use curfew_agent::store::inspect::Holdings;
use curfew_core::{
    Action, Interaction, Kind, Notice, PodId, Receipt, RecordedInteraction, Terms, notice,
};
use curfew_runtime::{metrics::Catalog, tls::Refusals};
use curfew_webhook::{
    identity::Identity,
    recording::forward::{ForwardError, Forwarder},
};
use jiff::Timestamp;
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
};

pub(crate) const NODE: &str = "node-1";

/// A user without rights.
pub(crate) const NOBODY: u32 = 65534;

const SIGKILL: i32 = 9;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What the agent logs first of all, and once its store is open.
const STARTING: &str = "starting";
const OPEN: &str = "the store is open";

/// Agents of one test, one after the other, on the same store and the same ports.
pub(crate) struct Host {
    pub(crate) store: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    listen: [SocketAddr; 3],
    webhook: Identity,
    runtime: Runtime,
}

pub(crate) struct Agent<'a> {
    host: &'a Host,
    child: Mutex<Child>,
    http: ureq::Agent,
    forwarder: Forwarder,
}

impl Host {
    /// `folder` is for the test's files, `store` is the agent's folder.
    pub(crate) fn new(folder: &Path, store: &Path, api_server: &ApiServer) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: none, \
              clusters: [{{name: none, cluster: {{server: 'http://{}'}}}}], \
              users: [{{name: none, user: {{}}}}], \
              contexts: [{{name: none, context: {{cluster: none, user: none}}}}]}}",
            api_server.address
        );
        fs::write(&kubeconfig, text).unwrap();
        // Taken together, so that they differ; and not on the address that connections go out from, one of
        // which could have the port while the agent is dead.
        // The webhook calls over IPv6, where the machine has it: from there nothing else goes out.
        let listeners = ["[::1]:0", "127.0.0.2:0", "127.0.0.2:0"].map(|address| {
            TcpListener::bind(address)
                .or_else(|_| TcpListener::bind("127.0.0.2:0"))
                .unwrap()
        });
        Self {
            store: store.to_owned(),
            kubeconfig,
            log: folder.join("log"),
            listen: listeners.map(|listener| listener.local_addr().unwrap()),
            webhook: Identity::new(None, api_server.authorities.clone(), None, "curfew", DAY)
                .unwrap(),
            runtime: runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn start(&self, user: Option<u32>) -> Agent<'_> {
        let [notices, metrics, debug] = self.listen.map(|address| address.to_string());
        let built = Path::new(env!("CARGO_BIN_EXE_curfew-agent"));
        let program = match user {
            None => built.to_owned(),
            // Where cargo builds, somebody without rights may not even look.
            Some(_) => {
                let copy = self.kubeconfig.with_file_name("curfew-agent");
                fs::copy(built, &copy).unwrap();
                copy
            }
        };
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args([
                "--node-name",
                NODE,
                "--log-level",
                "warn,curfew_agent=info,curfew_agent::events::post=off",
                "--listen",
                &notices,
            ])
            .args([
                "--metrics-listen",
                &metrics,
                "--debug-listen",
                &debug,
                "--store",
            ])
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.log).unwrap());
        if let Some(user) = user {
            command.uid(user);
        }
        // One that is new for each process has no connections to the one before.
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .build()
            .into();
        let agents = HashMap::from([(NODE.to_owned(), self.listen[0])]);
        let (_, agents) = watch::channel(Arc::new(agents));
        let (_, identities) = watch::channel(Some(self.webhook.clone()));
        let refusals =
            Refusals::new(&mut Catalog::default(), "refused_total", "For tests").unwrap();
        Agent {
            host: self,
            child: Mutex::new(command.spawn().unwrap()),
            http,
            forwarder: Forwarder::new(agents, identities, ANSWER, refusals),
        }
    }

    /// How long the latest agent took to open its store, as it logged; nothing when it did not get there.
    pub(crate) fn opening(&self) -> Option<Duration> {
        #[derive(serde::Deserialize)]
        struct Line {
            timestamp: Timestamp,
            message: String,
        }
        // The last line may be half written, and a panic is no JSON.
        let log = self.log();
        let lines: Vec<Line> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let at = |message: &str| lines.iter().find(|line| line.message == message);
        let taken = at(OPEN)?.timestamp.duration_since(at(STARTING)?.timestamp);
        Duration::try_from(taken).ok()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Agent<'_> {
    /// Kills it, whatever it is about, and returns once it is dead.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        let end = child.wait().unwrap();
        assert_eq!(
            end.signal(),
            Some(SIGKILL),
            "it ended by itself: {end}; {}",
            self.log()
        );
    }

    /// Returns as soon as it has logged anything: then it is about to open its store.
    pub(crate) fn wait_for_first_line(&self) {
        poll("the agent logs", Duration::from_micros(100), || {
            (fs::metadata(&self.host.log).unwrap().len() > 0).then_some(())
        });
    }

    /// Returns once it has a certificate, without which it takes none.
    pub(crate) fn wait_until_it_takes_notices(&self) {
        eventually("the agent takes notices", || {
            TcpStream::connect(self.host.listen[0]).ok()
        });
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.host.log()
    }

    /// The receipt, or the status and text of the refusal; nothing when there was no answer.
    pub(crate) fn tell(&self, notice: &Notice) -> Option<Result<Receipt, (u16, String)>> {
        let telling = self.forwarder.tell(NODE, vec![notice.clone()]);
        match self.host.runtime.block_on(telling) {
            Ok(receipt) => receipt.map(Ok),
            Err(ForwardError::Refused { status, text, .. }) => Some(Err((status, text))),
            Err(ForwardError::Connection(..) | ForwardError::Late(..)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    /// What the store holds, once the agent answers.
    pub(crate) fn holdings(&self) -> Holdings {
        let url = format!("http://{}/v1/store", self.host.listen[2]);
        eventually("the agent tells what its store holds", || {
            let mut answer = self.http.get(&url).call().ok()?;
            serde_json::from_slice(&answer.body_mut().read_to_vec().ok()?).ok()
        })
    }

    pub(crate) fn readiness(&self) -> String {
        let url = format!("http://{}/readyz", self.host.listen[1]);
        eventually("the agent tells whether it is ready", || {
            self.http
                .get(&url)
                .call()
                .ok()?
                .body_mut()
                .read_to_string()
                .ok()
        })
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let child = child.unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub(crate) fn pod_name(uid: &str) -> String {
    format!("cart-{uid}")
}

pub(crate) fn notice(uid: &str, request: &str) -> Notice {
    Notice {
        version: notice::VERSION,
        node: NODE.into(),
        pod: PodId {
            namespace: "shop".into(),
            name: pod_name(uid),
            uid: uid.into(),
        },
        known: RecordedInteraction {
            interaction: Interaction {
                time: Timestamp::from_second(Timestamp::now().as_second()).unwrap(),
                kind: Kind::Exec,
                // Another person each time: a repetition within two seconds would not count.
                user: format!("user-{request}"),
                container: Some("app".into()),
                command: curfew_core::Command::new(["sh"]),
                stdin: false,
                tty: false,
                request: request.into(),
            },
            terms: Terms {
                action: Action::Evict,
                ttl: Duration::from_secs(3600),
                max_extension: Duration::from_secs(3600),
                max_hold: Duration::from_secs(7200),
                exemption: None,
                enforcement: curfew_core::Enforcement::Enforce,
                on_evidence: curfew_core::OnEvidence::default(),
            },
            policy: None,
            irregular: None,
        },
        sent: None,
    }
}

/// The first value that the attempt yields, which it has to within half a minute.
pub(crate) fn eventually<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    poll(what, Duration::from_millis(5), attempt)
}

fn poll<T>(what: &str, nap: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(nap);
    }
}
