//! Runs the real kubectl, with limits.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use curfew_cluster::Cluster;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// No command of a test takes longer, other than by mistake.
const LIMIT: Duration = Duration::from_secs(60);

/// What a finished kubectl said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit status, if it was not killed.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Said {
    /// Its standard output, if it succeeded.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == Some(0), "kubectl failed: {self:?}");
        Ok(self.stdout)
    }
}

/// kubectl with a kubeconfig, and perhaps a namespace and somebody else's name.
#[derive(Debug, Clone)]
pub struct Kubectl {
    cluster: Cluster,
    namespace: Option<String>,
    user: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Kubectl {
    /// kubectl as the administrator.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            namespace: None,
            user: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The same in a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The same as another user of these groups.
    #[must_use]
    pub fn impersonating(&self, user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| format!("--as-group={group}"));
        Self {
            user: std::iter::once(format!("--as={user}"))
                .chain(groups)
                .collect(),
            ..self.clone()
        }
    }

    /// The same with this in its environment.
    #[must_use]
    pub fn with_env(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed
            .environment
            .push((name.to_owned(), value.to_owned()));
        changed
    }

    /// Runs it to its end, whatever that is.
    pub async fn run(&self, args: &[&str]) -> Result<Said> {
        self.feed(args, "").await
    }

    /// Runs it to its end and returns its output, if it succeeded.
    pub async fn ok(&self, args: &[&str]) -> Result<String> {
        self.run(args).await?.success()
    }

    /// Runs it to its end with this on its standard input.
    pub async fn feed(&self, args: &[&str], input: &str) -> Result<Said> {
        finish(self.command(args)?, args, input).await
    }

    /// Starts it and lets it run; it is killed when the handle is dropped.
    pub fn start(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.command(args)?;
        command.stdin(Stdio::null());
        Running::start(command)
    }

    /// The same on a terminal of its own, where one can type.
    pub fn start_on_a_terminal(&self, args: &[&str]) -> Result<Running> {
        let kubectl = self.command(args)?;
        let kubectl = kubectl.as_std();
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let line = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .join(" ");
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .envs(
                kubectl
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Running::start(script)
    }

    fn words(&self, args: &[&str]) -> Result<Vec<String>> {
        let Some((verb, rest)) = args.split_first() else {
            bail!("kubectl needs a command");
        };
        // Behind the first word, because kubectl takes no flags before a plugin, and a command that
        // is to be executed ends in words that are not kubectl's.
        let namespace = self
            .namespace
            .iter()
            .map(|name| format!("--namespace={name}"));
        Ok(std::iter::once((*verb).to_owned())
            .chain(namespace)
            .chain(self.user.iter().cloned())
            .chain(rest.iter().map(|word| (*word).to_owned()))
            .collect())
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::from(self.cluster.kubectl());
        command
            .args(self.words(args)?)
            .env(
                "KUBECACHEDIR",
                self.cluster.checkout().join("target/e2e/kubectl-cache"),
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

async fn finish(mut command: Command, args: &[&str], input: &str) -> Result<Said> {
    let began = Instant::now();
    command.stdin(if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    });
    command.stderr(Stdio::piped());
    let mut child = command.spawn().context("kubectl cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let shown = args.iter().take(12).copied().collect::<Vec<_>>().join(" ");
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("kubectl {shown}: did not end within {LIMIT:?}"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        took: began.elapsed(),
    })
}

/// A kubectl that goes on, such as `port-forward`.
#[derive(Debug)]
pub struct Running {
    lines: Lines<BufReader<ChildStdout>>,
    keyboard: Option<ChildStdin>,
    _child: Child,
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stderr(Stdio::null())
            .spawn()
            .context("kubectl cannot be started")?;
        let stdout = child
            .stdout
            .take()
            .context("kubectl has no standard output")?;
        Ok(Self {
            lines: BufReader::new(stdout).lines(),
            keyboard: child.stdin.take(),
            _child: child,
        })
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// When it ended, or said nothing for too long.
    pub async fn line(&mut self) -> Result<String> {
        timeout(LIMIT, self.lines.next_line())
            .await
            .context("kubectl says nothing")??
            .context("kubectl ended")
    }

    /// Types a line.
    pub async fn type_line(&mut self, line: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().context("kubectl has no terminal")?;
        keyboard.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(keyboard.flush().await?)
    }
}
