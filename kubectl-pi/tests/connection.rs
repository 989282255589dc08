//! The plugin itself, run as people run it, against an API server that has one pod, behind proxies and without.

#![allow(
    clippy::unwrap_used,
    reason = "the lint knows tests only where they are marked as such"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use curfew_api_server::{Answer, ApiServer, Asked};
use serde_json::{Value, json};

/// Nobody can look it up, so only a proxy gets there.
const FAR: &str = "http://api.invalid:80";

/// A proxy, and where it was asked to connect to.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (serve, kept) = (Arc::new(serve), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serve, kept) = (serve.clone(), kept.clone());
                thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, asked }
    }

    /// One that connects everybody with `to`, wherever they want to go.
    fn http(to: SocketAddr) -> Self {
        Self::start(move |mut stream, asked| {
            let Some(head) = read_head(&mut stream) else {
                return;
            };
            asked.lock().unwrap().push(head);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            connect(stream, to);
        })
    }

    /// One that also wants a name and a password, where they are given, and remembers what it got.
    fn socks(to: SocketAddr, secret: Option<[&'static str; 2]>) -> Self {
        fn read(stream: &mut TcpStream, length: u8) -> Vec<u8> {
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).unwrap();
            bytes
        }
        fn text(stream: &mut TcpStream) -> String {
            let length = read(stream, 1)[0];
            String::from_utf8(read(stream, length)).unwrap()
        }
        Self::start(move |mut stream, asked| {
            let stream = &mut stream;
            let count = read(stream, 2)[1];
            let methods = read(stream, count);
            let method = if secret.is_some() { 2 } else { 0 };
            if !methods.contains(&method) {
                stream.write_all(&[5, 0xff]).unwrap();
                return;
            }
            stream.write_all(&[5, method]).unwrap();
            if let Some(secret) = secret {
                assert_eq!(read(stream, 1), [1], "the version of RFC 1929");
                let given = [text(stream), text(stream)];
                let refused = u8::from(given != secret);
                stream.write_all(&[1, refused]).unwrap();
                if refused != 0 {
                    return;
                }
            }
            read(stream, 4);
            let name = text(stream);
            read(stream, 2);
            asked.lock().unwrap().push(name);
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
            connect(stream.try_clone().unwrap(), to);
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked since it was last looked at.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// An API server with one pod, and its address.
struct Api {
    server: ApiServer,
    address: SocketAddr,
}

impl Api {
    fn start() -> Self {
        let server = ApiServer::new();
        server.put(
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default",
                "labels": {"curfew.dev/interacted": "true"}}}),
        );
        let address = server.listen();
        Self { server, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The last request.
    fn asked(&self) -> Asked {
        self.server.asked().pop().unwrap()
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).to_lowercase())
}

fn connect(stream: TcpStream, to: SocketAddr) {
    let server = TcpStream::connect(to).unwrap();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            drop(std::io::copy(&mut from, &mut to));
            drop(to.shutdown(std::net::Shutdown::Write));
        })
    };
    copy(stream.try_clone().unwrap(), server.try_clone().unwrap());
    copy(server, stream);
}

/// A folder with a kubeconfig of this cluster and user.
fn configured(cluster: &Value, user: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    });
    fs::write(folder.path().join("config"), config.to_string()).unwrap();
    folder
}

/// The plugin with this kubeconfig and nothing of the environment that says where to go.
fn pi(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pi"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("KUBECONFIG", config);
    command
}

fn sees(command: &mut Command) -> Output {
    let output = command.args(["get", "-o", "name"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && shown == "pod/web\n",
        "{output:?}"
    );
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn proxies_are_asked_for_the_way() {
    let api = Api::start();
    let http = Proxy::http(api.address);
    let socks = Proxy::socks(api.address, None);
    let far = configured(&json!({"server": FAR}), &json!({}));
    let config = far.path().join("config");
    sees(pi(&config).env("HTTP_PROXY", http.url()));
    let asked = http.asked();
    assert!(asked[0].starts_with("connect api.invalid:80 "), "{asked:?}");
    let url = format!("socks5://{}", socks.address);
    sees(pi(&config).env("http_proxy", url));
    assert_eq!(socks.asked(), ["api.invalid"]);

    for proxy in [http.url(), format!("socks5://{}", socks.address)] {
        let cluster = json!({"server": FAR, "proxy-url": proxy});
        let far = configured(&cluster, &json!({}));
        // That of the kubeconfig holds for all addresses.
        sees(pi(&far.path().join("config")).env("NO_PROXY", "*"));
    }
    assert_eq!((http.asked().len(), socks.asked().len()), (1, 1));

    // This one would get nowhere by the proxy.
    let near = configured(&json!({"server": api.url()}), &json!({}));
    let nowhere = "http://127.0.0.1:1";
    let config = near.path().join("config");
    sees(pi(&config).env("HTTP_PROXY", nowhere));
}

#[test]
fn a_socks_proxy_is_told_who_asks() {
    let api = Api::start();
    let socks = Proxy::socks(api.address, Some(["alice", "p@ss:word"]));
    let through = |user: &str| {
        let proxy = format!("socks5://{user}{}", socks.address);
        configured(&json!({"server": FAR, "proxy-url": proxy}), &json!({}))
    };
    let known = through("alice:p%40ss%3Aword@");
    sees(&mut pi(&known.path().join("config")));
    assert_eq!(socks.asked(), ["api.invalid"]);
    let asked = api.asked();
    assert!(
        asked.method == "GET" && asked.path.starts_with("/api/v1/"),
        "{asked:?}"
    );

    for user in ["", "alice:s3cret@"] {
        let unknown = through(user);
        let output = pi(&unknown.path().join("config"))
            .arg("get")
            .output()
            .unwrap();
        let stderr = stderr(&output);
        assert!(!output.status.success() && !stderr.is_empty(), "{output:?}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
    assert!(socks.asked().is_empty());

    let wrong = configured(
        &json!({"server": FAR, "proxy-url": "socks4://alice:s3cret@near"}),
        &json!({}),
    );
    let output = pi(&wrong.path().join("config"))
        .arg("get")
        .output()
        .unwrap();
    let stderr = stderr(&output);
    assert!(
        stderr.contains("proxy-url: \"socks4://alice:xxxxx@near\" is not a supported proxy"),
        "{stderr}"
    );
}

#[test]
fn credentials_reach_the_api_server() {
    let api = Api::start();
    let cluster = json!({"server": api.url()});
    let folder = tempfile::tempdir().unwrap();
    let (token, runs) = (folder.path().join("token"), folder.path().join("runs"));
    fs::write(&token, "abc\n").unwrap();
    let by_file = configured(&cluster, &json!({"tokenFile": token}));
    let missing = folder.path().join("missing");
    let list = std::env::join_paths([missing, by_file.path().join("config")]).unwrap();
    sees(&mut pi(Path::new(&list)));
    assert_eq!(api.asked().header("authorization"), ["Bearer abc"]);

    let script = format!(
        "echo >> '{}'; echo '{{\"status\": {{\"token\": \"def\"}}}}'",
        runs.display()
    );
    let exec = |command: &str| {
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": command,
            "args": ["-c", script], "interactiveMode": "IfAvailable",
            "installHint": "Ask somebody.\nThen try again.",
        }})
    };
    let by_plugin = configured(&cluster, &exec("sh"));
    sees(&mut pi(&by_plugin.path().join("config")));
    assert_eq!(
        fs::read_to_string(&runs).unwrap(),
        "\n",
        "it ran more than once"
    );
    assert_eq!(api.asked().header("authorization"), ["Bearer def"]);

    let absent = configured(&cluster, &exec("no-such-plugin"));
    let output = pi(&absent.path().join("config"))
        .arg("get")
        .output()
        .unwrap();
    assert_eq!(
        stderr(&output),
        "error: the credential plugin no-such-plugin is not installed\n\nAsk somebody.\nThen try again.\n"
    );
}

#[test]
fn flags_go_before_the_kubeconfig() {
    let api = Api::start();
    let empty = tempfile::NamedTempFile::new().unwrap();
    let url = api.url();
    let output = sees(pi(empty.path()).args(["-s", &url, "--token", "abc", "-v", "6"]));
    let told = format!("GET {url}/api/v1/namespaces/default/pods");
    let stderr = stderr(&output);
    assert!(
        stderr.starts_with(&told) && stderr.contains(" 200 OK in "),
        "{stderr}"
    );
    assert_eq!(api.asked().header("authorization"), ["Bearer abc"]);

    let somebody = [
        "-s",
        &url,
        "--as",
        "bob",
        "--as-uid",
        "7",
        "--as-group=dev",
        "--as-user-extra",
        "a=b",
        "--as-user-extra=a=c",
    ];
    sees(pi(empty.path()).args(somebody));
    let asked = api.asked();
    for (name, values) in [
        ("impersonate-user", vec!["bob"]),
        ("impersonate-uid", vec!["7"]),
        ("impersonate-group", vec!["dev"]),
        ("impersonate-extra-a", vec!["b", "c"]),
    ] {
        assert_eq!(asked.header(name), values, "{name}: {asked:?}");
    }
}

#[test]
fn an_api_server_that_is_silent_is_not_waited_for() {
    let api = Api::start();
    api.server.script(|_| Answer::never());
    let empty = tempfile::NamedTempFile::new().unwrap();
    let output = pi(empty.path())
        .args(["get", "-s", &api.url(), "--request-timeout=1s"])
        .output()
        .unwrap();
    let stderr = stderr(&output);
    assert!(!output.status.success(), "{output:?}");
    assert!(stderr.contains("within 1s (--request-timeout)"), "{stderr}");
}
