//! One cgroup holds all that the cluster starts, in every hierarchy of the machine.
//!
//! ```text
//! curfew-cluster/tools           `up` and what it runs on the way: a killed run leaves no compiler or client behind
//!                control         etcd, API server, controller manager, scheduler
//!                pods/node-N     the kubelet's own tree: its cgroupRoot
//!                system/node-N   containerd, its shims, the kubelet
//! ```
//!
//! The cluster goes before the clients and compilers of the machine, and in it the control plane and the pods before
//! kubelets and containerd. In other clusters these have machines of their own: there, nobody's API server is slow because
//! a kubelet is busy, and no agent waits for the garbage collector of an API server, which takes all processors for a tenth
//! of a second.
//!
//! Cgroups are how `down` finds processes: a container's processes are children of nobody we know, but none can leave
//! its cgroup.
//!
//! Version 1 (one hierarchy per controller, also beside an empty version 2 as systemd's hybrid mode mounts it) was seen
//! to work: creation, the copying of `cpuset.cpus` and `cpuset.mems` (which start empty there, and an empty cpuset admits
//! no process), kubelets and containers below it, removal. Version 2 alone is written after its documentation: processes
//! only in leaves, controllers switched on from the root down, `cgroup.kill` left unused so that both go one way. It was
//! not seen.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::layout;

/// The cluster's cgroup.
pub const ROOT: &str = "curfew-cluster";
/// Where `up` runs with its compilers and clients.
pub const TOOLS: &str = "tools";
/// Where the control plane runs.
pub const CONTROL: &str = "control";
/// Where the pods of all nodes run.
const PODS: &str = "pods";
/// Where the kubelets run, and what they need.
const SYSTEM: &str = "system";
/// How many times the processor time of its siblings a cgroup gets that goes before them.
const BEFORE_OTHERS: u64 = 8;
/// The time that a cgroup gets unless it is told otherwise: the file and the value, in version 1 and 2.
const SHARES: (&str, u64) = ("cpu.shares", 1024);
const WEIGHT: (&str, u64) = ("cpu.weight", 100);
/// What a kubelet needs of version 2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "hugetlb", "io"];

/// Where a node's own processes run.
pub fn system(node: layout::Node) -> String {
    of_node(SYSTEM, node)
}

/// What a node's kubelet gets, as a path from the root of each hierarchy.
pub fn pods(node: layout::Node) -> String {
    format!("/{ROOT}/{}", of_node(PODS, node))
}

fn of_node(branch: &str, node: layout::Node) -> String {
    format!("{branch}/{}", node.name())
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    version: u8,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").context("the mounts cannot be read")?;
    let found = parse(&mountinfo);
    if found.is_empty() {
        bail!("no cgroups are mounted on this machine, and containers need them");
    }
    Ok(found)
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let version = match kind.split(' ').next() {
            Some("cgroup") => 1,
            Some("cgroup2") => 2,
            _ => continue,
        };
        let mut fields = mount.split(' ').skip(3);
        // Anything but the root of a hierarchy is somebody's bind mount of a part of it.
        if fields.next() != Some("/") {
            continue;
        }
        if let Some(root) = fields.next().map(PathBuf::from)
            && !found.iter().any(|hierarchy| hierarchy.root == root)
        {
            found.push(Hierarchy { root, version });
        }
    }
    found
}

/// The hierarchies that hold processes: all of version 1, or version 2 when there is nothing else.
fn used() -> Result<Vec<Hierarchy>> {
    let mut all = hierarchies()?;
    if all.iter().any(|hierarchy| hierarchy.version == 1) {
        all.retain(|hierarchy| hierarchy.version == 1);
    }
    Ok(all)
}

/// The directories of one of the cluster's cgroups, for a process to join.
pub fn join_paths(name: &str) -> Result<Vec<String>> {
    let dirs = used()?
        .into_iter()
        .map(|hierarchy| hierarchy.root.join(ROOT).join(name));
    Ok(dirs
        .filter(|dir| dir.is_dir())
        .map(|dir| dir.to_string_lossy().into_owned())
        .collect())
}

/// Moves this process, and so whatever it starts from now on, into one of the cluster's cgroups.
pub fn enter(name: &str) -> Result<()> {
    for dir in join_paths(name)? {
        let procs = Path::new(&dir).join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string())
            .with_context(|| format!("{} cannot be written", procs.display()))?;
    }
    Ok(())
}

/// Which controllers of a version 2 root have to be switched on for its children.
pub fn missing_root_controllers() -> Result<Vec<String>> {
    let used = used()?;
    let Some(v2) = used.iter().find(|hierarchy| hierarchy.version == 2) else {
        return Ok(Vec::new());
    };
    let read = |file: &str| fs::read_to_string(v2.root.join(file)).unwrap_or_default();
    let (available, on) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    let missing = CONTROLLERS
        .iter()
        .filter(|name| has(&available, name) && !has(&on, name));
    Ok(missing.map(|name| (*name).to_owned()).collect())
}

/// Makes the tree; what is there stays.
pub fn ensure() -> Result<()> {
    for hierarchy in used()? {
        let tree = hierarchy.root.join(ROOT);
        let mut all = vec![tree.clone()];
        all.extend([TOOLS, CONTROL, PODS, SYSTEM].map(|branch| tree.join(branch)));
        for node in layout::NODES {
            all.extend([PODS, SYSTEM].map(|branch| tree.join(of_node(branch, node))));
        }
        for dir in &all {
            make(&hierarchy, dir)
                .with_context(|| format!("the cgroup {} cannot be made", dir.display()))?;
        }
        for dir in [tree.clone(), tree.join(CONTROL), tree.join(PODS)] {
            put_before_others(&hierarchy, &dir)
                .with_context(|| format!("{} cannot be put before others", dir.display()))?;
        }
    }
    Ok(())
}

/// Only in the hierarchy that has the processors.
fn put_before_others(hierarchy: &Hierarchy, dir: &Path) -> io::Result<()> {
    let (file, ordinary) = match hierarchy.version {
        1 => SHARES,
        _ => WEIGHT,
    };
    let path = dir.join(file);
    match path.exists() {
        true => fs::write(path, (ordinary * BEFORE_OTHERS).to_string()),
        false => Ok(()),
    }
}

fn make(hierarchy: &Hierarchy, dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else {
        return Ok(());
    };
    if hierarchy.version == 2 {
        for name in CONTROLLERS {
            // Those that this kernel lacks refuse, and the kubelet says so if it minds.
            drop(fs::write(
                parent.join("cgroup.subtree_control"),
                format!("+{name}"),
            ));
        }
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), dir.join(file));
        if hierarchy.version == 1 && from.exists() && fs::read_to_string(&to)?.trim().is_empty() {
            fs::write(to, fs::read_to_string(from)?)?;
        }
    }
    Ok(())
}

/// Every process in the cluster's cgroups, but for the one that asks.
fn processes() -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        for dir in tree(&hierarchy.root.join(ROOT)) {
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                procs
                    .lines()
                    .filter_map(|pid| pid.parse::<i32>().ok())
                    .filter(|pid| *pid > 1),
            );
        }
    }
    pids.retain(|pid| *pid != std::process::id().cast_signed());
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// The cgroup and all below it, children before parents.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    if dir.is_dir() {
        found.push(dir.to_owned());
    }
    found
}

/// Kills everything in the cluster's cgroups and waits until it is gone.
pub fn kill_all() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let pids = processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {pids:?} do not end");
        }
        for pid in pids {
            // One that ended in the meantime is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Removes the empty tree and switches off again what was switched on for it.
pub fn remove(root_controllers: &[String]) -> Result<()> {
    for hierarchy in hierarchies()? {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = tree(&hierarchy.root.join(ROOT));
            // All of them are tried: one that is busy must not keep the others.
            let failed: Vec<_> = left
                .iter()
                .filter_map(|dir| Some((dir, fs::remove_dir(dir).err()?)))
                .collect();
            match failed.first() {
                None => break,
                // A cgroup stays busy for a moment after its last process.
                Some(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                Some((dir, error)) => {
                    bail!("the cgroup {} cannot be removed: {error}", dir.display())
                }
            }
        }
        if hierarchy.version == 2 {
            for name in root_controllers {
                drop(fs::write(
                    hierarchy.root.join("cgroup.subtree_control"),
                    format!("-{name}"),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_from_bind_mounts() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 /docker/x /elsewhere rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", 1),
            ("/sys/fs/cgroup/unified", 2),
        ]
        .map(|(root, version)| Hierarchy {
            root: root.into(),
            version,
        });
        assert_eq!(parse(mountinfo), expected);
    }
}
