//! Credentials that are read from a file or that a credential plugin gives: each is asked for once, and
//! again only when it has run out.

use std::{
    fs,
    io::{self, ErrorKind, IsTerminal},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;

/// A file is looked at again after that, as the API server's clients do.
const FILE_AGE: Duration = Duration::from_secs(60);
/// What runs out so soon is asked for again.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);
/// As much of an answer as is read; tokens are far smaller.
const MAX_ANSWER: usize = 1 << 20;

/// What authenticates requests, besides what kube takes from the kubeconfig.
#[derive(Debug)]
pub(super) enum Credential {
    /// Nothing more.
    None,
    File {
        path: String,
        token: String,
        read: Instant,
    },
    Plugin {
        config: Box<ExecConfig>,
        token: String,
        expires: Option<Timestamp>,
    },
}

/// What a credential plugin says.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<Timestamp>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Credential {
    /// Takes from the user of the kubeconfig what is to be read or run. A client certificate of a plugin
    /// is put where kube finds it.
    pub(super) fn of(auth: &mut AuthInfo) -> anyhow::Result<Self> {
        let (file, exec) = (auth.token_file.take(), auth.exec.take());
        if auth.token.is_some() || auth.username.is_some() {
            // These go first.
            return Ok(Self::None);
        }
        if let Some(path) = file {
            let token =
                read(&path).with_context(|| format!("cannot read the token file {path}"))?;
            return Ok(Self::File {
                path,
                token,
                read: Instant::now(),
            });
        }
        let Some(config) = exec else {
            return Ok(Self::None);
        };
        let status = run(&config)?;
        if let (Some(certificate), Some(key)) =
            (&status.client_certificate_data, &status.client_key_data)
        {
            auth.client_certificate_data = Some(STANDARD.encode(certificate));
            auth.client_key_data = Some(STANDARD.encode(key).into());
        }
        Ok(match status.token {
            Some(token) => Self::Plugin {
                config: Box::new(config),
                token,
                expires: status.expiration_timestamp,
            },
            None => Self::None,
        })
    }

    /// The bearer token of the next request.
    pub(super) fn token(&mut self) -> anyhow::Result<Option<&str>> {
        match self {
            Self::None => Ok(None),
            Self::File {
                path,
                token,
                read: at,
            } => {
                if at.elapsed() >= FILE_AGE {
                    // What was read before may still be good.
                    if let Ok(new) = read(path) {
                        *token = new;
                    }
                    *at = Instant::now();
                }
                Ok(Some(token))
            }
            Self::Plugin {
                config,
                token,
                expires,
            } => {
                if expires.is_some_and(|at| at.duration_since(Timestamp::now()) < MARGIN) {
                    let status = run(config)?;
                    *token = status
                        .token
                        .context("the credential plugin returned no token")?;
                    *expires = status.expiration_timestamp;
                }
                Ok(Some(token))
            }
        }
    }
}

/// A token without the line end that editors and `echo` leave.
fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Runs the plugin. It has no time limit: it may wait for somebody who logs in.
fn run(config: &ExecConfig) -> anyhow::Result<Status> {
    let name = config.command.as_deref().unwrap_or_default();
    if name.is_empty() {
        bail!("the kubeconfig contains no command for its credential plugin");
    }
    let on_terminal = io::stdin().is_terminal();
    let interactive = match &config.interactive_mode {
        Some(ExecInteractiveMode::Never) => false,
        Some(ExecInteractiveMode::Always) if !on_terminal => {
            bail!("the credential plugin {name} requires a terminal, and there is none")
        }
        Some(ExecInteractiveMode::Always) => true,
        _ => on_terminal,
    };
    let mut spec = json!({ "interactive": interactive });
    if config.provide_cluster_info {
        spec["cluster"] = json!(config.cluster);
    }
    let info = json!({
        "apiVersion": config.api_version,
        "kind": "ExecCredential",
        "spec": spec,
    });
    let mut command = Command::new(name);
    command
        .args(config.args.iter().flatten())
        .env("KUBERNETES_EXEC_INFO", info.to_string())
        .stderr(Stdio::inherit())
        .stdin(match interactive {
            true => Stdio::inherit(),
            false => Stdio::null(),
        });
    for env in config.env.iter().flatten() {
        if let (Some(name), Some(value)) = (env.get("name"), env.get("value")) {
            command.env(name, value);
        }
    }
    let output = command
        .output()
        .map_err(|error| not_run(name, config.install_hint.as_deref(), &error))?;
    if !output.status.success() {
        bail!("the credential plugin {name} failed: {}", output.status);
    }
    let said = output.stdout.get(..MAX_ANSWER).unwrap_or(&output.stdout);
    let answer: ExecCredential = serde_json::from_slice(said)
        .with_context(|| format!("the credential plugin {name} returned no ExecCredential"))?;
    answer
        .status
        .with_context(|| format!("the credential plugin {name} returned no credential"))
}

fn not_run(name: &str, hint: Option<&str>, error: &io::Error) -> anyhow::Error {
    match (hint.unwrap_or_default().trim(), error.kind()) {
        ("", ErrorKind::NotFound) => anyhow!("the credential plugin {name} is not installed"),
        (hint, ErrorKind::NotFound) => {
            anyhow!("the credential plugin {name} is not installed\n\n{hint}")
        }
        _ => anyhow!("the credential plugin {name} cannot be run: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(line: &str) -> AuthInfo {
        let exec = ExecConfig {
            command: Some("sh".into()),
            args: Some(vec!["-c".into(), line.into()]),
            ..ExecConfig::default()
        };
        AuthInfo {
            exec: Some(exec),
            ..AuthInfo::default()
        }
    }

    #[test]
    fn a_token_file_may_end_in_a_line_end() {
        let path = std::env::temp_dir().join(format!("kubectl-pi-token-{}", std::process::id()));
        fs::write(&path, "abc\n").unwrap();
        let mut auth = AuthInfo {
            token_file: Some(path.to_string_lossy().into_owned()),
            ..AuthInfo::default()
        };
        let mut credential = Credential::of(&mut auth).unwrap();
        assert_eq!(credential.token().unwrap(), Some("abc"));
        assert!(auth.token_file.is_none(), "kube would read it again");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_plugin_gives_tokens_and_certificates() {
        let mut auth = plugin(
            r#"echo '{"status": {"token": "t", "clientCertificateData": "c", "clientKeyData": "k"}}'"#,
        );
        let mut credential = Credential::of(&mut auth).unwrap();
        assert_eq!(credential.token().unwrap(), Some("t"));
        assert_eq!(auth.client_certificate_data.as_deref(), Some("Yw=="));
        assert!(auth.exec.is_none(), "kube would run it again");
        let mut auth = plugin(
            r#"echo "$KUBERNETES_EXEC_INFO" | grep -q '"interactive":false' && echo '{"status": {"token": "t"}}'"#,
        );
        if let Some(exec) = &mut auth.exec {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        assert!(Credential::of(&mut auth).is_ok());
    }

    #[test]
    fn a_plugin_that_fails_is_named() {
        for (line, complaint) in [
            ("exit 3", "failed: exit status: 3"),
            ("echo hello", "no ExecCredential"),
            ("echo '{}'", "no credential"),
        ] {
            let error = Credential::of(&mut plugin(line)).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_plugin_that_is_missing_shows_its_hint() {
        let mut auth = plugin("");
        if let Some(exec) = &mut auth.exec {
            exec.command = Some("/nonexistent/plugin".into());
            exec.install_hint = Some("Install it\nfirst.\n".into());
        }
        let error = Credential::of(&mut auth).unwrap_err().to_string();
        assert_eq!(
            error,
            "the credential plugin /nonexistent/plugin is not installed\n\nInstall it\nfirst."
        );
    }

    #[test]
    fn a_token_that_runs_out_is_asked_for_again() {
        let status =
            json!({"status": {"token": "new", "expirationTimestamp": "2999-01-01T00:00:00Z"}});
        let config = plugin(&format!("echo '{status}'")).exec.unwrap();
        let mut credential = Credential::Plugin {
            config: Box::new(config),
            token: "old".into(),
            expires: Some(Timestamp::now()),
        };
        assert_eq!(credential.token().unwrap(), Some("new"));
        let Credential::Plugin { config, .. } = &mut credential else {
            panic!("{credential:?}");
        };
        config.command = Some("/nonexistent/plugin".into());
        assert_eq!(credential.token().unwrap(), Some("new"));
    }
}
