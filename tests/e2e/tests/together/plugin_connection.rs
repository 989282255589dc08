//! `kubectl pi` finds the API server as kubectl does: the same flags, kubeconfigs, proxies and credentials.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{kubernetes, layout::Checkout};
use curfew_e2e::{
    Kubectl, NODES, Namespace, TestCluster, Workload, eventually,
    policies::long_ttl,
    proxies::{Protocol, Proxy},
    within_namespace,
};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const TOUCHED: &str = "pod/web\n";

/// Flags of kubectl that the plugin does not take, and why.
const LEFT: [(&str, &str); 7] = [
    ("kuberc", "it has no aliases"),
    (
        "match-server-version",
        "it works with all supported versions",
    ),
    ("profile", "it is for those who develop kubectl"),
    ("profile-output", "it is for those who develop kubectl"),
    ("version", "`kubectl pi version` prints it"),
    ("vmodule", "it has no levels for each of its files"),
    (
        "warnings-as-errors",
        "it prints no warnings of the API server",
    ),
];

#[tokio::test]
async fn the_flags_of_kubectl_are_its_flags() {
    let told = async {
        let cluster = TestCluster::connect().await?;
        let kubectl = cluster.kubectl();
        let options = kubectl.ok(&["options"]).await?;
        let flags: Vec<_> = options.lines().filter_map(flag).collect();
        ensure!(flags.len() > 25, "{options}");
        let mut wrong = Vec::new();
        for flag in &flags {
            for form in flag.forms() {
                let words = [&["pi", "get"], &*form, &["--help"]].concat();
                let said = kubectl.run(&words).await?;
                let is_left = LEFT.iter().any(|(name, _)| *name == flag.name);
                // The help is shown when nothing before it is wrong.
                if (said.code == Some(0)) == is_left {
                    wrong.push(format!("{form:?}: {}", said.stderr));
                }
            }
        }
        // An older kubectl lacks some.
        let minors = kubernetes::minors(&Checkout::find()?)?;
        let is_newest = minors.last() == Some(&cluster.kubernetes().await?);
        for (name, _) in LEFT {
            if is_newest && !flags.iter().any(|flag| flag.name == name) {
                wrong.push(format!("kubectl has no --{name}"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        anyhow::Ok(())
    };
    told.await.unwrap();
}

/// A flag as `kubectl options` lists it: `-n, --namespace='':`.
#[derive(Debug)]
struct Flag<'a> {
    short: Option<&'a str>,
    name: &'a str,
    default: &'a str,
}

fn flag(line: &str) -> Option<Flag<'_>> {
    let (flags, rest) = line.trim().split_once("--")?;
    let (name, rest) = rest.split_once('=')?;
    let default = rest.split_once(':')?.0;
    let short = flags.trim().trim_end_matches(',');
    if !(short.is_empty() || short.starts_with('-')) {
        return None;
    }
    Some(Flag {
        short: Some(short).filter(|short| !short.is_empty()),
        name,
        default,
    })
}

impl Flag<'_> {
    /// The ways to give it.
    fn forms(&self) -> Vec<Vec<&'static str>> {
        let leak = |text: String| -> &'static str { text.leak() };
        let long = format!("--{}", self.name);
        let value = match self.default {
            "false" | "true" => return vec![vec![leak(long)]],
            "[]" => "a=b",
            number if number.parse::<u32>().is_ok() => "6",
            duration if duration.contains("0s") || self.name.contains("timeout") => "5s",
            _ => "x",
        };
        let mut forms = vec![vec![leak(format!("{long}={value}"))]];
        if let Some(short) = self.short {
            forms.push(vec![leak(short.to_owned()), value]);
        }
        forms
    }
}

/// A namespace with a touched pod, and somebody who may look at it.
struct Viewer {
    token: String,
    cluster: Value,
    folder: tempfile::TempDir,
}

impl Viewer {
    async fn new(namespace: &Namespace) -> Result<Self> {
        let kubectl = &namespace.kubectl;
        long_ttl(namespace).await?;
        namespace
            .run_pod(&Workload::new("web").on(NODES[0]))
            .await?;
        kubectl.ok(&["exec", "web", "--", "true"]).await?;
        let subject = format!("--serviceaccount={}:default", namespace.name);
        kubectl
            .ok(&[
                "create",
                "rolebinding",
                "viewer",
                "--clusterrole=view",
                &subject,
            ])
            .await?;
        let token = kubectl.ok(&["create", "token", "default"]).await?;
        let shown = ["config", "view", "--raw", "-o", "json"];
        let admin: Value = serde_json::from_str(&kubectl.ok(&shown).await?)?;
        Ok(Self {
            token: token.trim().to_owned(),
            cluster: admin["clusters"][0]["cluster"].clone(),
            folder: tempfile::tempdir()?,
        })
    }

    /// The path of a file with this text.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// kubectl with a kubeconfig of this cluster and this user.
    fn kubectl(&self, namespace: &Namespace, cluster: &Value, user: &Value) -> Result<Kubectl> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        });
        let path = self.file("config", &config.to_string())?;
        Ok(namespace.kubectl.with_env("KUBECONFIG", &path))
    }

    fn bearer(&self) -> Value {
        json!({ "token": self.token })
    }
}

async fn sees(kubectl: &Kubectl, more: &[&str]) -> Result<()> {
    let words = [&["pi", "get", "-o", "name"], more].concat();
    let said = kubectl.run(&words).await?;
    ensure!(
        said.code == Some(0) && said.stdout == TOUCHED,
        "{more:?}: {said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn proxies_are_taken_as_kubectl_takes_them() {
    within_namespace("proxies", async |namespace| {
        let viewer = Viewer::new(namespace).await?;
        let http = Proxy::start(Protocol::Http).await?;
        let socks = Proxy::start(Protocol::Socks5).await?;
        let direct = viewer.kubectl(namespace, &viewer.cluster, &viewer.bearer())?;
        seen_at_last(&direct).await?;
        let host = namespace.cluster.machine.ip_family().host();
        let proxied = direct.with_env("HTTPS_PROXY", &format!("http://{}", http.address));
        let exempt = proxied.with_env("NO_PROXY", &format!("a.example.com, ,{host}"));
        let other = proxied.with_env("NO_PROXY", "127.0.0.1,example.com");
        let by_socks = direct.with_env("https_proxy", &format!("socks5://{}", socks.address));
        for (what, kubectl, through) in [
            ("none", &direct, [false, false]),
            ("HTTPS_PROXY", &proxied, [true, false]),
            ("NO_PROXY", &exempt, [false, false]),
            ("NO_PROXY of others", &other, [true, false]),
            ("socks5", &by_socks, [false, true]),
        ] {
            sees(kubectl, &[]).await?;
            let went = [http.connected() > 0, socks.connected() > 0];
            ensure!(went == through, "{what}: {went:?}");
            // As kubectl does it.
            kubectl.ok(&["get", "pods"]).await?;
            let went = [http.connected() > 0, socks.connected() > 0];
            ensure!(went == through, "{what}, kubectl: {went:?}");
        }
        for (scheme, through) in [("http", [true, false]), ("socks5", [false, true])] {
            let proxy = match scheme {
                "http" => &http,
                _ => &socks,
            };
            let mut cluster = viewer.cluster.clone();
            cluster["proxy-url"] = json!(format!("{scheme}://{}", proxy.address));
            let kubectl = viewer.kubectl(namespace, &cluster, &viewer.bearer())?;
            // That of the kubeconfig holds for all addresses.
            sees(&kubectl.with_env("NO_PROXY", "*"), &[]).await?;
            let went = [http.connected() > 0, socks.connected() > 0];
            ensure!(went == through, "proxy-url {scheme}: {went:?}");
        }
        Ok(())
    })
    .await;
}

/// Waits until the mark stands on the pod and the role is in force.
async fn seen_at_last(kubectl: &Kubectl) -> Result<()> {
    eventually(SOON, "the viewer sees the pod", async || {
        let said = kubectl.run(&["pi", "get", "-o", "name"]).await?;
        Ok((said.stdout == TOUCHED).then_some(()))
    })
    .await
}

#[tokio::test]
async fn credentials_are_found_as_kubectl_finds_them() {
    within_namespace("credentials", async |namespace| {
        let viewer = Viewer::new(namespace).await?;
        let cluster = &viewer.cluster;
        let direct = viewer.kubectl(namespace, cluster, &viewer.bearer())?;
        seen_at_last(&direct).await?;

        // A kubeconfig that is not there is passed over, unless it is named by the flag.
        let config = viewer.folder.path().join("config");
        let list = format!("/nonexistent/config:{}", config.display());
        sees(&direct.with_env("KUBECONFIG", &list), &[]).await?;
        let words = ["pi", "get", "--kubeconfig=/nonexistent/config"];
        let said = direct.run(&words).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("/nonexistent/config"),
            "{said:?}"
        );

        let token_file = viewer.file("token", &format!("{}\n", viewer.token))?;
        let user = json!({ "tokenFile": token_file });
        sees(&viewer.kubectl(namespace, cluster, &user)?, &[]).await?;

        let runs = viewer.folder.path().join("runs");
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"token": viewer.token},
        });
        let script = format!("echo >> {}; echo '{credential}'", runs.display());
        let exec = |command: &str| {
            json!({"exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": command, "args": ["-c", script],
                "interactiveMode": "IfAvailable", "installHint": "Ask your administrator.\nThen try again.",
            }})
        };
        let kubectl = viewer.kubectl(namespace, cluster, &exec("sh"))?;
        sees(&kubectl, &[]).await?;
        ensure!(lines(&runs)? == 1, "it ran {} times", lines(&runs)?);
        kubectl.ok(&["pi", "describe", "web"]).await?;
        ensure!(lines(&runs)? == 2, "it ran {} times", lines(&runs)? - 1);
        let kubectl = viewer.kubectl(namespace, cluster, &exec("missing-plugin"))?;
        let said = kubectl.run(&["pi", "get"]).await?;
        let hint = "missing-plugin is not installed\n\nAsk your administrator.\nThen try again.\n";
        ensure!(said.code == Some(1) && said.stderr.ends_with(hint), "{said:?}");
        Ok(())
    })
    .await;
}

fn lines(path: &Path) -> Result<usize> {
    Ok(fs::read_to_string(path)?.lines().count())
}

#[tokio::test]
async fn flags_say_where_the_api_server_is_and_who_asks() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    within_namespace("flags", async |namespace| {
        let viewer = Viewer::new(namespace).await?;
        let cluster = &viewer.cluster;
        let direct = viewer.kubectl(namespace, cluster, &viewer.bearer())?;
        seen_at_last(&direct).await?;
        let nothing = namespace.kubectl.with_env("KUBECONFIG", "/dev/null");
        let server = cluster["server"].as_str().unwrap_or_default();
        let data = cluster["certificate-authority-data"]
            .as_str()
            .unwrap_or_default();
        let authority = String::from_utf8(BASE64_STANDARD.decode(data)?)?;
        let authority = viewer.file("ca.crt", &authority)?;
        let token = &*viewer.token;
        for words in [
            &[
                "--server",
                server,
                "--token",
                token,
                "--certificate-authority",
                &authority,
            ][..],
            &["-s", server, "--token", token, "--insecure-skip-tls-verify"],
            &[
                "-s",
                server,
                "--token",
                token,
                "--certificate-authority",
                &authority,
                "--tls-server-name=kubernetes.default.svc",
                "--request-timeout=30s",
            ],
        ] {
            sees(&nothing, words).await?;
        }
        for (words, complaint) in [
            (&["-s", server, "--token", token][..], "certificate"),
            (
                &[
                    "-s",
                    server,
                    "--token",
                    token,
                    "--certificate-authority",
                    &authority,
                    "--tls-server-name=other.example.com",
                ],
                "certificate",
            ),
            (
                &["-s", server, "--token=wrong", "--insecure-skip-tls-verify"],
                "Unauthorized",
            ),
        ] {
            let words = [&["pi", "get"], words].concat();
            let said = nothing.run(&words).await?;
            ensure!(
                said.code == Some(1) && said.stderr.contains(complaint),
                "{words:?}: {said:?}"
            );
        }
        // The administrator's certificate, and somebody with a UID and more.
        let shown = ["config", "view", "--raw", "-o", "json"];
        let admin: Value = serde_json::from_str(&namespace.kubectl.ok(&shown).await?)?;
        let user = &admin["users"][0]["user"];
        let part = |key: &str, name: &str| {
            let data = BASE64_STANDARD.decode(user[key].as_str().unwrap_or_default())?;
            viewer.file(name, &String::from_utf8(data)?)
        };
        let certificate = part("client-certificate-data", "client.crt")?;
        let key = part("client-key-data", "client.key")?;
        let by_certificate = [
            "-s",
            server,
            "--certificate-authority",
            &authority,
            "--client-certificate",
            &certificate,
            "--client-key",
            &key,
        ];
        sees(&nothing, &by_certificate).await?;

        let said = direct.run(&["pi", "get", "-v=6"]).await?;
        ensure!(
            said.code == Some(0)
                && said
                    .stderr
                    .contains(&format!("GET {server}/api/v1/namespaces/")),
            "{said:?}"
        );
        let version = direct.ok(&["pi", "version"]).await?;
        ensure!(
            version.starts_with("Client Version: v") && version.contains("\nServer Version: v1."),
            "{version}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn tables_are_made_as_kubectl_makes_them() {
    within_namespace("columns", async |namespace| {
        let kubectl = &namespace.kubectl;
        long_ttl(namespace).await?;
        let pods = [
            Workload::new("web-10").on(NODES[0]),
            Workload::new("web-9").on(NODES[1]),
        ];
        for pod in namespace.run_pods(&pods).await? {
            let name = pod.metadata.name.context("it has no name")?;
            kubectl.ok(&["exec", &name, "--", "true"]).await?;
        }
        eventually(SOON, "both are marked", async || {
            let names = kubectl.ok(&["pi", "get", "-o", "name"]).await?;
            Ok((names.lines().count() == 2).then_some(()))
        })
        .await?;
        let columns = "custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,X:.spec.nothing";
        for more in [&[][..], &["--no-headers"]] {
            let words = [
                &["get", "pods", "-o", columns, "--sort-by=.metadata.name"],
                more,
            ]
            .concat();
            let by_kubectl = kubectl.ok(&words).await?;
            let words = [&["pi"], &*words].concat();
            ensure!(kubectl.ok(&words).await? == by_kubectl, "{by_kubectl}");
        }
        let words = [
            "pi",
            "get",
            "--field-selector=spec.nodeName=node-2",
            "-oname",
        ];
        ensure!(kubectl.ok(&words).await? == "pod/web-9\n");
        let words = ["pi", "get", "--no-headers", "--sort-by={.metadata.name}"];
        let table = kubectl.ok(&words).await?;
        let names: Vec<_> = table
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        ensure!(names == ["web-10", "web-9"], "{table}");
        let said = kubectl
            .run(&["pi", "get", "-o", "go-template={{.kind}}"])
            .await?;
        ensure!(
            said.code == Some(1)
                && said
                    .stderr
                    .contains("kubectl pi does not support go-template"),
            "{said:?}"
        );
        Ok(())
    })
    .await;
}
