//! On which machine it was measured, and with what: the same figures mean other things on another one.

use std::{env, fs, process::Command};

use anyhow::{Context, Result};
use curfew_cluster::run;
use curfew_e2e::TestCluster;

/// The machine and the versions, in one sentence.
pub(crate) async fn describe(cluster: &TestCluster) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kubernetes = cluster.client.apiserver_version().await?.git_version;
    Ok(format!(
        "{} × {}, {:.0} GiB of memory, Linux {}, Kubernetes {kubernetes}, Curfew at {}.",
        std::thread::available_parallelism().context("no processors")?,
        value(&processors, "model name").unwrap_or(env::consts::ARCH),
        gib(&memory).context("the kernel does not tell MemTotal")?,
        kernel.trim(),
        commit(cluster),
    ))
}

/// What is checked out.
fn commit(cluster: &TestCluster) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(cluster.machine.checkout()).args([
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
    ]);
    match run::output(&mut git) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => "an unknown commit".to_owned(),
    }
}

fn gib(memory: &str) -> Option<f64> {
    let kib = value(memory, "MemTotal")?.strip_suffix(" kB")?;
    Some(kib.parse::<f64>().ok()? / 1024.0 / 1024.0)
}

/// The first value of this field, in a text with a field a line.
fn value<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:       8388608 kB\n";
        assert_eq!(value(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(value(text, "cpu MHz"), None);
        assert_eq!(gib(text), Some(8.0));
    }
}
