//! The machine-wide record: whose cluster this is, since which boot, and what the machine was like before.
//!
//! It is written before anything is changed, so a run that is killed at any point leaves enough for `down`.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{ip_family::IpFamily, layout, network, progress};

const LOCK: &str = "/var/lib/curfew-cluster.lock";

/// What `down` has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The checkout that brought the cluster up.
    pub owner: PathBuf,
    /// The kernel's name for this boot: after the next one no recorded process is ours.
    pub boot: String,
    /// The Kubernetes binary that runs (see [`crate::kube_binary`]).
    pub kubernetes: String,
    /// The family of its addresses. The records of older checkouts have none.
    #[serde(default)]
    pub ip_family: IpFamily,
    /// How many mounts stood on `/run/netns` before `ip netns` added its own.
    pub netns_mounts: usize,
    /// Controllers that were switched on for the children of the cgroup v2 root.
    pub root_controllers: Vec<String>,
}

impl State {
    /// The record of this machine, if there is a cluster or what is left of one.
    pub fn load() -> Result<Option<Self>> {
        Self::load_from(&layout::machine("state.json"))
    }

    fn load_from(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let state = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not readable by this version; run `make down`",
                path.display()
            )
        })?;
        Ok(Some(state))
    }

    /// A record for `owner` of the machine as it is now.
    pub fn new(owner: &Path) -> Result<Self> {
        Ok(Self {
            owner: owner.to_owned(),
            boot: boot()?,
            netns_mounts: network::netns_mounts()?,
            ..Self::default()
        })
    }

    /// Writes it.
    pub fn save(&self) -> Result<()> {
        self.save_to(&layout::machine("state.json"))
    }

    fn save_to(&self, path: &Path) -> Result<()> {
        replace(path, serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Whether the machine was started again since.
    pub fn outlived(&self) -> Result<bool> {
        Ok(boot()? != self.boot)
    }
}

fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("the boot id cannot be read")?;
    Ok(id.trim().to_owned())
}

/// Replaces a file as a whole or not at all; what it holds may be secret.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let written = (|| {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let new = path.with_added_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        fs::rename(&new, path)
    })();
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// Holds everybody else off for as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other run is at work on this machine.
    ///
    /// The file goes with the cluster, so after waiting it may be another than the one that has the name.
    pub fn take() -> Result<Self> {
        let why = || format!("{LOCK} cannot be locked");
        loop {
            let file = File::options()
                .create(true)
                .append(true)
                .open(LOCK)
                .with_context(why)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    progress::note(&format!("waiting for another curfew-cluster{}", holder()));
                    file.lock().with_context(why)?;
                }
                Err(TryLockError::Error(error)) => return Err(error).with_context(why),
            }
            let same = fs::metadata(LOCK).and_then(|named| {
                Ok((named.dev(), named.ino())
                    == file.metadata().map(|own| (own.dev(), own.ino()))?)
            });
            if same.unwrap_or(false) {
                return Ok(Self { _file: file });
            }
        }
    }
}

impl Drop for Lock {
    /// Where there is no cluster, nothing of it stays: neither does this.
    fn drop(&mut self) {
        if !Path::new(layout::MACHINE_DIR).exists() {
            drop(fs::remove_file(LOCK));
        }
    }
}

/// Which processes have the lock file open, for the one line that explains the wait.
fn holder() -> String {
    let mine = std::process::id().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = process.file_name().into_string() else {
            continue;
        };
        if pid == mine || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let open = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        if open
            .into_iter()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == Path::new(LOCK)))
        {
            found.push(pid);
        }
    }
    if found.is_empty() {
        String::new()
    } else {
        format!(" (process {})", found.join(", "))
    }
}

/// Whether `path` is where something is mounted, and how often.
pub fn mounts_at(mountinfo: &str, path: &str) -> usize {
    mount_points(mountinfo)
        .filter(|point| point == path)
        .count()
}

/// Every mount point in a `mountinfo`.
pub fn mount_points(mountinfo: &str) -> impl Iterator<Item = String> {
    // The kernel writes a space as \040; no path of ours has one, so others' need no decoding.
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(str::to_owned)
}

/// Unmounts what is mounted at or below `dir` in our own mount namespace, the deepest first.
pub fn unmount_below(dir: &str) -> Result<()> {
    let below = format!("{dir}/");
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("the mounts cannot be read")?;
    let mut points: Vec<_> = mount_points(&mountinfo)
        .filter(|point| point == dir || point.starts_with(&below))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        if !crate::run::succeeds(Command::new("umount").arg(&point)) {
            crate::run::check(Command::new("umount").arg("--lazy").arg(&point))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_survives_a_round_trip() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/state.json");
        assert_eq!(State::load_from(&path)?, None);
        let state = State {
            owner: "/home/someone/curfew".into(),
            boot: "b".into(),
            kubernetes: "k".into(),
            ip_family: IpFamily::IPv6,
            netns_mounts: 2,
            root_controllers: vec!["cpuset".into()],
        };
        state.save_to(&path)?;
        assert_eq!(State::load_from(&path)?, Some(state));
        Ok(())
    }

    #[test]
    fn a_torn_record_is_one_sentence() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("state.json");
        fs::write(&path, "{\"owner\":")?;
        assert!(
            State::load_from(&path)
                .is_err_and(|error| error.to_string().ends_with("run `make down`"))
        );
        Ok(())
    }

    #[test]
    fn mounts_are_counted() {
        let mountinfo = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:23 / /run/netns rw shared:1 - tmpfs tmpfs rw
41 40 0:23 / /run/netns rw shared:1 - tmpfs tmpfs rw
42 40 0:4 net:[4026532] /run/netns/x rw shared:2 - nsfs nsfs rw
";
        assert_eq!(mounts_at(mountinfo, "/run/netns"), 2);
        assert_eq!(mount_points(mountinfo).count(), 4);
    }
}
