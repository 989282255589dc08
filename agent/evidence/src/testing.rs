//! A `/proc` made of files, for tests.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tempfile::TempDir;

use crate::process::{Pid, Proc};

/// The ID of a container, made of one digit.
pub(crate) fn container_id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// The folder, and what stands for the node's root.
#[derive(Debug)]
pub(crate) struct FakeProc {
    folder: TempDir,
    proc: Proc,
}

/// A process to be written.
#[derive(Debug)]
pub(crate) struct FakeProcess<'a> {
    fake: &'a FakeProc,
    pid: Pid,
    parent: Pid,
    name: &'a str,
    state: char,
    session: Pid,
    start: u64,
    mounts: u64,
    cgroup: String,
    command: Vec<&'a str>,
    pids: Vec<Pid>,
}

impl FakeProc {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().join("proc");
        fs::create_dir(&proc).unwrap();
        let fake = Self {
            proc: Proc::new(&proc),
            folder,
        };
        fake.uptime(1000.0);
        fake.own(7, "ffffffffffffffff");
        fake
    }

    pub(crate) fn proc(&self) -> &Proc {
        &self.proc
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("proc")
    }

    /// A folder beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn uptime(&self, seconds: f64) {
        self.write("uptime", format!("{seconds:.2} 0.00\n"));
    }

    /// The process that reads.
    pub(crate) fn own(&self, parent: Pid, capabilities: &str) {
        self.write("self/stat", stat_line(99, "agent", 'S', parent, 99, 1));
        self.write(
            "self/status",
            format!("Name:\tagent\nCapEff:\t{capabilities}\n"),
        );
    }

    pub(crate) fn process<'a>(&'a self, pid: Pid, parent: Pid) -> FakeProcess<'a> {
        FakeProcess {
            fake: self,
            pid,
            parent,
            name: "x",
            state: 'S',
            session: pid,
            start: 1000,
            mounts: 1,
            cgroup: "0::/\n".to_owned(),
            command: vec!["x"],
            pids: vec![pid],
        }
    }

    pub(crate) fn remove(&self, pid: Pid) {
        fs::remove_dir_all(self.path().join(pid.to_string())).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }
}

impl<'a> FakeProcess<'a> {
    pub(crate) fn name(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn zombie(mut self) -> Self {
        self.state = 'Z';
        self
    }

    pub(crate) fn session(mut self, session: Pid) -> Self {
        self.session = session;
        self
    }

    pub(crate) fn start(mut self, ticks: u64) -> Self {
        self.start = ticks;
        self
    }

    pub(crate) fn mounts(mut self, namespace: u64) -> Self {
        self.mounts = namespace;
        self
    }

    pub(crate) fn command(mut self, command: &[&'a str]) -> Self {
        self.command = command.to_vec();
        self
    }

    pub(crate) fn pids(mut self, pids: &[Pid]) -> Self {
        self.pids = pids.to_vec();
        self
    }

    pub(crate) fn cgroup(mut self, text: String) -> Self {
        self.cgroup = text;
        self
    }

    /// In the container of a pod whose UID is made of one digit, too. The namespaces are its own.
    pub(crate) fn inside(mut self, pod: char, container: char) -> Self {
        let uid = pod.to_string().repeat(32);
        self.cgroup = format!("0::/kubepods/pod{uid}/{}\n", container_id(container));
        self.mounts = 100 + u64::from(u32::from(container));
        self.pids = vec![self.pid, 1];
        self
    }

    pub(crate) fn write(self) {
        let (fake, pid) = (self.fake, self.pid);
        let file = |name: &str| format!("{pid}/{name}");
        let stat = stat_line(
            pid,
            self.name,
            self.state,
            self.parent,
            self.session,
            self.start,
        );
        fake.write(&file("stat"), stat);
        fake.write(&file("cgroup"), self.cgroup);
        fake.write(&file("cmdline"), self.command.join("\0") + "\0");
        let pids: Vec<_> = self.pids.iter().map(Pid::to_string).collect();
        fake.write(
            &file("status"),
            format!("Name:\tx\nNSpid:\t{}\n", pids.join("\t")),
        );
        fake.link(&file("ns/mnt"), format!("mnt:[{}]", self.mounts));
    }
}

fn stat_line(pid: Pid, name: &str, state: char, parent: Pid, session: Pid, start: u64) -> String {
    format!(
        "{pid} ({name}) {state} {parent} {pid} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0\n"
    )
}

/// A time so many seconds after the machine was booted.
pub(crate) fn at(seconds: f64) -> Timestamp {
    let boot = Timestamp::from_second(1_800_000_000).unwrap();
    boot.checked_add(jiff::SignedDuration::from_secs_f64(seconds))
        .unwrap()
}
