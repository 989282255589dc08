//! A real agent process, and what one can ask of it.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use curfew_agent::inspect::Holdings;
use curfew_core::{Action, Interaction, Kind, Known, Notice, PodId, Receipt, Terms, notice};
use jiff::Timestamp;

pub(crate) const NODE: &str = "node-1";

/// A user without rights.
pub(crate) const NOBODY: u32 = 65534;

/// Agents of one test, one after the other, on the same store and the same ports.
pub(crate) struct Host {
    pub(crate) store: PathBuf,
    kubeconfig: PathBuf,
    ports: [u16; 3],
    http: ureq::Agent,
}

pub(crate) struct Agent<'a> {
    host: &'a Host,
    child: Child,
}

impl Host {
    /// `folder` is for the test's files, `store` is the agent's folder.
    pub(crate) fn new(folder: &Path, store: &Path) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        let text = "{apiVersion: v1, kind: Config, current-context: none, \
                    clusters: [{name: none, cluster: {server: 'http://127.0.0.1:9'}}], \
                    users: [{name: none, user: {}}], \
                    contexts: [{name: none, context: {cluster: none, user: none}}]}";
        fs::write(&kubeconfig, text).unwrap();
        // Taken together, so that they differ.
        let listeners = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            store: store.to_owned(),
            kubeconfig,
            ports: listeners.map(|listener| listener.local_addr().unwrap().port()),
            http,
        }
    }

    pub(crate) fn start(&self, user: Option<u32>) -> Agent<'_> {
        let [notices, metrics, debug] = self.ports.map(|port| format!("127.0.0.1:{port}"));
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
                "off",
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
            .stderr(Stdio::null());
        if let Some(user) = user {
            command.uid(user);
        }
        Agent {
            host: self,
            child: command.spawn().unwrap(),
        }
    }
}

impl Agent<'_> {
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The receipt, or the status and text of the refusal; nothing when there was no answer.
    pub(crate) fn tell(&self, notice: &Notice) -> Option<Result<Receipt, (u16, String)>> {
        let url = format!("http://127.0.0.1:{}{}", self.host.ports[0], notice::PATH);
        let body = serde_json::to_vec(notice).unwrap();
        let mut answer = self.host.http.post(&url).send(&body[..]).ok()?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().ok()?;
        match status {
            200 => Some(Ok(serde_json::from_str(&text).unwrap())),
            _ => Some(Err((status, text))),
        }
    }

    /// What the store holds, once the agent answers.
    pub(crate) fn holdings(&self) -> Holdings {
        let url = format!("http://127.0.0.1:{}/v1/store", self.host.ports[2]);
        eventually("the agent tells what its store holds", || {
            let mut answer = self.host.http.get(&url).call().ok()?;
            serde_json::from_reader(answer.body_mut().as_reader()).ok()
        })
    }

    pub(crate) fn readiness(&self) -> String {
        let url = format!("http://127.0.0.1:{}/readyz", self.host.ports[1]);
        eventually("the agent tells whether it is ready", || {
            self.host
                .http
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn notice(uid: &str, request: &str) -> Notice {
    Notice {
        version: notice::VERSION,
        node: NODE.into(),
        pod: PodId {
            namespace: "shop".into(),
            name: format!("cart-{uid}"),
            uid: uid.into(),
        },
        known: Known {
            interaction: Interaction {
                time: Timestamp::from_second(Timestamp::now().as_second()).unwrap(),
                kind: Kind::Exec,
                // Another person each time: the same deed within two seconds would be one.
                user: format!("user-{request}"),
                container: Some("app".into()),
                command: curfew_core::Command::new(["sh"]),
                request: request.into(),
            },
            terms: Terms {
                action: Action::Evict,
                ttl: Duration::from_secs(3600),
                max_extension: Duration::from_secs(3600),
                max_hold: Duration::from_secs(7200),
                exemption: None,
            },
        },
        sent: None,
    }
}

/// The first value that the attempt yields, which it has to within half a minute.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
