//! Long-running processes: started detached, recorded before they run, told apart from whoever has their pid later.
//!
//! Each has two files in `processes/`: `NAME.json`, how to start it (again), and `NAME.pid`, its pid and start time. The
//! shell that becomes the process writes the second itself, so there is no moment in which a process runs unrecorded.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{cgroup, layout, run, state};

/// Joins the cgroups, writes who it is, and becomes the program. `setsid --fork` has it adopted by init, which reaps it
/// even while the run (or the test) that started it goes on.
const BECOME: &str = r#"
set -eu
record=$1 cgroups=$2
shift 2
for cgroup in $cgroups; do echo $$ >"$cgroup/cgroup.procs"; done
read -r stat </proc/$$/stat
begin() { shift 19; echo "$1"; }
echo "$$ $(begin ${stat##*) })" >"$record.new"
mv "$record.new" "$record"
ulimit -n 65536 2>/dev/null || true
exec "$@"
"#;

/// How long a process may take to become the program.
const BECOME_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// How much of a log explains a death.
const TAIL_LINES: usize = 12;

/// How to start a process, now or again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name in records, logs and messages.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its cgroup, below the cluster's.
    pub cgroup: String,
    /// The process whose network and mount namespaces it shares.
    pub namespaces_of: Option<String>,
}

/// A pid and when it began: together they name a process until the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pid: i32,
    /// In clock ticks since the boot.
    began: u64,
}

impl Identity {
    fn parse(record: &str) -> Option<Self> {
        let (pid, began) = record.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok().filter(|pid| *pid > 1)?,
            began: began.parse().ok()?,
        })
    }

    /// The pid.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs. A zombie does not, and neither does another process with its pid.
    pub fn is_alive(self) -> bool {
        began(self.pid) == Some(self.began)
    }

    /// Sends a signal to it and to nobody else.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            // One that ended in the meantime is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// When the process with this pid began, if one runs.
fn began(pid: i32) -> Option<u64> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Takes the start time out of a `/proc/PID/stat`; `None` for what has ended. The name in it may hold anything, so
/// fields count from the last parenthesis.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let running = !matches!(fields.next()?, "Z" | "X");
    running.then(|| fields.nth(18)?.parse().ok())?
}

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was never started.
    Absent,
    /// It runs.
    Alive,
    /// It ended.
    Dead,
}

impl Process {
    fn record(name: &str, extension: &str) -> PathBuf {
        layout::machine("processes").join(format!("{name}.{extension}"))
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        log(&self.name)
    }

    /// The recorded process of this name.
    pub fn load(name: &str) -> Result<Self> {
        let path = Self::record(name, "json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the cluster has no process {name}"))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not readable", path.display()))
    }

    /// The names of all that were ever started in this cluster.
    pub fn all() -> Vec<String> {
        let records = fs::read_dir(layout::machine("processes"))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<_> = records
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".pid")
                    .map(str::to_owned)
            })
            .collect();
        names.sort();
        names
    }

    /// Who it is, if it was started.
    pub fn identity(name: &str) -> Option<Identity> {
        Identity::parse(&fs::read_to_string(Self::record(name, "pid")).ok()?)
    }

    /// What became of it.
    pub fn fate(name: &str) -> Fate {
        match Self::identity(name) {
            None => Fate::Absent,
            Some(identity) if identity.is_alive() => Fate::Alive,
            Some(_) => Fate::Dead,
        }
    }

    /// Starts it, unless it runs. One that has died is not started again here: whoever asks should hear of it.
    pub fn ensure(&self) -> Result<()> {
        match Self::fate(&self.name) {
            Fate::Alive => Ok(()),
            Fate::Dead => bail!(obituary(&self.name)),
            Fate::Absent => self.start(),
        }
    }

    /// Starts it, whatever became of the last one.
    pub fn start(&self) -> Result<()> {
        let pid = Self::record(&self.name, "pid");
        state::replace(
            &Self::record(&self.name, "json"),
            serde_json::to_string_pretty(self)?.as_bytes(),
        )?;
        drop(fs::remove_file(&pid));
        let log = self.log();
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir)?;
        }
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = Command::new("setsid");
        command
            .args(["--fork", "sh", "-c", BECOME, "sh"])
            .arg(&pid)
            .arg(cgroup::join_paths(&self.cgroup)?.join(" "));
        if let Some(other) = &self.namespaces_of {
            let other = Self::identity(other)
                .filter(|identity| identity.is_alive())
                .with_context(|| format!("{} needs {other}, which does not run", self.name))?;
            command.args([
                "nsenter",
                "--net",
                "--mount",
                "--target",
                &other.pid.to_string(),
                "--",
            ]);
        }
        // A proxy in our environment must not come between the parts, so they inherit nothing.
        command.args(&self.command).env_clear().current_dir("/");
        command
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root");
        command
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let status = command
            .status()
            .map_err(|error| run::not_started("setsid", &error))?;
        if !status.success() {
            bail!("{} could not be started ({status})", self.name);
        }
        let deadline = Instant::now() + BECOME_TIMEOUT;
        while !pid.exists() {
            if Instant::now() > deadline {
                bail!("{} did not start:{}", self.name, tail(&log));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(name: &str) -> Result<()> {
        let identity =
            Self::identity(name).with_context(|| format!("the cluster has no process {name}"))?;
        identity.signal(Signal::SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(20);
        while identity.is_alive() {
            if Instant::now() > deadline {
                bail!("{name} (process {}) does not end", identity.pid);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// The log of the process of this name.
pub fn log(name: &str) -> PathBuf {
    layout::machine("logs").join(format!("{name}.log"))
}

/// Waits until `ready`, and gives up as soon as one of `parts` dies.
pub fn wait<T>(
    what: &str,
    limit: Duration,
    parts: &[&str],
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        for part in parts {
            if Process::fate(part) == Fate::Dead {
                bail!(obituary(part));
            }
        }
        if Instant::now() > deadline {
            let logs = parts
                .iter()
                .map(|part| format!("\n{part}, last lines of its log:{}", tail(&log(part))));
            let logs: String = logs.collect();
            bail!("{what} did not happen within {} s{logs}", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// That it died, and its last words.
pub fn obituary(name: &str) -> String {
    let log = log(name);
    format!(
        "{name} died; the last lines of {}:{}",
        log.display(),
        tail(&log)
    )
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    tail.iter()
        .map(|line| format!("\n  {}", line.chars().take(400).collect::<String>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_name() {
        let stat = "77 (a) Z (b) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8899 1000 10";
        assert_eq!(parse_stat(stat), Some(8899));
        assert_eq!(parse_stat(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_recycled_pid_is_not_ours() {
        let pid = std::process::id().cast_signed();
        let began = began(pid);
        assert!(began.is_some_and(|began| Identity { pid, began }.is_alive()));
        assert!(began.is_some_and(|began| {
            !Identity {
                pid,
                began: began + 1,
            }
            .is_alive()
        }));
    }

    #[test]
    fn records_are_read_with_suspicion() {
        assert_eq!(
            Identity::parse("12 345\n"),
            Some(Identity {
                pid: 12,
                began: 345
            })
        );
        for nonsense in ["", "12", "-1 5", "0 5", "1 5", "x y", "12 "] {
            assert_eq!(Identity::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_process_survives_a_round_trip() -> Result<()> {
        let process = Process {
            name: "etcd".into(),
            command: vec!["etcd".into(), "--flag=a b".into()],
            cgroup: "control".into(),
            namespaces_of: Some("node-1".into()),
        };
        assert_eq!(
            serde_json::from_str::<Process>(&serde_json::to_string(&process)?)?,
            process
        );
        Ok(())
    }
}
