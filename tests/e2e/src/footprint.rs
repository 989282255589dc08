//! What a process costs, from `/proc`: the nodes' processes are processes of this machine.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The kernel counts a process's time in these.
const TICKS_PER_SECOND: u64 = 100;

/// A running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pid: u32,
}

/// The running processes of this name, which the kernel cuts to 15 bytes.
pub fn processes(name: &str) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may have ended since.
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim_end() == name {
            found.push(Process { pid });
        }
    }
    Ok(found)
}

impl Process {
    /// The process with this id.
    pub fn with_id(pid: u32) -> Self {
        Self { pid }
    }

    /// Its anonymous memory that is resident, in KiB.
    pub fn anonymous_kib(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        kib(&status, "RssAnon:").context("the kernel does not tell RssAnon")
    }

    /// The most memory of any kind that it had resident so far, in KiB.
    pub fn peak_kib(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        kib(&status, "VmHWM:").context("the kernel does not tell VmHWM")
    }

    /// All its memory that is resident, in KiB.
    pub fn resident_kib(self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        kib(&status, "VmRSS:").context("the kernel does not tell VmRSS")
    }

    /// How many threads it has.
    pub fn threads(self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.pid))?.count())
    }

    /// How many descriptors it has open.
    pub fn descriptors(self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// How long it has been running; the kernel counts that in hundredths of a second.
    pub fn age(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let started = field(&stat, 19).context("the kernel does not tell the process's start")?;
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
        let age = uptime - started as f64 / TICKS_PER_SECOND as f64;
        Ok(Duration::from_secs_f64(age.max(0.0)))
    }

    /// How long it has kept a processor busy, in milliseconds.
    pub fn busy_ms(self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let ticks = ticks(&stat).context("the kernel does not tell the process's time")?;
        Ok(ticks * 1000 / TICKS_PER_SECOND)
    }
}

fn kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time together.
fn ticks(stat: &str) -> Option<u64> {
    Some(field(stat, 11)? + field(stat, 12)?)
}

/// The name in the second field may hold anything, so that fields count from behind its last parenthesis.
fn field(stat: &str, at: usize) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.trim_end().split(' ');
    fields.nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let status = "Name:\tx\nVmRSS:\t   900 kB\nRssAnon:\t     264 kB\nRssFile:\t 1 kB\n";
        assert_eq!(kib(status, "RssAnon:"), Some(264));
        assert_eq!(kib(status, "VmRSS:"), Some(900));
        assert_eq!(kib(status, "VmHWM:"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 99 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(field(stat, 19), Some(99));
        assert_eq!(field(stat, 99), None);
    }

    #[test]
    fn finds_itself() {
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let pid = std::process::id();
        assert!(
            processes(name.trim_end())
                .unwrap()
                .contains(&Process { pid })
        );
        let own = Process::with_id(pid);
        assert!(own.resident_kib().unwrap() >= own.anonymous_kib().unwrap());
        assert!(own.age().unwrap() < Duration::from_secs(3600));
        assert!(own.threads().unwrap() > 0);
        assert!(own.descriptors().unwrap() > 2);
    }
}
